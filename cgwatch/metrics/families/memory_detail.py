"""Memory beyond cAdvisor: what ``docker stats`` shows, what the usage is made of, all events."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from cgwatch.cgroup.memory import MemoryStats
from cgwatch.metrics.families.base import Family, Number, Part, Type

Value = Callable[[MemoryStats], Number | None]


def _oom_kills(memory: MemoryStats) -> Number | None:
    kills = memory.events.oom_kill
    return memory.events_local.oom_kill if kills is None else kills


def _with(bound: str, none: float, count: str) -> Value:
    """Return the count where there is such a bound, or was: without one it says nothing."""
    get_bound, get_count = attrgetter(bound), attrgetter(count)

    def value(memory: MemoryStats) -> Number | None:
        counted: Number | None = get_count(memory)
        return counted if counted or get_bound(memory) not in {None, none} else None

    return value


def _bytes(what: str, help_text: str, field: str, source: str, absent: str = "") -> Family:
    return Family(
        f"container_memory_{what}_bytes",
        Type.GAUGE,
        f"{help_text}, in bytes.",
        "memory",
        Part.MEMORY,
        source,
        value=attrgetter(field),
        absent=absent,
    )


def _events(what: str, help_text: str, value: Value, source: str, absent: str) -> Family:
    return Family(
        f"container_memory_{what}_total",
        Type.COUNTER,
        help_text,
        "memory",
        Part.MEMORY,
        source,
        value=value,
        absent=absent,
    )


_V1, _ROOT_V2 = "on cgroup v1", "for the root of cgroup v2"
_NO_EVENTS = f"{_V1}, and {_ROOT_V2}"
_NO_SWAP_EVENTS = f"{_NO_EVENTS}; before kernel 5.0; without swap accounting"
_LATE = "; at most the settings' interval late"
FAMILIES = (
    _bytes(
        "docker_usage",
        "Memory usage as docker stats shows it: without the inactive page cache, unless all of it would go",
        "docker_usage_bytes",
        "usage - inactive_file of memory.stat; v1 total_inactive_file",
    ),
    _bytes(
        "shmem",
        "Shared memory and tmpfs, a part of the page cache that only swap can free",
        "stat.shmem_bytes",
        "memory.stat shmem; v1 total_shmem",
    ),
    _bytes(
        "unevictable",
        "Memory that is locked or otherwise cannot be reclaimed",
        "stat.unevictable_bytes",
        "memory.stat unevictable; v1 total_unevictable",
    ),
    _bytes(
        "slab_reclaimable",
        "Kernel objects that can be reclaimed, such as cached names and inodes of files",
        "stat.slab_reclaimable_bytes",
        "memory.stat slab_reclaimable",
        _V1,
    ),
    _bytes(
        "slab_unreclaimable",
        "Kernel objects that cannot be reclaimed",
        "stat.slab_unreclaimable_bytes",
        "memory.stat slab_unreclaimable",
        _V1,
    ),
    _bytes("sock", "Buffers of sockets", "stat.sock_bytes", "memory.stat sock", _V1),
    _bytes(
        "kernel_stack",
        "Kernel stacks of the threads",
        "stat.kernel_stack_bytes",
        "memory.stat kernel_stack",
        _V1,
    ),
    _bytes(
        "page_tables",
        "Page tables",
        "stat.pagetables_bytes",
        "memory.stat pagetables",
        f"{_V1}; before kernel 5.11",
    ),
    _bytes(
        "percpu",
        "Kernel data that each CPU has a copy of",
        "stat.percpu_bytes",
        "memory.stat percpu",
        f"{_V1}; before kernel 5.9",
    ),
    _bytes(
        "zswap",
        "Memory taken by compressed pages of zswap",
        "stat.zswap_bytes",
        "memory.stat zswap",
        f"{_V1}; before kernel 5.19; without CONFIG_ZSWAP",
    ),
    _bytes(
        "zswapped",
        "Pages that zswap holds, as large as they were before",
        "stat.zswapped_bytes",
        "memory.stat zswapped",
        f"{_V1}; before kernel 5.19; without CONFIG_ZSWAP",
    ),
    _events(
        "events_low",
        "How often memory was reclaimed although the usage was within the protection of memory.low.",
        _with("low_bytes", 0, "events.low"),
        "memory.events low",
        f"{_NO_EVENTS}; while it is 0 without a memory.low of its own",
    ),
    _events(
        "events_oom",
        "How often the usage was at the limit and nothing could be reclaimed.",
        attrgetter("events.oom"),
        "memory.events oom",
        _NO_EVENTS,
    ),
    _events(
        "events_oom_kill",
        "Processes killed for want of memory, whoever's limit it was.",
        _oom_kills,
        "memory.events oom_kill (a group kill counts its first victim twice);"
        " v1 memory.oom_control oom_kill, without nested cgroups",
        f"{_ROOT_V2}; before kernel 4.13",
    ),
    _events(
        "events_oom_group_kill",
        "How often all processes were killed together for want of memory.",
        attrgetter("events.oom_group_kill"),
        "memory.events oom_group_kill",
        f"{_NO_EVENTS}; before kernel 5.17",
    ),
    _events(
        "swap_events_high",
        "How often the swap usage went over memory.swap.high.",
        _with("swap_high_bytes", float("inf"), "swap_events.high"),
        f"memory.swap.events high{_LATE}",
        f"{_NO_SWAP_EVENTS}; before kernel 5.8; while it is 0 without a memory.swap.high of its own",
    ),
    _events(
        "swap_events_max",
        "How often the swap usage was about to go over memory.swap.max.",
        _with("swap_limit_bytes", float("inf"), "swap_events.max"),
        f"memory.swap.events max{_LATE}",
        f"{_NO_SWAP_EVENTS}; while it is 0 without a memory.swap.max of its own",
    ),
    _events(
        "swap_events_fail",
        "How often a page could not be swapped out, for its limit or for want of swap.",
        attrgetter("swap_events.fail"),
        f"memory.swap.events fail{_LATE}",
        _NO_SWAP_EVENTS,
    ),
)
