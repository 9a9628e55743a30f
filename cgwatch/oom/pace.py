"""How often to look at a cgroup that tells of something all the time, as one at its limit does. Pure."""

from __future__ import annotations

import heapq

from msgspec import Struct

FIRST_PAUSE_SECONDS = 0.02
"""Twice as long as the kernel waits between two notifications of one file."""
LONGEST_PAUSE_SECONDS = 1.0


class _Pause(Struct):
    until_seconds: float
    seconds: float
    is_muted: bool = False


class Pace:
    """The first notification counts at once; those that follow soon count as one, at the end of a pause.

    The pause doubles each time. After one in which nothing was told, all is as it was before.
    """

    def __init__(self) -> None:
        self._pauses: dict[str, _Pause] = {}
        self._ends: list[tuple[float, str]] = []

    def told(self, path: str, now: float) -> bool:
        """Take a notification; True: look now. False: mute it, ``due`` is going to return it."""
        pause = self._pauses.get(path)
        if pause is None:
            self._begin(path, now, FIRST_PAUSE_SECONDS)
            return True
        pause.is_muted = True
        return False

    def due(self, now: float) -> list[str]:
        """Return what was muted and is to be looked at now, and told of again."""
        found = []
        while self._ends and self._ends[0][0] <= now:
            until_seconds, path = heapq.heappop(self._ends)
            pause = self._pauses.get(path)
            if pause is None or pause.until_seconds != until_seconds:
                continue  # of one that was forgotten
            del self._pauses[path]
            if pause.is_muted:
                self._begin(path, now, min(2 * pause.seconds, LONGEST_PAUSE_SECONDS))
                found.append(path)
        return found

    def wait_seconds(self, now: float) -> float | None:
        """Return how long there is nothing ``due``; ``None``: until something is told."""
        return max(self._ends[0][0] - now, 0.0) if self._ends else None

    def forget(self, path: str) -> None:
        """Drop what is known of a cgroup that is gone."""
        self._pauses.pop(path, None)

    def _begin(self, path: str, now: float, seconds: float) -> None:
        self._pauses[path] = _Pause(now + seconds, seconds)
        heapq.heappush(self._ends, (now + seconds, path))
