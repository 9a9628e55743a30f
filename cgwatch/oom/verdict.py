"""Why a kill happened and what it took, from the evidence there is. Pure; ``UNKNOWN`` rather than a guess."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from cgwatch.oom.kill import Cause, OomKill, Scope
from cgwatch.oom.observation import KernelKill, LimitWrite
from cgwatch.oom.state import Death, Tracked, is_within, lineage

Known: TypeAlias = Callable[[str], Tracked | None]
"""Gives a cgroup that is there, or was a moment ago."""

_WRITE_GRACE_SECONDS = 1.0
_KILLED = 137
"""128 + SIGKILL."""


def limit_of(
    kill: OomKill, line: KernelKill | None, known: Known, reading: int
) -> tuple[str | None, bool | None]:
    """Return the cgroup whose limit was hit, and whether there was none; ``None`` is unknown.

    ``reading``: the one in which the kill was found. ``oom`` is counted at the limit before the kill is at
    its victim, and a read may fall between: so it may have risen one reading earlier or later.
    """
    if line is not None and (line.limit_path is not None or line.is_global):
        return line.limit_path, bool(line.is_global)
    if kill.path is None:
        return None, None if line is None else line.is_global
    above = _above(kill, known)
    for tracked in above:
        if tracked.oom_reading >= reading - 1:
            return tracked.holder.path, False
    if line is not None and line.is_global is not None:
        return None, line.is_global
    every_limit_told = all(tracked.oom is not None for tracked in above if tracked.holder.path != "/")
    own = known(kill.path)
    is_told = kill.settled and kill.exact and own is not None and own.holder.inode == kill.inode
    return None, True if is_told and every_limit_told else None


def cause_of(
    kill: OomKill,
    limit_path: str | None,
    writes: Iterable[LimitWrite],
    *,
    is_global: bool | None,
) -> Cause:
    """Say whose limit it was, seen from the holder of the kill."""
    if is_global:
        return Cause.GLOBAL
    if any(_is_in_flight(write, kill, limit_path) for write in writes):
        return Cause.LIMIT_WRITE
    if limit_path is None or kill.holder is None or kill.holder.path is None:
        return Cause.UNKNOWN
    return Cause.OWN_LIMIT if is_within(limit_path, kill.holder.path) else Cause.ANCESTOR_LIMIT


def _is_in_flight(write: LimitWrite, kill: OomKill, limit_path: str | None) -> bool:
    if limit_path is not None:
        is_its_limit = write.path == limit_path
    else:
        is_its_limit = kill.path is not None and is_within(kill.path, write.path)
    first = kill.after_seconds if kill.killed_seconds is None else kill.killed_seconds
    last = kill.found_seconds if kill.killed_seconds is None else kill.killed_seconds
    ended = write.to_seconds is not None and write.to_seconds + _WRITE_GRACE_SECONDS < first
    return is_its_limit and not ended and write.from_seconds <= last


def scope_of(
    kill: OomKill,
    line: KernelKill | None,
    known: Known,
    death: Death | None,
    reading: int,
) -> Scope:
    """Say what of the container died: main process, another one or, by ``memory.oom.group``, all."""
    if line is not None and line.group_path is not None:
        return Scope.GROUP
    if any(tracked.group_reading >= reading - 1 for tracked in _above(kill, known)):
        return Scope.GROUP
    holder = known(kill.holder.path) if kill.holder is not None and kill.holder.path is not None else None
    if holder is not None and holder.init_pid is not None and kill.victim is not None:
        return Scope.MAIN if holder.init_pid == kill.victim.pid else Scope.CHILD
    if death is not None and death.died.exit_code == _KILLED:
        return Scope.MAIN
    return Scope.UNKNOWN


def _above(kill: OomKill, known: Known) -> list[Tracked]:
    """Return the cgroups that a kill lies in, its own first."""
    if kill.path is None:
        return []
    return [tracked for path in lineage(kill.path) if (tracked := known(path)) is not None]
