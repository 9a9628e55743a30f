"""How often one container may be spoken of. Pure: it is told the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class RateLimit(Generic[T]):
    """At most ``most`` in any ``interval_seconds`` for each key; what is more is held until there is room.

    Of what is held under one key, the last thing is given out with all that came before it, so nothing is
    lost and a key costs one message for each interval at the most.
    """

    def __init__(self, most: int, interval_seconds: float) -> None:
        self._most = most
        self._interval_seconds = interval_seconds
        self._given: dict[str, deque[float]] = {}
        self._held: dict[str, list[T]] = {}

    @property
    def held(self) -> int:
        """How many things are held."""
        return sum(map(len, self._held.values()))

    def take(self, key: str, thing: T, seconds: float) -> bool:
        """Take one thing; tell whether it has to wait."""
        waits = key in self._held or not self._has_room(key, seconds)
        self._held.setdefault(key, []).append(thing)
        return waits

    def give(self, seconds: float) -> Iterator[list[T]]:
        """Give what there is room for: for each key all that was held, the oldest first."""
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
