"""Puts together what there is of a kill, from the history and the kernel's log. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import itemgetter

from msgspec import Struct, structs

from cgwatch.cgroup.formats import Pressure
from cgwatch.cgroup.memory import STAT_KEYS_V1, STAT_KEYS_V2, MemoryStats
from cgwatch.model import Kind, Sample, Snapshot
from cgwatch.oom.dialect import Dump, Task
from cgwatch.oom.evidence import (
    AtKill,
    Breakdown,
    Evidence,
    Involved,
    Limit,
    Memory,
    Node,
    Process,
    RuntimeView,
    Series,
    Share,
    Stall,
)
from cgwatch.oom.history import History, Point
from cgwatch.oom.kill import Cause, OomKill
from cgwatch.oom.observation import spelled
from cgwatch.oom.state import is_within, lineage

_ESCAPE = "\\"
_PROCESSES = 32
_LARGEST = 5
_TOTAL_ANON = STAT_KEYS_V1["anon_bytes"]
_NO_LIMIT = 1 << 62
"""The kernel's log shows the largest page counter where there is none."""


class _Seen(Struct, frozen=True):
    """A snapshot, and its samples of the cgroups that matter for one kill."""

    snapshot: Snapshot
    samples: dict[str, Sample]


def collect(
    kill: OomKill,
    history: History,
    now: Snapshot | None,
    *,
    before: Evidence | None,
    dump: Dump | None,
    page_bytes: int,
) -> Evidence:
    """Put together what there is of a kill.

    ``now``: the snapshot in which the kill was found, or a later one; ``history`` must not have taken the
    former yet. ``before``: the evidence of an earlier version of the kill: what it has stays, what it lacks
    is added, and no sample of a later moment is taken for one from before the kill.
    """
    last = history.latest
    if before is not None:
        until_seconds = before.until_seconds
    else:
        known_seconds = kill.found_seconds if kill.killed_seconds is None else kill.killed_seconds
        until_seconds = min(last.time_seconds if last else kill.after_seconds, known_seconds)
    found = before or Evidence(until_seconds)
    earlier = _seen(kill, last) if last and last.time_seconds <= until_seconds else None
    later = _seen(kill, now) if now and now.time_seconds > until_seconds else None
    if earlier is not None:
        found = _with_surroundings(found, kill, earlier)
    for seen in (earlier, later):
        found = found if seen is None else _with_bounds(found, kill, seen.samples)
    # A snapshot that took long, on a busy node, may have begun before a kill that the log told of meanwhile.
    killed_seconds = kill.killed_seconds or 0.0
    after = later if later is not None and later.snapshot.time_seconds >= killed_seconds else None
    holder_path = _holder_path(kill)
    if holder_path:
        holder = _involved(found.holder, holder_path, history, earlier, after, until_seconds)
        found = structs.replace(found, holder=holder)
    if kill.limit_path and kill.limit_path != holder_path:
        limit = _involved(found.limit, kill.limit_path, history, earlier, after, until_seconds)
        found = structs.replace(found, limit=limit)
    elif found.limit is not None:
        found = structs.replace(found, limit=None)
    if dump is not None and found.at_kill is None:
        found = structs.replace(found, at_kill=_at_kill(dump, page_bytes))
    return structs.replace(found, runtime=_runtime(kill, now or last) or found.runtime)


def _seen(kill: OomKill, snapshot: Snapshot) -> _Seen:
    wanted = {path for path in (kill.path, kill.limit_path, _holder_path(kill)) if path}
    wanted.update(above for path in tuple(wanted) for above in lineage(path))
    longest = max(wanted, key=len, default="")  # all others are above it
    samples = {
        path: sample
        for sample in (snapshot.samples if wanted else ())
        if (path := _spelled_as(longest, sample)) in wanted
    }
    return _Seen(snapshot, samples)


def _holder_path(kill: OomKill) -> str | None:
    return (kill.holder.path if kill.holder else None) or kill.path


