"""What to do about a kill. A number is given where the evidence bears one, and its rule is said. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cgwatch.oom.case import Case, Consumer
from cgwatch.oom.kill import Cause, Scope
from cgwatch.oom.shape import Shape
from cgwatch.oom.statement import Statement
from cgwatch.oom.words import listed, seconds
from cgwatch.units import exact_size, format_size

_MARGIN = 1.25
_RULE = "a quarter above the highest need that was seen"
_MEBIBYTE = 1 << 20
_HALF = 0.5
_LOOK_FOR = {
    Consumer.ANON: "look for what is never freed, with a heap profile of two moments",
    Consumer.SHMEM: "look for what writes files to a tmpfs (/dev/shm, a volume in memory) and keeps them",
    Consumer.KERNEL: "look for pipes, sockets or threads that are opened and never closed",
}


def advice_of(case: Case) -> Iterator[Statement]:
    """Give what to do, the most important first."""
    match case.kill.cause:
        case Cause.LIMIT_WRITE:
            yield from _limit_write(case)
        case Cause.GLOBAL:
            yield from _node(case)
        case _ if case.limit is not None and not case.is_holders_limit:
            yield from _ancestor(case)
        case _ if case.limit is not None:
            yield from _own(case, case.limit.limit_bytes)
    yield from _by_consumer(case)
    if case.kill.scope is Scope.CHILD:
        yield Statement(
            "scope",
            "See that the main process notices the loss of its child. If it is of no use without it, let the "
            "kernel end all of it together: memory.oom.group = 1 (cgroup v2).",
            {},
        )


def _own(case: Case, limit_bytes: int) -> Iterator[Statement]:
    growth = case.growth
    shape = growth.shape if growth else Shape.UNKNOWN
    if shape is Shape.GROWTH and growth is not None and growth.bytes_per_second:
        yield _leak(case, limit_bytes, growth.bytes_per_second)
    elif shape is Shape.PLATEAU and growth is not None:
        highest = max(growth.highest_bytes, limit_bytes)
        wanted = _with_margin(highest)
        yield Statement(
            "raise",
            f"Raise the limit to {exact_size(wanted)}{_command(case, wanted)}: {_RULE} "
            f"({format_size(highest)}). What it would take without a limit cannot be seen below one: watch "
            "the peak afterwards.",
            {"limit_bytes": limit_bytes, "highest_bytes": highest, "wanted_bytes": wanted},
        )
    else:
        yield Statement(
            "raise",
            f"It needs more than {format_size(limit_bytes)} at its highest; how much more the evidence does "
            "not show, as the limit cut it off. Either raise the limit and read the peak after the next time "
            "(container_memory_max_usage_bytes), or find what asks for so much.",
            {"limit_bytes": limit_bytes},
        )


def _leak(case: Case, limit_bytes: int, bytes_per_second: float) -> Statement:
    lasts = limit_bytes / bytes_per_second
    command = _command(case, 2 * limit_bytes) if case.is_holders_limit else ""
    what = _LOOK_FOR.get(case.growing or case.consumer, _LOOK_FOR[Consumer.ANON])
    where = f"In {case.name}, " if case.is_holders_growth else ""
    what = what if where else what[0].upper() + what[1:]
    return Statement(
        "leak",
        f"{where}{what}: no limit is enough for growth that goes on. Doubling it to "
        f"{exact_size(2 * limit_bytes)}{command} would last {seconds(lasts)} longer at this pace.",
        {
            "limit_bytes": limit_bytes,
            "doubled_bytes": 2 * limit_bytes,
            "lasts_seconds": lasts,
            "bytes_per_second": bytes_per_second,
        },
    )


def _ancestor(case: Case) -> Iterator[Statement]:
    limit, largest, growth = case.limit, case.largest, case.growth
    holder = case.evidence.holder if case.evidence else None
    used = holder.last.usage_bytes if holder and holder.last else None
    if limit is None:
        return
    if used is not None and used < _HALF * limit.limit_bytes:
        others = [share for share in largest if holder is None or share.path != holder.path]
        whose = f", first {case.called(others[0])}" if others else ""
        yield Statement(
            "others",
            f"{case.name} held {format_size(used)} of {format_size(limit.limit_bytes)} at the last sample: "
            f"look at what else is below that limit{whose}.",
            {"used_bytes": used, "limit_bytes": limit.limit_bytes},
        )
    if growth is not None and growth.shape is Shape.GROWTH and growth.bytes_per_second:
        yield _leak(case, limit.limit_bytes, growth.bytes_per_second)
    limits = [share.limit_bytes for share in largest if share.limit_bytes is not None]
    total = sum(limits)
    if total > limit.limit_bytes:
        yield Statement(
            "overcommitted",
            f"The limits of the {len(limits)} largest below it add up to {format_size(total)}, more than its "
            f"own {format_size(limit.limit_bytes)}: raise it to at least {exact_size(total)}, or lower "
            "theirs.",
            {"limits_bytes": total, "limit_bytes": limit.limit_bytes},
        )
    else:
        without = [case.called(share) for share in largest if share.limit_bytes is None]
        has = "has" if len(without) == 1 else "have"
        bound = f" ({listed(without)} {has} none)" if without else ""
        yield Statement(
            "raise",
            f"Raise that limit above {format_size(limit.limit_bytes)}, or give those below it limits of "
            f"their own that add up to less{bound}.",
            {"limit_bytes": limit.limit_bytes},
        )


def _node(case: Case) -> Iterator[Statement]:
    evidence = case.evidence
    if case.kill.holder is not None and evidence is not None and evidence.limits == ():
        yield from _bound(case)
    unbound = [share for share in case.largest if share.limit_bytes is None]
    if unbound:
        listed = ", ".join(f"{case.called(each)} ({format_size(each.usage_bytes)})" for each in unbound)
        yield Statement(
            "bound",
            f"Give limits to the largest that have none: {listed}.",
            {each.path: each.usage_bytes for each in unbound},
        )
    victim = case.kill.victim
    if victim is not None and victim.oom_score_adj:
        yield Statement(
            "score",
            f"The victim was chosen with oom_score_adj {victim.oom_score_adj}: it says who goes first "
            "when the "
            "node is short.",
            {"oom_score_adj": victim.oom_score_adj},
        )
    yield Statement("node", "Put less on the node, or give it more memory.", {})


def _bound(case: Case) -> Iterator[Statement]:
    """Advise a limit for who has none: from its need where that can be, else what it must stay below."""
    growth, most_bytes = case.growth, case.most_bytes
    if growth is None:
        return
    wanted = _with_margin(growth.highest_bytes)
    if growth.shape is not Shape.GROWTH and (most_bytes is None or wanted < most_bytes):
        yield Statement(
            "bound",
            f"{case.name} has no memory limit: with one of {exact_size(wanted)}{_command(case, wanted)} it "
            f"can no longer take the node's memory. That is {_RULE} ({format_size(growth.highest_bytes)}).",
            {"highest_bytes": growth.highest_bytes, "wanted_bytes": wanted},
        )
    elif most_bytes is not None:
        yield Statement(
            "bound",
            f"{case.name} has no memory limit. Give it one well below {format_size(most_bytes)}: what it "
            "held and what the node had available beside that, at the last sample.",
            {"most_bytes": most_bytes},
        )
    if growth.shape is Shape.GROWTH:
        what = _LOOK_FOR.get(case.growing or case.consumer, _LOOK_FOR[Consumer.ANON])
        yield Statement("leak", f"In {case.name}, {what}.", {})


def _limit_write(case: Case) -> Iterator[Statement]:
    growth = case.growth
    if growth is None:
        return
    wanted = _with_margin(growth.highest_bytes)
    yield Statement(
        "raise",
        f"The limit was set below what it needed. Set it to {exact_size(wanted)}{_command(case, wanted)} "
        "or more: "
        f"{_RULE} ({format_size(growth.highest_bytes)}).",
        {"highest_bytes": growth.highest_bytes, "wanted_bytes": wanted},
    )


def _by_consumer(case: Case) -> Iterator[Statement]:
    composition, limit = case.composition, case.limit
    if composition is None or case.is_stale:
        return
    parts = composition.breakdown
    if case.consumer is Consumer.SHMEM and limit is not None:
        room = limit.limit_bytes - (parts.anon_bytes or 0) - (parts.kernel_bytes or 0)
        yield Statement(
            "tmpfs",
            "Bound what is in memory as files (docker run --tmpfs ...:size=, --shm-size; sizeLimit of an "
            "emptyDir "
            f"in memory): beside its processes there is room for {format_size(max(0, room))}.",
            {
                "room_bytes": max(0, room),
                "limit_bytes": limit.limit_bytes,
                "anon_bytes": parts.anon_bytes or 0,
                "kernel_bytes": parts.kernel_bytes or 0,
            },
        )
    busy = (parts.file_dirty_bytes or 0) + (parts.file_writeback_bytes or 0)
    if busy >= composition.usage_bytes / 4:
        yield Statement(
            "dirty",
            f"{format_size(busy)} waited to be written to a disk that is slower than its writers: let it "
            "write "
            "with O_DIRECT or fsync more often, or bound its rate.",
            {"dirty_bytes": busy},
        )


def _with_margin(size_bytes: int) -> int:
    """Round up to MiB, as people set limits."""
    return math.ceil(size_bytes * _MARGIN / _MEBIBYTE) * _MEBIBYTE


def _command(case: Case, size_bytes: int) -> str:
    """Return how Docker is told; it refuses a limit above the one of memory and swap together."""
    if not case.is_docker:
        return ""
    last = case.evidence.holder.last if case.evidence and case.evidence.holder else None
    swap_bytes = last.swap_room_bytes if last else None
    both = "" if swap_bytes is None else f" --memory-swap {_as_docker_has_it(size_bytes + swap_bytes)}"
    return f" (docker update --memory {_as_docker_has_it(size_bytes)}{both} {case.name})"


def _as_docker_has_it(size_bytes: int) -> str:
    return f"{size_bytes}" if size_bytes % _MEBIBYTE else f"{size_bytes // _MEBIBYTE}m"
