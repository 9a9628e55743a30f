"""What the ledger is told. Each source makes these; none of them is needed.

The kernel counts a kill first for the node, then at the victim's cgroup, then writes its log. So the sources
are to be read against that order: the log, the cgroups, the node. Then whoever tells of a kill, those told
after it know of it as well.
"""

from __future__ import annotations

from msgspec import Struct

from cgwatch.oom.kill import Holder, Victim
from cgwatch.proc.log_clock import Drift


class CgroupCounters(Struct, frozen=True, gc=False):
    """The counters of one cgroup, each since it was made; ``None`` is not offered or not readable."""

    holder: Holder
    """Its path (as ``spelled``), its inode and whose it is; both are known here."""
    own: int | None = None
    """Kills in this very cgroup: ``oom_kill`` of v2 ``memory.events.local``, of v1 ``memory.oom_control``."""
    within: int | None = None
    """Kills in it and all below it, also in what is gone: ``oom_kill`` of v2 ``memory.events``. ``None``
    where that file is local (mount option ``memory_localevents``)."""
    oom: int | None = None
    """How often its own limit could not be kept: ``oom`` of v2 ``memory.events.local``."""
    group_kills: int | None = None
    """``oom_group_kill`` of v2 ``memory.events.local``, since 5.17."""
    init_pid: int | None = None
    """The main process of a container, in the host's pid namespace."""


class Reading(Struct, frozen=True):
    """Counters, read one after the other, the node's last."""

    seconds: float
    """When it ended, since the epoch."""
    monotonic_seconds: float
    """When it ended, by CLOCK_MONOTONIC: it goes on over a restart of the agent, and never back. A reading
    that is not later than the last is ignored."""
    counters: tuple[CgroupCounters, ...] = ()
    node: int | None = None
    """``oom_kill`` of /proc/vmstat. Where it once was readable, a reading without it is passed over."""
    complete: bool = False
    """Every cgroup there is, is in it: what is absent is gone."""


class KernelKill(Struct, frozen=True):
    """One line ``Killed process`` of the kernel's log, and what the lines around it say."""

    sequence: int
    seconds: float
    """Since the epoch. A line that is far older than the last reading is of a kill that is settled, so a
    clock that has drifted from the log's must be corrected for."""
    victim: Victim
    path: str | None = None
    """Of the victim's cgroup (``task_memcg``); ``None`` when the kernel's rate limit held the line back."""
    limit_path: str | None = None
    """The cgroup whose limit was hit (``oom_memcg``)."""
    is_global: bool | None = None
    """No cgroup's limit was hit."""
    group_path: str | None = None
    """It was killed, most likely, as a member of this cgroup, by ``memory.oom.group``."""
    group_sequence: int | None = None
    """The line of the victim that the group was killed with."""


class LogLost(Struct, frozen=True):
    """The kernel's log was overwritten before it was read."""

    count: int | None


class LogPlace(Struct, frozen=True):
    """So far the kernel's log was read, and what it told by then was observed before this."""

    sequence: int
    """The record to begin after. A kill that is told from there on comes with all lines around it; one that
    was told before may come again."""
    drift: Drift = Drift()
    """Of the log's clock: without it the time of what is told later is not right."""


class ContainerDied(Struct, frozen=True):
    """A runtime said ``die`` or ``oom`` of a container."""

    container_id: str
    seconds: float
    """Since the epoch."""
    holder: Holder
    """As far as the runtime tells: its path and inode may be unknown."""
    oom: bool = False
    """The runtime says that there was an OOM kill in it: at least one."""
    exit_code: int | None = None
    """``None``: it has not died (yet)."""


class LimitWrite(Struct, frozen=True):
    """cgwatch writes a limit. Told when it begins, and again when it has ended."""

    path: str
    from_seconds: float
    to_seconds: float | None = None
    """``None``: still in flight."""


def spelled(path: str) -> str:
    """Return a cgroup's path as the kernel's log has it and as it can be stored.

    Python shows bytes that are no UTF-8 as lone surrogates, which no encoder takes.
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


Observation = Reading | KernelKill | LogLost | LogPlace | ContainerDied | LimitWrite
