"""Who was seen in which cgroup, for when the kernel's log does not say where a victim was.

The log says it ten times in five seconds at most, and on v1 a process that is dead is in no cgroup any more.
What was seen while it lived is as good, for a while: an id is given to another process one day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from cgwatch.oom.observation import spelled

KEPT_SECONDS = 60.0
"""A cgroup that lives longer than that is known to the sampler, and its own counter tells of its kills."""
_MOST = 20_000
"""Processes."""


class Joins(Protocol):
    """Tells who joins a cgroup."""

    def fileno(self) -> int:
        """Return what becomes readable when there is something to ``take``."""

    def follow(self, paths: Iterable[str], /) -> None:
        """Be told of these cgroups and of what is made in them."""

    def take(self, paths: Iterable[str], /) -> list[tuple[str, list[int]]]:
        """Return the processes of the cgroups that somebody has joined and of ``paths``, without waiting."""


class Witness:
    """Remembers for each process the last cgroup that it was seen in. Not thread-safe."""

    def __init__(self, joins: Joins, monotonic: Callable[[], float]) -> None:
        self._joins = joins
        self._monotonic = monotonic
        self._seen: dict[int, tuple[float, str]] = {}

    def fileno(self) -> int:
        """Return what becomes readable when it is time to ``look``."""
        return self._joins.fileno()

    def follow(self, paths: Iterable[str]) -> None:
        """Say which cgroups there are; those that are made in them need not be named."""
        self._joins.follow(paths)

    def look(self, told: Iterable[str] = ()) -> None:
        """Take note of who has joined what since the last time, without waiting.

        ``told``: cgroups that something happens to, whose processes may have been born there.
        """
        joined = self._joins.take(told)
        if not joined:
            return
        now = self._monotonic()
        for path, pids in joined:
            for pid in pids:
                self._seen.pop(pid, None)  # so that the order is that of the times
                self._seen[pid] = (now, spelled(path))
        while len(self._seen) > _MOST or next(iter(self._seen.values()))[0] < now - KEPT_SECONDS:
            del self._seen[next(iter(self._seen))]

    def path_of(self, pid: int) -> str | None:
        """Return where a process was lately, as the kernel's log spells it; ``None``: nobody has seen it."""
        seconds, path = self._seen.get(pid, (0.0, None))
        return path if path is not None and self._monotonic() - seconds <= KEPT_SECONDS else None