def _involved(
    known: Involved | None,
    path: str,
    history: History,
    earlier: _Seen | None,
    later: _Seen | None,
    until_seconds: float,
) -> Involved:
    found = known if known is not None and known.path == path else Involved(path)
    if found.last is None:
        points = history.points(path, until_seconds=until_seconds)
        columns = zip(*(structs.astuple(point) for point in points), strict=True)
        last = _memory(earlier, path) or _last(points)
        found = structs.replace(found, last=last, series=Series(*columns) if points else Series())
    if found.after is None:
        found = structs.replace(found, after=_memory(later, path))
    return found


def _memory(seen: _Seen | None, path: str) -> Memory | None:
    memory = seen.samples[path].memory if seen and path in seen.samples else None
    return memory_of(memory, seen.snapshot.time_seconds) if seen and memory else None


def _last(points: tuple[Point, ...]) -> Memory | None:
    """Make the little of the last sample that the history has."""
    if not points:
        return None
    last = points[-1]
    parts = Breakdown(last.anon_bytes, last.file_bytes, last.shmem_bytes, last.kernel_bytes)
    return Memory(last.seconds, last.usage_bytes, swap_usage_bytes=last.swap_bytes, breakdown=parts)


def memory_of(memory: MemoryStats, seconds: float) -> Memory:
    """Return what is kept of one sample."""
    names = (name for name in Breakdown.__struct_fields__ if name != "kernel_bytes")
    parts = {name: getattr(memory.stat, name) for name in names}
    return Memory(
        seconds=seconds,
        usage_bytes=memory.usage_bytes,
        peak_bytes=memory.peak_bytes,
        limit_bytes=_finite(memory.limit_bytes),
        high_bytes=_finite(memory.high_bytes),
        swap_usage_bytes=memory.swap_usage_bytes,
        swap_limit_bytes=_finite(memory.swap_limit_bytes),
        memory_and_swap_limit_bytes=_finite(memory.memory_and_swap_limit_bytes),
        limit_hits_total=memory.limit_hits_total,
        breakdown=Breakdown(kernel_bytes=memory.kernel_usage_bytes, **parts),
    )


def _finite(value: float | None) -> int | None:
    return None if value is None or math.isinf(value) else int(value)


def _with_surroundings(found: Evidence, kill: OomKill, earlier: _Seen) -> Evidence:
    """Add what the last snapshot before the kill shows around the victim."""
    memory, pressure = earlier.snapshot.memory, earlier.snapshot.pressure
    if found.node is None and memory is not None:
        node = Node(
            memory.total_bytes,
            memory.available_bytes,
            memory.swap_total_bytes,
            memory.swap_free_bytes,
            _stall(pressure.memory) if pressure else None,
        )
        found = structs.replace(found, node=node)
    holder = earlier.samples.get(_holder_path(kill) or "")
    if holder is not None and found.stall is None and holder.pressure is not None:
        found = structs.replace(found, stall=_stall(holder.pressure.memory))
    if kill.cause is not Cause.OWN_LIMIT:
        found = structs.replace(found, largest=_largest(kill.limit_path or "/", earlier.snapshot.samples))
    return found


def _with_bounds(found: Evidence, kill: OomKill, samples: dict[str, Sample]) -> Evidence:
    """Add what hardly changes: limits, and since when there is a cgroup."""
    path = kill.path or _holder_path(kill) or ""
    if found.limits is None and path in samples:
        found = structs.replace(found, limits=tuple(_limits(path, samples)))
    holder = samples.get(_holder_path(kill) or "")
    if holder is not None and found.created_seconds is None:
        found = structs.replace(found, created_seconds=holder.container.created_seconds)
    return found


def _stall(pressure: Pressure | None) -> Stall | None:
    if pressure is None:
        return None
    return Stall(
        pressure.some.avg10_ratio if pressure.some else None,
        pressure.full.avg10_ratio if pressure.full else None,
    )


