"""How often one container may be spoken of. Pure: it is told the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class RateLimit(Generic[T]):
    """At most ``most`` in any ``interval_seconds`` for each key; what is more is held until there is room.

    What is held under one key is one thing, which ``join`` makes of the one before and the next: so nothing
    is lost, and little is kept.
    """

    def __init__(self, most: int, interval_seconds: float, join: Callable[[T, T], T]) -> None:
        self._most = most
        self._interval_seconds = interval_seconds
        self._join = join
        self._given: dict[str, deque[float]] = {}
        self._held: dict[str, T] = {}

    def take(self, key: str, thing: T, seconds: float) -> bool:
        """Take one thing; tell whether it has to wait, or goes with one that does."""
        if key in self._held:
            self._held[key] = self._join(self._held[key], thing)
            return True
        self._held[key] = thing
        return not self._has_room(key, seconds)

    def give(self, seconds: float) -> Iterator[T]:
        """Give what there is room for: for each key what was held."""
        for key in [key for key in self._held if self._has_room(key, seconds)]:
            self._given.setdefault(key, deque()).append(seconds)
            yield self._held.pop(key)

    def due_seconds(self) -> float | None:
        """Return when there is room for something that is held; ``None`` if nothing is."""
        return min((self._room_seconds(key) for key in self._held), default=None)

    def _has_room(self, key: str, seconds: float) -> bool:
        given = self._given.get(key)
        while given and given[0] + self._interval_seconds <= seconds:
            given.popleft()
        if given is not None and not given:
            del self._given[key]
        return not given or len(given) < self._most

    def _room_seconds(self, key: str) -> float:
        given = self._given.get(key, ())
        return given[-self._most] + self._interval_seconds if len(given) >= self._most else 0.0

    def forget(self, seconds: float) -> None:
        """Let go of keys that nothing has been given of for an interval: there are ever new containers."""
        for key in list(self._given):
            self._has_room(key, seconds)
