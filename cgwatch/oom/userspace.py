"""Kills by daemons that watch memory: no OOM kills of the kernel, which counts none of them.

systemd-oomd and oomd end a cgroup with SIGKILL before the kernel runs out of memory, and note on it how
often they began to, in extended attributes (systemd: src/oom/oomd-util.c; oomd: src/oomd/plugins,
BaseKillPlugin.cpp). A cgroup that is gone has none any more, so a runtime's word that a container died is a
reason to look at once. Whoever owns a cgroup can forge what begins with ``user.``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec import Struct

from cgwatch.oom.kill import Cause, Holder, OomKill, Scope
from cgwatch.oom.tally import Series, series_of

_MARKS = (("oomd", "trusted.oomd_ooms"), ("systemd-oomd", "user.oomd_ooms"))
"""A decimal number. oomd writes both of them, systemd-oomd the latter alone."""
_MOST_DIGITS = 18


class Killed(Struct, frozen=True):
    """Whom a daemon has killed."""

    killer: str
    series: Series


class Marked(Struct, frozen=True):
    """A cgroup that may have a mark."""

    holder: Holder
    """Whom it counts for."""
    directory: str
    """In the unified hierarchy."""


class UserspaceKills:
    """Counts marks. What a cgroup has when it is first seen was before us. Not thread-safe."""

    def __init__(self) -> None:
        self.totals: dict[Killed, int] = {}
        """Replaced, never changed."""
        self._known: dict[tuple[str, int | None], dict[str, int]] = {}

    def look(self, cgroups: Iterable[Marked], *, complete: bool = False) -> None:
        """Read the marks of these cgroups; ``complete``: there are no others."""
        known = self._known
        if complete:
            self._known = {}
        for cgroup in cgroups:
            holder = cgroup.holder
            identity = (holder.path or "/", holder.inode)
            found = marks_of(cgroup.directory)
            before = known.get(identity)
            if before is not None:
                self._count(holder, before, found)
            self._known[identity] = found or before or {}

    def _count(self, holder: Holder, before: dict[str, int], found: dict[str, int]) -> None:
        for killer, count in found.items():
            more = count - before.get(killer, 0)
            if more > 0:
                killed = Killed(killer, _series_of(holder))
                self.totals = {**self.totals, killed: self.totals.get(killed, 0) + more}


def marks_of(directory: str) -> dict[str, int]:
    """Return how often each daemon has killed a cgroup; without what is not there or no number."""
    for killer, name in _MARKS:
        try:
            text = os.getxattr(directory, name)
        except OSError:
            continue  # not marked, gone, or not for us to see
        if text.isdigit() and len(text) <= _MOST_DIGITS:
            return {killer: int(text)}
    return {}


def _series_of(holder: Holder) -> Series:
    kill = OomKill(0, "", 0, 0, holder=holder, cause=Cause.UNKNOWN, scope=Scope.UNKNOWN)
    return series_of(kill)