def _limits(path: str, samples: dict[str, Sample]) -> Iterable[Limit]:
    for above in lineage(path):
        memory = samples[above].memory if above in samples else None
        if memory is None or above == "/":
            continue
        limit_bytes = _finite(memory.limit_bytes)
        if limit_bytes is not None:
            yield Limit(above, limit_bytes, memory.usage_bytes)


def _largest(within: str, samples: Iterable[Sample]) -> tuple[Share, ...]:
    found = [
        (sample.memory.usage_bytes, path, sample)
        for sample in samples
        if sample.memory is not None
        and sample.memory.usage_bytes is not None
        and sample.container.owner.kind in (Kind.CONTAINER, Kind.UNIT)
        and sample.container.owner.parent_container_id is None
        and is_within(path := _spelled_as(within, sample), within)
    ]
    shares: list[Share] = []
    for usage_bytes, path, sample in sorted(found, key=itemgetter(0), reverse=True):
        # A slice is the sum of what is in it, and says nothing of its own.
        if any(other.startswith(path + "/") for _, other, _ in found):
            continue
        described, memory = sample.container.description, sample.memory
        limit_bytes = _finite(memory.limit_bytes) if memory else None
        shares.append(Share(spelled(path), usage_bytes, described.name if described else None, limit_bytes))
        if len(shares) == _LARGEST:
            break
    return tuple(shares)


def _spelled_as(path: str, sample: Sample) -> str:
    """Return the path of a sample, to compare with one that is ``spelled``: few need that, it takes time."""
    return spelled(sample.container.cgroup.path) if _ESCAPE in path else sample.container.cgroup.path


def _at_kill(dump: Dump, page_bytes: int) -> AtKill:
    memory, swap = dump.usages.get("memory"), dump.usages.get("swap")
    keys = STAT_KEYS_V2 if _TOTAL_ANON not in dump.stats else STAT_KEYS_V1
    parts = {name: dump.stats.get(keys[name]) for name in Breakdown.__struct_fields__ if name in keys}
    kernel = dump.usages.get("kmem")
    if kernel is not None:
        parts["kernel_bytes"] = kernel.usage_bytes
    rows = sorted(dump.tasks, key=lambda task: -task.values.get("rss", 0))
    return AtKill(
        invoked_by=dump.invoked_by,
        constraint=dump.constraint,
        order=dump.order,
        usage_bytes=memory.usage_bytes if memory else None,
        limit_bytes=memory.limit_bytes if memory and memory.limit_bytes < _NO_LIMIT else None,
        swap_usage_bytes=swap.usage_bytes if swap else None,
        breakdown=Breakdown(**parts),
        processes=tuple(_process(task, page_bytes) for task in rows[:_PROCESSES]),
        processes_total=len(rows),
    )


def _process(task: Task, page_bytes: int) -> Process:
    def size(name: str) -> int | None:
        return task.values[name] * page_bytes if name in task.values else None

    return Process(
        pid=task.pid,
        command=task.command,
        rss_bytes=size("rss"),
        anon_bytes=size("rss_anon"),
        file_bytes=size("rss_file"),
        shmem_bytes=size("rss_shmem"),
        pagetables_bytes=task.values.get("pgtables_bytes"),
        swap_bytes=size("swapents"),
        oom_score_adj=task.values.get("oom_score_adj"),
    )


def _runtime(kill: OomKill, snapshot: Snapshot | None) -> RuntimeView | None:
    """Return the runtime's last word on the container; the snapshot may be one from after the kill."""
    container_id = kill.holder.owner.container_id if kill.holder else None
    if container_id is None or snapshot is None:
        return None
    containers = (each.container for each in (*snapshot.samples, *snapshot.stopped))
    said = next((each.description for each in containers if each.owner.container_id == container_id), None)
    if said is None:
        return None
    return RuntimeView(
        state=said.state,
        oom_killed=said.oom_killed,
        started_seconds=said.started_seconds,
        exit_code=kill.exit_code if kill.exit_code is not None else said.exit_code,
        restart_count=said.restart_count,
    )
