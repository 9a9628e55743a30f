"""What the evidence of a kill shows, sentence by sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cgwatch.oom.case import Case, Composition, Consumer, shortened
from cgwatch.oom.circumstances import circumstances_of
from cgwatch.oom.evidence import Process
from cgwatch.oom.kill import Cause
from cgwatch.oom.shape import Growth, Shape
from cgwatch.oom.statement import Statement
from cgwatch.oom.words import KINDS, SHORT_KINDS, listed, notable, pace, seconds, share
from cgwatch.units import format_size

_KERNEL_PARTS = {
    "slab_unreclaimable_bytes": "slab that cannot be dropped",
    "slab_reclaimable_bytes": "slab of caches",
    "pagetables_bytes": "page tables",
    "sock_bytes": "socket buffers",
    "kernel_stack_bytes": "kernel stacks",
    "percpu_bytes": "per-CPU memory",
}
_SHOWN_PROCESSES = 3
_NOTABLE_TMPFS = 0.1
_INNOCENT_RATIO = 0.1
"""Of the usage: a victim with less did not fill the limit."""
_NOTHING_RATIO = 0.01
_NEARLY = 0.9
_YOUNG_SECONDS = 60.0


def facts_of(case: Case) -> Iterator[Statement]:
    """Give what is known, in the order in which somebody asks for it."""
    for facts in (_whose, _used, _reclaim, _grown, circumstances_of):
        yield from facts(case)


def _whose(case: Case) -> Iterator[Statement]:
    kill, limit = case.kill, case.limit
    node = case.evidence.node if case.evidence else None
    if kill.cause is Cause.GLOBAL:
        yield Statement("limit", "No cgroup's limit was hit: the node itself ran out of memory.", {})
    elif limit is not None and case.is_inferred and node is not None and node.available_bytes is not None:
        yield Statement(
            "limit",
            f"The kernel did not say whose limit was hit; it must be that of {shortened(limit.path)}, "
            f"{format_size(limit.limit_bytes)}: no other lies upon it, and the node had "
            f"{format_size(node.available_bytes)} of {format_size(node.total_bytes)} available.",
            {
                "limit_bytes": limit.limit_bytes,
                "node_available_bytes": node.available_bytes,
                "node_total_bytes": node.total_bytes,
            },
        )
    elif limit is not None:
        whose = "its own" if case.is_holders_limit else "not its own, but one above it"
        yield Statement(
            "limit",
            f"The limit that was hit is {whose}: {shortened(limit.path)}, {format_size(limit.limit_bytes)}.",
            {"limit_bytes": limit.limit_bytes},
        )
    if kill.cause is Cause.LIMIT_WRITE:
        yield Statement("limit", "cgwatch was writing a limit at that moment.", {})
    if kill.count > 1:
        yield Statement(
            "count", f"{kill.count} kills were found at once and are one record.", {"kills": kill.count}
        )


# What the memory was, and who had it.


def _used(case: Case) -> Iterator[Statement]:
    composition = case.composition
    if composition is not None and composition.parts:
        yield _parts(composition, "it was found" if case.kill.killed_seconds is None else "the kill", case)
        yield from _tmpfs(composition)
        if case.consumer is Consumer.KERNEL:
            yield from _kernel(composition)
    yield from _victim(case)
    yield from _processes(case)


def _parts(composition: Composition, moment: str, case: Case) -> Statement:
    usage = composition.usage_bytes
    shown = notable(composition.parts, usage) or composition.parts
    numbers: dict[str, float] = {"usage_bytes": usage, "before_seconds": composition.before_seconds}
    numbers |= {f"{consumer}_bytes": size for consumer, size in composition.parts.items()}
    parts = ", ".join(f"{format_size(size)} {KINDS[consumer]}" for consumer, size in shown.items())
    if not composition.before_seconds:
        when = "At the kill"
    else:
        when = f"At the last sample, {seconds(composition.before_seconds)} before {moment}"
    holder = case.kill.holder
    limit = case.limit
    if holder is not None and composition.path == holder.path:
        whose = "it"
    elif limit is not None and composition.path == limit.path:
        whose = "all below that limit"
    else:
        whose = shortened(composition.path)
    rest = "; what came after that is not in it" if case.is_stale else ""
    return Statement("usage", f"{when}, {whose} held {format_size(usage)}: {parts}{rest}.", numbers)


def _tmpfs(composition: Composition) -> Iterator[Statement]:
    shmem, mapped = composition.breakdown.shmem_bytes, composition.breakdown.file_mapped_bytes
    unmapped = max(0, shmem - mapped) if shmem is not None and mapped is not None else 0
    if unmapped and unmapped >= _NOTABLE_TMPFS * composition.usage_bytes:
        yield Statement(
            "tmpfs",
            f"At least {format_size(unmapped)} of the shmem is mapped by no process: files in a tmpfs "
            "(/dev/shm, a volume in memory). Killing processes does not free them.",
            {"unmapped_bytes": unmapped, "shmem_bytes": shmem or 0, "file_mapped_bytes": mapped or 0},
        )


def _kernel(composition: Composition) -> Iterator[Statement]:
    sizes = {name: getattr(composition.breakdown, name) for name in _KERNEL_PARTS}
    known = {name: size for name, size in sizes.items() if size}
    total = composition.breakdown.kernel_bytes or 0
    told = sum(known.values())
    if known and told >= total / 2:
        largest = max(known, key=lambda name: known[name])
        text = f"Most of the kernel memory that is told apart is {_KERNEL_PARTS[largest]}: "
        yield Statement("kernel", f"{text}{format_size(known[largest])}.", known)
    elif known:
        yield Statement(
            "kernel",
            f"Only {format_size(told)} of the kernel memory is told apart (slab, stacks, page tables, "
            "sockets): the rest is in whole pages, as the buffers of pipes are.",
            known | {"told_bytes": told, "kernel_bytes": total},
        )


def _victim(case: Case) -> Iterator[Statement]:
    victim, composition = case.kill.victim, case.composition
    if victim is None or victim.anon_bytes is None:
        return
    sizes = {
        "victim_anon_bytes": victim.anon_bytes,
        "victim_file_bytes": victim.file_bytes,
        "victim_shmem_bytes": victim.shmem_bytes,
    }
    numbers: dict[str, float] = {name: size for name, size in sizes.items() if size is not None}
    part = ""
    if case.limit is not None:
        numbers["limit_bytes"] = case.limit.limit_bytes
        part = f", {share(victim.anon_bytes, case.limit.limit_bytes)} of the limit"
    text = (
        f"The victim, {victim.command} ({victim.pid}), had {format_size(victim.anon_bytes)} of anonymous "
        f"memory itself{part}"
    )
    if (
        composition is not None
        and case.consumer in (Consumer.SHMEM, Consumer.KERNEL)
        and victim.anon_bytes + (victim.shmem_bytes or 0) < _INNOCENT_RATIO * composition.usage_bytes
    ):
        text += ": that is not what filled it"
    yield Statement("victim", text + ".", numbers)


def _processes(case: Case) -> Iterator[Statement]:
    at_kill = case.evidence.at_kill if case.evidence else None
    if at_kill is None or at_kill.processes_total < 2:  # noqa: PLR2004 - one is the victim
        return
    by_command: dict[str, list[Process]] = {}
    for each in at_kill.processes:
        if _own_bytes(each):
            by_command.setdefault(each.command, []).append(each)
    groups = sorted(by_command.values(), key=lambda rows: -sum(map(_own_bytes, rows)))[:_SHOWN_PROCESSES]
    if len(groups) == 1 and len(groups[0]) == 1:
        return  # the others had nothing to speak of, and the victim is told of already
    numbers: dict[str, float] = {"processes": at_kill.processes_total}
    words = []
    for rows in groups:
        command, pid = rows[0].command, rows[0].pid
        most = max(map(_own_bytes, rows))
        if len(rows) == 1:
            numbers[f"bytes_{pid}"] = most
            words.append(f"{command} ({pid}) {format_size(most)}")
        else:
            # No sum: what a process shares with the one that it was forked from would count twice.
            numbers |= {f"processes_{command}": len(rows), f"most_bytes_{command}": most}
            words.append(f"{len(rows)} of {command} with up to {format_size(most)} each")
    if words:
        yield Statement(
            "processes",
            f"Of {at_kill.processes_total} processes there the largest in memory were {listed(words)}.",
            numbers,
        )


def _own_bytes(process: Process) -> int:
    """Return what a process had, by itself where the kernel says (6.8), else with what it shared."""
    if process.anon_bytes is None:
        return process.rss_bytes or 0
    return process.anon_bytes + (process.shmem_bytes or 0)


# Whether the kernel could have made room.


def _reclaim(case: Case) -> Iterator[Statement]:
    composition = None if case.is_stale else case.composition
    reclaimable = composition.reclaimable_bytes if composition else None
    if composition is None or reclaimable is None:
        return
    usage = composition.usage_bytes
    numbers: dict[str, float] = {
        "reclaimable_bytes": reclaimable,
        "usage_bytes": usage,
        "dirty_bytes": composition.breakdown.file_dirty_bytes or 0,
        "writeback_bytes": composition.breakdown.file_writeback_bytes or 0,
    }
    swap, more = _swap(case)
    size = f"{format_size(reclaimable)} ({share(reclaimable, usage)})"
    if not case.could_reclaim:
        cache = (
            "no page cache was left that the kernel could drop"
            if reclaimable < _NOTHING_RATIO * usage
            else f"no more than {size} was clean cache that the kernel could drop"
        )
        text = f"Reclaim could not help: {cache}{swap}."
    elif composition.before_seconds:
        text = (
            f"{size} of it was clean cache; the kernel drops that before it kills, and it was not "
            f"enough{swap}."
        )
    else:
        text = f"{size} was clean cache even then: it was in use faster than the kernel could drop it{swap}."
    yield Statement("reclaim", text, numbers | more)


def _swap(case: Case) -> tuple[str, dict[str, float]]:
    evidence = case.evidence
    node = evidence.node if evidence else None
    if node is not None and node.swap_total_bytes == 0:
        return ", and the node has no swap", {"swap_total_bytes": 0}
    involved = evidence.limit or evidence.holder if evidence else None
    last = involved.last if involved else None
    at_kill = evidence.at_kill if evidence else None
    used = at_kill.swap_usage_bytes if at_kill else None
    if used is None and last is not None:
        used = last.swap_usage_bytes
    bound = last.swap_room_bytes if last else None
    if bound == 0:
        return ", and it may not swap", {"swap_limit_bytes": 0}
    if used is not None and bound is not None and used >= _NEARLY * bound:
        text = f", and its swap was full ({format_size(used)} of {format_size(bound)})"
        return text, {"swap_usage_bytes": used, "swap_limit_bytes": bound}
    free = node.swap_free_bytes if node else None
    if node is not None and free is not None and free < (1 - _NEARLY) * (node.swap_total_bytes or 0):
        return f", and the node's swap was full ({format_size(free)} free)", {"swap_free_bytes": free}
    if used is not None:
        return f"; {format_size(used)} was in swap already", {"swap_usage_bytes": used}
    return "", {}


# How it came to it.


def _grown(case: Case) -> Iterator[Statement]:
    growth = case.growth
    if growth is None:
        return
    numbers: dict[str, float | None] = {
        "window_seconds": growth.window_seconds,
        "first_bytes": growth.first_bytes,
        "last_bytes": growth.last_bytes,
        "highest_bytes": growth.highest_bytes,
        "bytes_per_second": growth.bytes_per_second,
        "straightness_ratio": growth.straightness,
    }
    text, more = _shape(case, growth)
    numbers |= more
    age = case.age_seconds
    if age is not None and 0 <= age < _YOUNG_SECONDS:
        numbers["age_seconds"] = age
        text += f" The cgroup was only {seconds(age)} old."
    yield Statement("growth", text, {name: value for name, value in numbers.items() if value is not None})


def _shape(case: Case, growth: Growth) -> tuple[str, Mapping[str, float]]:
    window = seconds(growth.window_seconds)
    first, last = format_size(growth.first_bytes), format_size(growth.last_bytes)
    match growth.shape:
        case Shape.SPIKE:
            sudden, within = growth.sudden_bytes or 0, growth.sudden_seconds or 0.0
            text = f"A spike: what it needed grew by {format_size(sudden)} within {seconds(within)}."
            if growth.unseen_seconds and growth.unseen_seconds >= within / 2:
                text += f" The last sample before it showed {last}."
            return text, {"sudden_bytes": sudden, "sudden_seconds": within}
        case Shape.GROWTH:
            per_minute, words = pace(growth.bytes_per_second or 0)
            swap = f", {format_size(swapped)} of it in swap" if (swapped := case.swapped_bytes) else ""
            kind = f", most of it {SHORT_KINDS[growing]}" if (growing := case.growing) else ""
            text = (
                f"Steady growth: what it needs grew by {words} for at least {window}, from {first} to "
                f"{last}{swap}{kind}. That is a leak, a cache without a bound, or load that grows."
            )
            return text, {"bytes_per_minute": per_minute}
        case Shape.PLATEAU:
            highest = format_size(growth.highest_bytes)
            needed = first if first == highest else f"{first} to {highest}"
            return (
                f"No growth to speak of: it had needed {needed} for at least {window}. The limit is too "
                "small for what it does, or a leak is too slow to be seen in that time."
            ), {}
        case _:
            return (
                f"In the {window} before, what it needed went from {first} to {last}: neither a spike nor "
                "steady growth is in the samples."
            ), {}
