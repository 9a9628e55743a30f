"""What an explanation says around a kill: who died, who else used memory, what came before. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from cgwatch.oom.case import Case, moment_of, shortened
from cgwatch.oom.kill import Cause, Scope
from cgwatch.oom.statement import Statement
from cgwatch.oom.words import listed, ordinal, seconds
from cgwatch.units import format_size

_NOTABLE_STALL = 0.05
_REGULAR = 0.2
"""Of the mean: intervals that differ by less are alike."""


def circumstances_of(case: Case) -> Iterator[Statement]:
    """Give what is known around the kill, in the order in which somebody asks for it."""
    for facts in (_died, _around, _again):
        yield from facts(case)


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
            yield from _group(case)
        case _ if _is_only_one(case):
            text = "The victim was the only process there."
        case _:
            text = ""
    if text:
        yield Statement("scope", text, {} if kill.exit_code is None else {"exit_code": kill.exit_code})
    if kill.while_down:
        yield Statement("when", "It happened while cgwatch did not run.", {})


def _group(case: Case) -> Iterator[Statement]:
    victims = {each.victim.pid: each.victim for each in case.together if each.victim is not None}
    largest = max(victims.values(), key=lambda victim: victim.anon_bytes or 0, default=None)
    if largest is not None and largest.anon_bytes is not None and len(victims) > 1:
        yield Statement(
            "group",
            f"Of the {len(victims)} that were killed together the largest was {largest.command} "
            f"({largest.pid}), with {format_size(largest.anon_bytes)} of anonymous memory.",
            {"processes": len(victims), "largest_anon_bytes": largest.anon_bytes},
        )


def _is_only_one(case: Case) -> bool:
    at_kill = case.evidence.at_kill if case.evidence else None
    return at_kill is not None and at_kill.processes_total == 1 and case.kill.cause is not Cause.GLOBAL


def _around(case: Case) -> Iterator[Statement]:
    evidence = case.evidence
    if evidence is None:
        return
    if not case.is_holders_limit and case.largest and (case.limit or case.kill.cause is Cause.GLOBAL):
        shares = [f"{case.called(each)} {format_size(each.usage_bytes)}" for each in case.largest]
        largest = f"the largest {'below that limit' if case.limit else 'on the node'}"
        yield Statement(
            "largest",
            f"At the last sample {largest} were {listed(shares)}."
            if len(shares) > 1
            else f"At the last sample {largest} was {shares[0]}.",
            {each.path: each.usage_bytes for each in case.largest},
        )
    yield from _part_of_growth(case)
    node = evidence.node
    if case.kill.cause is Cause.GLOBAL and node is not None and node.available_bytes is not None:
        yield Statement(
            "node",
            f"The node had {format_size(node.available_bytes)} of {format_size(node.total_bytes)} available "
            "at the last sample.",
            {"available_bytes": node.available_bytes, "total_bytes": node.total_bytes},
        )
    full = evidence.stall.full_avg10_ratio if evidence.stall else None
    if full is not None and full >= _NOTABLE_STALL:
        yield Statement(
            "pressure",
            f"All its tasks waited for memory {full:.0%} of the ten seconds before: it was slow already.",
            {"full_avg10_ratio": full},
        )


def _part_of_growth(case: Case) -> Iterator[Statement]:
    """Under a limit above: how much of what grew there was the holder's."""
    mine, all_of_it = case.holders_growth, case.growth
    if mine is None or all_of_it is None or case.limit is None or case.is_holders_limit:
        return
    yield Statement(
        "part",
        f"{shortened(case.name)} itself went from {format_size(mine.first_bytes)} to "
        f"{format_size(mine.last_bytes)} in the {seconds(mine.window_seconds)} before.",
        {
            "own_first_bytes": mine.first_bytes,
            "own_last_bytes": mine.last_bytes,
            "own_window_seconds": mine.window_seconds,
        },
    )


def _again(case: Case) -> Iterator[Statement]:
    if not case.before:
        return
    times = [case.moment_seconds, *map(moment_of, case.before)]
    ago, span = max(0.0, times[0] - times[1]), max(0.0, times[0] - min(times))
    gaps = [later - earlier for later, earlier in pairwise(times)]
    mean = span / len(gaps)
    numbers = {"kills": len(times), "since_last_seconds": ago, "since_first_seconds": span}
    text = f"It is the {ordinal(len(times))} kill of it that is stored"
    if len(gaps) > 1 and mean >= 1 and all(abs(gap - mean) <= _REGULAR * mean for gap in gaps):
        numbers["interval_seconds"] = mean
        text += f": one about every {seconds(mean)}."
    else:
        before = f"{seconds(ago)} earlier" if ago >= 1 else "in the same second"
        text += f"; the one before was {before}"
        text += f", the first {seconds(span)}." if len(gaps) > 1 and span >= 1 else "."
    yield Statement("repeats", text, numbers)
