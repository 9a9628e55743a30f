"""Every number that may stand in an explanation, worked out from the evidence in a way of its own."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from cgwatch.units import exact_size, format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.oom.evidence import Breakdown, Evidence, Involved
    from cgwatch.oom.kill import OomKill
    from tests.oom.cases.recorded import Recorded

_MIB = 1 << 20


def words(case: Recorded) -> set[str]:
    """Give each size, duration, share and count that may be said, as it is written."""
    found = {format_size(size) for size in sizes(case)} | {
        exact_size(math.floor(size)) for size in sizes(case)
    }
    found |= {_as_said(seconds) for seconds in durations(case)}
    found |= {str(count) for count in counts(case)}
    return found | set(shares(case))


def sizes(case: Recorded) -> set[float]:
    """Give what is in the evidence, and what follows from it by the rules that an explanation states."""
    evidence = case.evidence
    found = set(_numbers(msgspec.to_builtins((case.kill, *case.earlier)), "_bytes"))
    if evidence is None:
        return found
    found |= set(_numbers(msgspec.to_builtins(evidence), "_bytes"))
    rows = evidence.at_kill.processes if evidence.at_kill else ()
    found |= {row.anon_bytes + (row.shmem_bytes or 0) for row in rows if row.anon_bytes is not None}
    limits = _limits(evidence)
    for parts in _breakdowns(evidence):
        found |= set(_of_parts(parts))
        found |= {limit - (parts.anon_bytes or 0) - (parts.kernel_bytes or 0) for limit in limits}
    for involved in (evidence.holder, evidence.limit):
        needs = _needs(involved)
        used = [size for _, size in needs]
        found |= {*used, *(abs(end - size) for end in (*limits, *used[-1:]) for size in used)}
        found |= {_quarter_more(size) for size in (max(used, default=0), *limits)}
        found |= {pace * 60 for pace in _paces(needs)}
    found |= {2 * limit for limit in limits}
    last = evidence.holder.last if evidence.holder else None
    if last and evidence.node and evidence.node.available_bytes is not None:
        found.add((last.usage_bytes or 0) + evidence.node.available_bytes)
    found.add(sum(each.limit_bytes for each in evidence.largest if each.limit_bytes is not None))
    return {size for size in found if size >= 0}


def durations(case: Recorded) -> set[float]:
    """Give the times from all that the evidence has a time of, and how long a doubled limit lasts."""
    kill, evidence = case.kill, case.evidence
    moments = [_moment(each) for each in (kill, *case.earlier)]
    found = {moments[0] - moment for moment in moments[1:]}
    if len(moments) > 1:
        found.add(statistics.mean(later - earlier for later, earlier in pairwise(moments)))
    if evidence is None:
        return found
    since = [evidence.created_seconds or moments[0]]
    for involved in (evidence.holder, evidence.limit):
        since += involved.series.seconds if involved else ()
        found |= {limit / pace for limit in _limits(evidence) for pace in _paces(_needs(involved))}
    return found | {moments[0] - seconds for seconds in since}


def counts(case: Recorded) -> Iterator[int]:
    """Give process ids, numbers of processes and kills, and what else is counted."""
    kill, evidence = case.kill, case.evidence
    yield from (kill.number, kill.count, len(case.earlier) + 1)
    if kill.exit_code is not None:
        yield kill.exit_code
    victims = [each.victim for each in (kill, *case.earlier) if each.victim is not None]
    yield len({victim.pid for victim in victims})
    for victim in victims:
        yield from (victim.pid, victim.oom_score_adj or 0)
    at_kill = evidence.at_kill if evidence else None
    if at_kill is not None:
        yield at_kill.processes_total
        for process in at_kill.processes:
            yield process.pid
            yield sum(other.command == process.command for other in at_kill.processes)
    if evidence is not None:
        yield len(evidence.largest)


def shares(case: Recorded) -> Iterator[str]:
    """Give the victim's share of each limit, and that of the droppable cache, in whole percents."""
    evidence, victim = case.evidence, case.kill.victim
    if evidence is None:
        return
    yield from ("1%", "99%") if victim else ()
    for limit in _limits(evidence):
        if victim and victim.anon_bytes is not None and limit:
            yield f"{victim.anon_bytes / limit:.0%}"
    for parts in _breakdowns(evidence):
        for whole in _numbers(msgspec.to_builtins(evidence), "usage_bytes"):
            yield from (f"{size / whole:.0%}" for size in _of_parts(parts) if whole)


def _moment(kill: OomKill) -> float:
    return kill.found_seconds if kill.killed_seconds is None else kill.killed_seconds


def _numbers(value: object, suffix: str, name: str = "") -> Iterator[float]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _numbers(part, suffix, key)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, suffix, name)
    elif isinstance(value, int | float) and name.endswith(suffix):
        yield value


def _limits(evidence: Evidence) -> list[int]:
    found = {each.limit_bytes for each in evidence.limits or ()}
    if evidence.at_kill is not None and evidence.at_kill.limit_bytes is not None:
        found.add(evidence.at_kill.limit_bytes)
    for involved in (evidence.holder, evidence.limit):
        last = involved.last if involved else None
        if last and last.limit_bytes is not None and last.memory_and_swap_limit_bytes is not None:
            found.add(last.memory_and_swap_limit_bytes - last.limit_bytes)
    return sorted(found)


def _breakdowns(evidence: Evidence) -> Iterator[Breakdown]:
    if evidence.at_kill is not None:
        yield evidence.at_kill.breakdown
    for involved in (evidence.holder, evidence.limit):
        if involved is not None and involved.last is not None:
            yield involved.last.breakdown


def _of_parts(parts: Breakdown) -> Iterator[int]:
    shmem = parts.shmem_bytes or 0
    busy = (parts.file_dirty_bytes or 0) + (parts.file_writeback_bytes or 0)
    cache = max(0, (parts.file_bytes or 0) - shmem)
    yield from (cache, busy, max(0, cache - busy) + (parts.slab_reclaimable_bytes or 0))
    yield max(0, shmem - (parts.file_mapped_bytes or 0))
    kernel = (
        parts.slab_reclaimable_bytes,
        parts.slab_unreclaimable_bytes,
        parts.pagetables_bytes,
        parts.kernel_stack_bytes,
        parts.sock_bytes,
        parts.percpu_bytes,
    )
    yield sum(size or 0 for size in kernel)


def _needs(involved: Involved | None) -> list[tuple[float, int]]:
    series = involved.series if involved else None
    if series is None:
        return []
    return [
        (point.seconds, point.usage_bytes + (point.swap_bytes or 0) - max(0, file - (point.shmem_bytes or 0)))
        for point in series.points
        if point.usage_bytes is not None and (file := point.file_bytes or 0) >= 0
    ]


def _paces(needs: list[tuple[float, int]]) -> list[float]:
    """Give the slopes of the lines through all samples, and through those without the first few."""
    parts = [needs[start:] for start in range(max(1, len(needs) // 2))]
    slopes = [statistics.linear_regression(*zip(*part, strict=True)).slope for part in parts if len(part) > 1]
    return [slope for slope in slopes if slope > 0]


def _quarter_more(size: int) -> int:
    return -(-size * 5 // (4 * _MIB)) * _MIB


def _as_said(seconds: float) -> str:
    """Write tenths below ten seconds, and no seconds beside hours."""
    step = 0.1 if seconds < 10 else 60 if seconds >= 3600 else 1
    return format_duration(abs(round(round(seconds / step) * step, 1)))
