"""What the evidence of a kill shows, sentence by sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cgwatch.oom.case import Case, Composition, Consumer, moment_of
from cgwatch.oom.kill import Cause, Scope
from cgwatch.oom.shape import Shape
from cgwatch.oom.statement import Statement
from cgwatch.units import format_duration, format_size

_WORDS = {
    Consumer.ANON: "anonymous memory (heap and stacks of processes)",
    Consumer.CACHE: "page cache of files",
    Consumer.SHMEM: "shmem (files in a tmpfs, shared memory)",
    Consumer.KERNEL: "kernel memory",
}
_KERNEL_PARTS = {
    "slab_unreclaimable_bytes": "slab that cannot be dropped",
    "slab_reclaimable_bytes": "slab of caches",
    "pagetables_bytes": "page tables",
    "sock_bytes": "socket buffers",
    "kernel_stack_bytes": "kernel stacks",
    "percpu_bytes": "per-CPU memory",
}
_SHOWN_PROCESSES = 3
_NOTABLE_STALL = 0.05
_NOTABLE_TMPFS = 0.1
_YOUNG_SECONDS = 60.0


def facts_of(case: Case) -> Iterator[Statement]:
    """Give what is known, in the order in which somebody asks for it."""
    for facts in (_whose, _used, _reclaim, _grown, _died, _around, _again):
        yield from facts(case)


def _whose(case: Case) -> Iterator[Statement]:
    kill, limit = case.kill, case.limit
    node = case.evidence.node if case.evidence else None
    if kill.cause is Cause.GLOBAL:
        yield Statement("limit", "No cgroup's limit was hit: the node itself ran out of memory.", {})
    elif limit is not None and case.is_inferred and node is not None and node.available_bytes is not None:
        yield Statement(
            "limit",
            f"The kernel did not say whose limit was hit; it must be that of {limit.path}, "
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
            f"The limit that was hit is {whose}: {limit.path}, {format_size(limit.limit_bytes)}.",
            {"limit_bytes": limit.limit_bytes},
        )
    if kill.cause is Cause.LIMIT_WRITE:
        yield Statement("limit", "cgwatch was writing a limit at that moment.", {})
    if kill.count > 1:
        yield Statement(
            "count", f"{kill.count} kills were found at once and are one record.", {"kills": kill.count}
        )


def _used(case: Case) -> Iterator[Statement]:
    composition = case.composition
    if composition is not None and composition.parts:
        yield _parts(composition, "it was found" if case.kill.killed_seconds is None else "the kill", case)
        yield from _tmpfs(composition)
        if case.consumer is Consumer.KERNEL:
            yield from _kernel(composition)
    victim = case.kill.victim
    if victim is not None and victim.anon_bytes is not None:
        numbers = {
            "victim_anon_bytes": victim.anon_bytes,
            "victim_file_bytes": victim.file_bytes,
            "victim_shmem_bytes": victim.shmem_bytes,
        }
        share = ""
        if case.limit is not None:
            numbers["limit_bytes"] = case.limit.limit_bytes
            share = f", {_percent(victim.anon_bytes, case.limit.limit_bytes)} of the limit"
        yield Statement(
            "victim",
            f"The victim, {victim.command} ({victim.pid}), had {format_size(victim.anon_bytes)} of "
            f"anonymous memory itself{share}.",
            {name: value for name, value in numbers.items() if value is not None},
        )
    yield from _processes(case)


def _parts(composition: Composition, moment: str, case: Case) -> Statement:
    usage = composition.usage_bytes
    parts = ", ".join(
        f"{format_size(size)} {_WORDS[consumer]}" for consumer, size in composition.parts.items()
    )
    numbers: dict[str, float] = {"usage_bytes": usage, "before_seconds": composition.before_seconds}
    numbers |= {f"{consumer}_bytes": size for consumer, size in composition.parts.items()}
    if not composition.before_seconds:
        when = "At the kill"
    else:
        when = f"At the last sample, {_seconds(composition.before_seconds)} before {moment}"
    rest = "; what came after that is not in it" if case.is_stale else ""
    return Statement(
        "usage", f"{when}, {composition.path} held {format_size(usage)}: {parts}{rest}.", numbers
    )


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
    if known:
        largest = max(known, key=lambda name: known[name])
        yield Statement(
            "kernel",
            f"Most of the kernel memory that is told apart is {_KERNEL_PARTS[largest]}: "
            f"{format_size(known[largest])}.",
            known,
        )


def _processes(case: Case) -> Iterator[Statement]:
    at_kill = case.evidence.at_kill if case.evidence else None
    if at_kill is None or at_kill.processes_total < 2:  # noqa: PLR2004 - one is the victim
        return
    shown = [each for each in at_kill.processes[:_SHOWN_PROCESSES] if each.rss_bytes]
    listed = ", ".join(f"{each.command} ({each.pid}) {format_size(each.rss_bytes or 0)}" for each in shown)
    yield Statement(
        "processes",
        f"Of {at_kill.processes_total} processes there the largest in memory were {listed}.",
        {"processes": at_kill.processes_total}
        | {f"rss_bytes_{each.pid}": each.rss_bytes or 0 for each in shown},
    )


def _reclaim(case: Case) -> Iterator[Statement]:
    composition = None if case.is_stale else case.composition
    reclaimable = composition.reclaimable_bytes if composition else None
    if composition is None or reclaimable is None:
        return
    numbers: dict[str, float] = {
        "reclaimable_bytes": reclaimable,
        "usage_bytes": composition.usage_bytes,
        "dirty_bytes": composition.breakdown.file_dirty_bytes or 0,
        "writeback_bytes": composition.breakdown.file_writeback_bytes or 0,
    }
    share = f"{format_size(reclaimable)} ({_percent(reclaimable, composition.usage_bytes)})"
    if not case.could_reclaim:
        text = f"Reclaim could not help: no more than {share} was clean cache that the kernel could drop."
    elif composition.before_seconds:
        text = f"{share} of it was clean cache; the kernel drops that before it kills, and it was not enough."
    else:
        text = f"{share} was clean cache even then: it was in use faster than the kernel could drop it."
    yield Statement("reclaim", text, numbers)
    yield from _swap(case)


def _swap(case: Case) -> Iterator[Statement]:
    evidence = case.evidence
    node = evidence.node if evidence else None
    if node is not None and node.swap_total_bytes == 0:
        yield Statement(
            "swap", "The node has no swap, so only page cache can be reclaimed.", {"swap_bytes": 0}
        )
        return
    involved = evidence.limit or evidence.holder if evidence else None
    last = involved.last if involved else None
    if last is None:
        return
    both, limit = last.memory_and_swap_limit_bytes, last.limit_bytes
    if last.swap_limit_bytes == 0 or (both is not None and both == limit):
        yield Statement(
            "swap", "It may not swap, so only page cache can be reclaimed.", {"swap_limit_bytes": 0}
        )
    elif last.swap_usage_bytes is not None:
        yield Statement(
            "swap",
            f"It may swap, and had {format_size(last.swap_usage_bytes)} in swap.",
            {"swap_usage_bytes": last.swap_usage_bytes},
        )


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
    window = _seconds(growth.window_seconds)
    first, last = format_size(growth.first_bytes), format_size(growth.last_bytes)
    match growth.shape:
        case Shape.SPIKE:
            sudden, seconds = growth.sudden_bytes or 0, growth.sudden_seconds or 0.0
            numbers |= {"sudden_bytes": sudden, "sudden_seconds": seconds}
            text = f"A spike: what it needed grew by {format_size(sudden)} within {_seconds(seconds)}."
            if growth.unseen_seconds and growth.unseen_seconds >= seconds / 2:
                text += f" The last sample before it showed {last}."
        case Shape.GROWTH:
            per_minute = (growth.bytes_per_second or 0) * 60
            numbers["bytes_per_minute"] = per_minute
            text = (
                f"Steady growth: what it needs grew by {format_size(per_minute)} a minute for at least "
                f"{window}, from {first} to {last}. That is a leak, a cache without a bound, or load "
                "that grows."
            )
        case Shape.PLATEAU:
            highest = format_size(growth.highest_bytes)
            text = (
                f"No growth to speak of: it had needed {first} to {highest} for at least {window}. The "
                "limit is too small for what it does, or a leak is too slow to be seen in "
                "that time."
            )
        case _:
            text = (
                f"In the {window} before, what it needed went from {first} to {last}: neither a spike nor "
                "steady growth is in the samples."
            )
    created = case.evidence.created_seconds if case.evidence else None
    age = case.moment_seconds - created if created is not None else None
    if age is not None and 0 <= age < _YOUNG_SECONDS:
        numbers["age_seconds"] = age
        text += f" The cgroup was only {_seconds(age)} old."
    yield Statement("growth", text, {name: value for name, value in numbers.items() if value is not None})


def _died(case: Case) -> Iterator[Statement]:
    kill = case.kill
    whose = "container" if case.is_container else "cgroup"
    match kill.scope:
        case Scope.MAIN:
            code = f" (exit code {kill.exit_code})" if kill.exit_code is not None else ""
            text = f"Its main process was killed, and the {whose} ended with it{code}."
        case Scope.CHILD:
            text = f"A child was killed, not the main process: the {whose} may go on without it."
        case Scope.GROUP:
            text = "All processes were killed together (memory.oom.group)."
        case _ if _is_only_one(case):
            text = "The victim was the only process there."
        case _:
            text = ""
    if text:
        yield Statement("scope", text, {} if kill.exit_code is None else {"exit_code": kill.exit_code})
    if kill.while_down:
        yield Statement("when", "It happened while cgwatch did not run.", {})


def _is_only_one(case: Case) -> bool:
    at_kill = case.evidence.at_kill if case.evidence else None
    return at_kill is not None and at_kill.processes_total == 1 and case.kill.cause is not Cause.GLOBAL


def _around(case: Case) -> Iterator[Statement]:
    evidence = case.evidence
    if evidence is None:
        return
    if not case.is_holders_limit and case.largest and (case.limit or case.kill.cause is Cause.GLOBAL):
        listed = ", ".join(
            f"{each.name or each.path} {format_size(each.usage_bytes)}" for each in case.largest
        )
        yield Statement(
            "largest",
            f"The largest {'below that limit' if case.limit else 'on the node'} were {listed}.",
            {each.path: each.usage_bytes for each in case.largest},
        )
    node = evidence.node
    if case.kill.cause is Cause.GLOBAL and node is not None and node.available_bytes is not None:
        yield Statement(
            "node",
            f"The node had {format_size(node.available_bytes)} of {format_size(node.total_bytes)} "
            "available at "
            "the last sample.",
            {"available_bytes": node.available_bytes, "total_bytes": node.total_bytes},
        )
    full = evidence.stall.full_avg10_ratio if evidence.stall else None
    if full is not None and full >= _NOTABLE_STALL:
        yield Statement(
            "pressure",
            f"All its tasks waited for memory {full:.0%} of the ten seconds before: it was slow already.",
            {"full_avg10_ratio": full},
        )


def _again(case: Case) -> Iterator[Statement]:
    if not case.earlier:
        return
    times = [case.moment_seconds, *map(moment_of, case.earlier)]
    ago, span = max(0.0, times[0] - times[1]), max(0.0, times[0] - min(times))
    before = f"{_seconds(ago)} earlier" if ago >= 1 else "in the same second"
    yield Statement(
        "repeats",
        f"It is the {_ordinal(len(times))} kill of it that is stored; the one before was {before}"
        + (f", the first {_seconds(span)}." if len(times) > 2 and span >= 1 else "."),  # noqa: PLR2004 - a first
        {"kills": len(times), "since_last_seconds": ago, "since_first_seconds": span},
    )


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{suffix}"


def _seconds(seconds: float) -> str:
    return format_duration(round(seconds, 1) if seconds < 10 else round(seconds))  # noqa: PLR2004 - two digits


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "all"
