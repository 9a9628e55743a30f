"""What is stored beside a kill: memory before and at it, and who was there. Pure; ``forensics`` makes it."""

from __future__ import annotations

import msgspec
from msgspec import Struct, structs

from cgwatch.oom.history import Point


class Breakdown(Struct, frozen=True, omit_defaults=True):
    """What the memory of one cgroup and all below it is made of; ``None``: the kernel did not say."""

    anon_bytes: int | None = None
    file_bytes: int | None = None
    """The page cache, with ``shmem_bytes``."""
    shmem_bytes: int | None = None
    """Files in a tmpfs, shared memory: it can be swapped, not dropped, and outlives a process."""
    kernel_bytes: int | None = None
    file_dirty_bytes: int | None = None
    file_writeback_bytes: int | None = None
    file_mapped_bytes: int | None = None
    unevictable_bytes: int | None = None
    slab_reclaimable_bytes: int | None = None
    slab_unreclaimable_bytes: int | None = None
    pagetables_bytes: int | None = None
    kernel_stack_bytes: int | None = None
    sock_bytes: int | None = None
    percpu_bytes: int | None = None


class Memory(Struct, frozen=True, omit_defaults=True):
    """One cgroup with all below it, at one moment."""

    seconds: float
    """Since the epoch."""
    usage_bytes: int | None = None
    peak_bytes: int | None = None
    """The highest usage so far."""
    limit_bytes: int | None = None
    """``None``: it has none."""
    high_bytes: int | None = None
    """v2 ``memory.high``; ``None``: it has none."""
    swap_usage_bytes: int | None = None
    swap_limit_bytes: int | None = None
    """v2; ``None``: it has none."""
    memory_and_swap_limit_bytes: int | None = None
    """v1; ``None``: it has none."""
    limit_hits_total: int | None = None
    breakdown: Breakdown = Breakdown()

    @property
    def swap_room_bytes(self) -> int | None:
        """How much of it may lie in swap; ``None``: no limit is known."""
        if self.swap_limit_bytes is not None:
            return self.swap_limit_bytes
        both, limit = self.memory_and_swap_limit_bytes, self.limit_bytes
        return max(0, both - limit) if both is not None and limit is not None else None


class Series(Struct, frozen=True, omit_defaults=True):
    """The minutes before the kill, by columns of the same length, the oldest first."""

    seconds: tuple[float, ...] = ()
    """Since the epoch."""
    usage_bytes: tuple[int | None, ...] = ()
    anon_bytes: tuple[int | None, ...] = ()
    file_bytes: tuple[int | None, ...] = ()
    shmem_bytes: tuple[int | None, ...] = ()
    kernel_bytes: tuple[int | None, ...] = ()
    swap_bytes: tuple[int | None, ...] = ()
    """Empty in what versions before this column have stored."""

    @property
    def points(self) -> tuple[Point, ...]:
        """The same, by moments."""
        unknown = (None,) * len(self.seconds)
        columns = [column or unknown for column in structs.astuple(self)]
        return tuple(Point(*values) for values in zip(*columns, strict=True))


class Involved(Struct, frozen=True, omit_defaults=True):
    """A cgroup that matters for a kill."""

    path: str
    last: Memory | None = None
    """The last sample before the kill; ``None``: there was none."""
    after: Memory | None = None
    """The first sample after it; ``None``: it was gone by then."""
    series: Series = Series()


class Limit(Struct, frozen=True, omit_defaults=True):
    """A limit that may have been hit."""

    path: str
    limit_bytes: int
    usage_bytes: int | None = None
    """At the last sample."""


class Share(Struct, frozen=True, omit_defaults=True):
    """A container that used memory from the same limit, or of the same node, at the last sample."""

    path: str
    usage_bytes: int
    name: str | None = None
    limit_bytes: int | None = None
    """``None``: it has none."""


class Stall(Struct, frozen=True, omit_defaults=True):
    """Memory pressure at the last sample: the part of ten seconds in which tasks waited for memory."""

    some_avg10_ratio: float | None = None
    full_avg10_ratio: float | None = None


class Node(Struct, frozen=True, omit_defaults=True):
    """The node's own memory at the last sample."""

    total_bytes: int
    available_bytes: int | None = None
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    stall: Stall | None = None


class Process(Struct, frozen=True, omit_defaults=True):
    """A row of the table in the kernel's log, at the kill."""

    pid: int
    """In the host's pid namespace."""
    command: str
    rss_bytes: int | None = None
    anon_bytes: int | None = None
    """This and the next two since 6.8."""
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    pagetables_bytes: int | None = None
    swap_bytes: int | None = None
    oom_score_adj: int | None = None


class AtKill(Struct, frozen=True, omit_defaults=True):
    """What the kernel's log says of the cgroup whose limit was hit (or of the node), at the kill."""

    invoked_by: str | None = None
    """The task that asked for memory; it need not be the victim."""
    constraint: str | None = None
    order: int | None = None
    """It asked for 2 to that power pages in one piece."""
    usage_bytes: int | None = None
    limit_bytes: int | None = None
    """``None``: not said, or it has none."""
    swap_usage_bytes: int | None = None
    breakdown: Breakdown = Breakdown()
    processes: tuple[Process, ...] = ()
    """The largest ones."""
    processes_total: int = 0


class RuntimeView(Struct, frozen=True, omit_defaults=True):
    """What the container runtime said of the container, last."""

    state: str
    oom_killed: bool = False
    started_seconds: float | None = None
    exit_code: int | None = None
    restart_count: int | None = None


class Evidence(Struct, frozen=True, omit_defaults=True):
    """All that is known of the circumstances of a kill; each part may be missing."""

    until_seconds: float
    """No sample is later than this, since the epoch: the next one may have been taken after the kill."""
    holder: Involved | None = None
    """Of whom the kill counts for."""
    limit: Involved | None = None
    """Of the cgroup whose limit was hit, where that is known and another one."""
    limits: tuple[Limit, ...] | None = None
    """All that lay upon the victim, the innermost first; ``None``: its cgroup is in no sample."""
    largest: tuple[Share, ...] = ()
    node: Node | None = None
    stall: Stall | None = None
    """Of the holder."""
    at_kill: AtKill | None = None
    runtime: RuntimeView | None = None
    created_seconds: float | None = None
    """When the holder's cgroup was made."""


def decode(stored: bytes | None) -> Evidence | None:
    """Read what ``Storage`` gives; ``None`` where there is none, or none that this version can read."""
    if stored is None:
        return None
    try:
        return msgspec.json.decode(stored, type=Evidence)
    except msgspec.MsgspecError:
        return None
