"""Puts together what there is of a kill, from the history and the kernel's log. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import structs

from cgwatch.cgroup.formats import Pressure
from cgwatch.cgroup.memory import STAT_KEYS_V2, MemoryStats
from cgwatch.model import Description, Kind, Sample, Snapshot
from cgwatch.oom.dialect import Dump, Task
from cgwatch.oom.evidence import (
    AtKill,
    Breakdown,
    Evidence,
    Limit,
    Memory,
    Node,
    Process,
    RuntimeView,
    Series,
    Share,
    Stall,
    Watched,
)
from cgwatch.oom.history import History, Point
from cgwatch.oom.kill import OomKill
from cgwatch.oom.observation import spelled
from cgwatch.oom.state import is_within, lineage

_PROCESSES = 32
_LARGEST = 5
_NO_LIMIT = 1 << 62
"""The kernel's log shows the largest page counter where there is none."""


def collect(
    kill: OomKill, history: History, *, before: Evidence | None, dump: Dump | None, page_bytes: int
) -> Evidence:
    """Put together what there is of a kill.

    ``history`` must not yet have taken the snapshot in which the kill was found. ``before``: the evidence of
    an earlier version of the kill: what it has stays, what it lacks is added, of no later moment.
    """
    snapshot = history.latest
    if before is not None:
        until_seconds = before.until_seconds
    else:
        killed_seconds = kill.found_seconds if kill.killed_seconds is None else kill.killed_seconds
        until_seconds = min(snapshot.time_seconds if snapshot else kill.after_seconds, killed_seconds)
    found = before or Evidence(until_seconds)
    samples: dict[str, Sample] = {}
    seconds = 0.0
    if snapshot is not None and snapshot.time_seconds <= until_seconds:
        seconds = snapshot.time_seconds
        wanted = {path for path in (kill.path, kill.limit_path, _holder_path(kill)) if path}
        wanted.update(above for path in tuple(wanted) for above in lineage(path))
        samples = {
            path: sample
            for sample in snapshot.samples
            if (path := spelled(sample.container.cgroup.path)) in wanted
        }
        found = _with_surroundings(found, kill, snapshot, samples)
    holder_path = _holder_path(kill)
    if holder_path and (found.holder is None or found.holder.path != holder_path):
        found = structs.replace(found, holder=_watched(holder_path, history, samples, seconds, until_seconds))
    if kill.limit_path and kill.limit_path != holder_path:
        if found.limit is None or found.limit.path != kill.limit_path:
            limit = _watched(kill.limit_path, history, samples, seconds, until_seconds)
            found = structs.replace(found, limit=limit)
    elif found.limit is not None:
        found = structs.replace(found, limit=None)
    if dump is not None and found.at_kill is None:
        found = structs.replace(found, at_kill=_at_kill(dump, page_bytes))
    return structs.replace(found, runtime=_runtime(kill, samples, history.latest) or found.runtime)


def _holder_path(kill: OomKill) -> str | None:
    return (kill.holder.path if kill.holder else None) or kill.path


def _watched(
    path: str, history: History, samples: dict[str, Sample], seconds: float, until_seconds: float
) -> Watched:
    points = history.points(path, until_seconds=until_seconds)
    columns = zip(*(structs.astuple(point) for point in points), strict=True)
    memory = samples[path].memory if path in samples else None
    last = memory_of(memory, seconds) if memory else _last(points)
    return Watched(path, last, Series(*columns) if points else Series())


def _last(points: tuple[Point, ...]) -> Memory | None:
    """Make the little of the last sample that the history has."""
    if not points:
        return None
    last = points[-1]
    parts = Breakdown(last.anon_bytes, last.file_bytes, last.shmem_bytes, last.kernel_bytes)
    return Memory(last.seconds, last.usage_bytes, breakdown=parts)


def memory_of(memory: MemoryStats, seconds: float) -> Memory:
    """Return what is kept of one sample."""
    names = (name for name in Breakdown.__struct_fields__ if name != "kernel_bytes")
    parts = {name: getattr(memory.stat, name) for name in names}
    return Memory(
        seconds=seconds,
        usage_bytes=memory.usage_bytes,
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


def _with_surroundings(
    found: Evidence, kill: OomKill, snapshot: Snapshot, samples: dict[str, Sample]
) -> Evidence:
    """Add what the last snapshot before the kill shows around the victim."""
    memory, pressure = snapshot.memory, snapshot.pressure
    if found.node is None and memory is not None:
        node = Node(
            memory.total_bytes,
            memory.available_bytes,
            memory.swap_total_bytes,
            memory.swap_free_bytes,
            _stall(pressure.memory) if pressure else None,
        )
        found = structs.replace(found, node=node)
    path = kill.path or _holder_path(kill)
    if path and not found.limits:
        found = structs.replace(found, limits=tuple(_limits(path, samples)))
    holder = samples.get(_holder_path(kill) or "")
    if holder is not None and found.stall is None and holder.pressure is not None:
        found = structs.replace(found, stall=_stall(holder.pressure.memory))
    if holder is not None and found.created_seconds is None:
        found = structs.replace(found, created_seconds=holder.container.created_seconds)
    return structs.replace(found, largest=_largest(kill.limit_path or "/", snapshot.samples))


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
    shares = [
        Share(
            path,
            sample.memory.usage_bytes,
            sample.container.description.name if sample.container.description else None,
            _finite(sample.memory.limit_bytes),
        )
        for sample in samples
        if sample.memory is not None
        and sample.memory.usage_bytes is not None
        and sample.container.owner.kind in (Kind.CONTAINER, Kind.UNIT)
        and sample.container.owner.parent_container_id is None
        and is_within(path := spelled(sample.container.cgroup.path), within)
    ]
    # A slice is the sum of what is in it, and says nothing of its own.
    apart = [each for each in shares if not any(other.path.startswith(each.path + "/") for other in shares)]
    return tuple(sorted(apart, key=lambda share: -share.usage_bytes)[:_LARGEST])


def _at_kill(dump: Dump, page_bytes: int) -> AtKill:
    memory, swap = dump.usages.get("memory"), dump.usages.get("swap")
    parts = {name: dump.stats.get(STAT_KEYS_V2[name]) for name in Breakdown.__struct_fields__}
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


def _runtime(kill: OomKill, samples: dict[str, Sample], snapshot: Snapshot | None) -> RuntimeView | None:
    """Return the runtime's last word on the container: the snapshot may be a later one than the memory's."""
    owner = kill.holder.owner if kill.holder else None
    if owner is None or owner.container_id is None or snapshot is None:
        return None
    sample = samples.get(_holder_path(kill) or "")
    said = sample.container.description if sample else None
    if said is None:
        said = _description(owner.container_id, (*snapshot.samples, *snapshot.stopped))
    if said is None:
        return None
    return RuntimeView(
        state=said.state,
        oom_killed=said.oom_killed,
        started_seconds=said.started_seconds,
        exit_code=kill.exit_code if kill.exit_code is not None else said.exit_code,
        restart_count=said.restart_count,
    )


def _description(container_id: str, samples: Iterable[Sample]) -> Description | None:
    found = (each.container for each in samples if each.container.owner.container_id == container_id)
    return next((each.description for each in found), None)
