"""What to ask a runtime's API next, and what not to ask it again so soon. Pure: the time comes in.

A key is an id, or any other word that stands for one request. However often it is wanted, it is taken once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from msgspec import Struct

_REMEMBERED: Final = 4096


class _Rest(Struct, frozen=True):
    """Until when nobody's curiosity makes us ask for a key again."""

    until_monotonic: float
    pause_seconds: float


class Agenda:
    """The requests to make: those that are due, in order, and those for later. Not thread-safe.

    The pauses between two requests for a key that fails, or that the runtime does not know, grow from
    ``first_pause_seconds``, doubling, to ``longest_pause_seconds``. No more than ``remembered`` answers are
    kept in mind.
    """

    def __init__(
        self,
        first_pause_seconds: float = 1.0,
        longest_pause_seconds: float = 60.0,
        remembered: int = _REMEMBERED,
    ) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._remembered = remembered
        self._due: OrderedDict[str, None] = OrderedDict()
        self._later: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._resting: OrderedDict[str, _Rest] = OrderedDict()

    def want(self, key: str, *, first: bool = False) -> None:
        """Ask as soon as possible: there is news of this key. ``first``: before everything else."""
        self._later.pop(key, None)
        self._due[key] = None
        if first:
            self._due.move_to_end(key, last=False)

    def wonder(self, key: str, now: float) -> bool:
        """Ask unless that is planned, or was done a short while ago; say whether it adds a request."""
        rest = self._resting.get(key)
        if key in self._due or key in self._later or (rest and now < rest.until_monotonic):
            return False
        self.want(key)
        return True

    def postpone(self, key: str, until_monotonic: float) -> None:
        """Ask at a later time, unless it is wanted before."""
        self._later[key] = until_monotonic

    def take(self, now: float) -> str | None:
        """Take the next key that is due, if there is one."""
        for key in [key for key, due in self._later.items() if due <= now]:
            self.want(key)
        return self._due.popitem(last=False)[0] if self._due else None

    def wait_seconds(self, now: float) -> float | None:
        """How long until a key is due; ``None`` if nothing is planned."""
        if self._due:
            return 0.0
        return max(0.0, min(self._later.values()) - now) if self._later else None

    def answered(self, key: str, now: float) -> None:
        """Let the key rest for a first pause; its failures are forgiven."""
        self._pauses.pop(key, None)
        self._rest(key, now, self._first_pause_seconds)

    def failed(self, key: str, now: float) -> None:
        """Ask for the key again by itself, after a pause that grows."""
        pause = self._grown(self._pauses.get(key))
        self._pauses[key] = pause
        if key not in self._due:
            self.postpone(key, now + pause)

    def unknown(self, key: str, now: float) -> None:
        """Let the key rest after the runtime said that it does not know it; the rest grows each time."""
        self._pauses.pop(key, None)
        rest = self._resting.get(key)
        self._rest(key, now, self._grown(rest.pause_seconds if rest else None))

    def drop(self, key: str) -> None:
        """Forget all about a key: what it stands for is gone."""
        self._due.pop(key, None)
        for planned in (self._later, self._pauses, self._resting):
            planned.pop(key, None)

    def clear(self) -> None:
        """Forget every request; keep in mind what was answered."""
        self._due.clear()
        self._later.clear()
        self._pauses.clear()

    def _grown(self, pause: float | None) -> float:
        return min(2 * pause, self._longest_pause_seconds) if pause else self._first_pause_seconds

    def _rest(self, key: str, now: float, pause: float) -> None:
        self._resting[key] = _Rest(now + pause, pause)
        self._resting.move_to_end(key)
        if len(self._resting) > self._remembered:
            self._resting.popitem(last=False)
