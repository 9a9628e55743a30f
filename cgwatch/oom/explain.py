"""A kill in plain words: facts, verdicts and advice, each sentence with the numbers that it rests on. Pure.

Nothing is guessed: what the evidence does not show is listed as not known, and a conclusion that the kernel
did not state is worded as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from cgwatch.oom.advice import advice_of
from cgwatch.oom.case import Case, Consumer, case_of, shortened
from cgwatch.oom.evidence import Evidence
from cgwatch.oom.facts import facts_of
from cgwatch.oom.kill import Cause, OomKill, Scope
from cgwatch.oom.shape import Shape
from cgwatch.oom.statement import Statement
from cgwatch.oom.words import SHORT_KINDS, pace, seconds
from cgwatch.units import format_size


class Verdicts(Struct, frozen=True):
    """The explanation in words that a program can compare."""

    cause: Cause
    limit_path: str | None
    limit_bytes: int | None
    limit_is_inferred: bool
    consumer: Consumer
    could_reclaim: bool | None
    shape: Shape
    scope: Scope


class Explanation(Struct, frozen=True):
    """What happened, why, and what to do."""

    number: int
    name: str
    summary: str
    verdicts: Verdicts
    facts: tuple[Statement, ...]
    advice: tuple[Statement, ...]
    not_known: tuple[str, ...]
    """What the evidence does not show, and why."""


def explain(kill: OomKill, evidence: Evidence | None, earlier: Sequence[OomKill] = ()) -> Explanation:
    """Explain one kill; ``earlier``: of the same holder, the newest first."""
    case = case_of(kill, evidence, earlier)
    limit = case.limit
    return Explanation(
        number=kill.number,
        name=case.name,
        summary=_summary(case),
        verdicts=Verdicts(
            kill.cause,
            limit.path if limit else kill.limit_path,
            limit.limit_bytes if limit else None,
            case.is_inferred,
            case.consumer,
            case.could_reclaim,
            case.growth.shape if case.growth else Shape.UNKNOWN,
            kill.scope,
        ),
        facts=tuple(facts_of(case)),
        advice=tuple(advice_of(case)),
        not_known=tuple(_not_known(case)),
    )


def _summary(case: Case) -> str:
    kill, limit = case.kill, case.limit
    who = case.name if kill.holder else "a process of this node"
    if kill.cause is Cause.GLOBAL:
        why = "the node ran out of memory"
    elif limit is None:
        why = (
            f"a limit of {shortened(kill.limit_path)} was hit"
            if kill.limit_path
            else "it is not known by whose limit"
        )
    else:
        whose = "its own limit" if case.is_holders_limit else f"the limit of {shortened(limit.path)}"
        why = f"{whose} of {format_size(limit.limit_bytes)} was hit"
        kind = SHORT_KINDS.get(case.consumer)
        why += f" by {kind}" if kind else ""
    return f"{who}: {why}{_how(case)}"


def _how(case: Case) -> str:
    growth = case.growth
    if growth is None or (case.limit is None and case.kill.cause is not Cause.GLOBAL):
        return ""
    match growth.shape:
        case Shape.SPIKE:
            return ", suddenly"
        case Shape.GROWTH if growth.bytes_per_second:
            return f", after steady growth of {pace(growth.bytes_per_second)[1]}"
        case Shape.PLATEAU:
            return f", near which it had been for {seconds(growth.window_seconds)}"
        case _:
            return ""


def _not_known(case: Case) -> Iterator[str]:
    kill, evidence = case.kill, case.evidence
    if kill.holder is None:
        yield "whose process it was: no cgroup's counter, log or runtime told before it was gone"
    if case.limit is None and kill.cause is not Cause.GLOBAL:
        if kill.limit_path:
            yield f"how large the limit of {shortened(kill.limit_path)} was: no sample of it is stored"
        else:
            limits = (evidence.limits if evidence else None) or ()
            listed = ", ".join(f"{shortened(each.path)} {format_size(each.limit_bytes)}" for each in limits)
            yield "whose limit was hit: the kernel's log did not tell" + (
                f"; upon it lay {listed}" if listed else ""
            )
    if kill.victim is None:
        yield "which process was killed: the kernel's log did not tell"
    if kill.scope is Scope.UNKNOWN and case.is_container:
        yield "whether it was the main process"
    if case.composition is None:
        yield "what the memory was: there is no sample from before the kill"
    elif case.is_stale and case.consumer is Consumer.UNKNOWN:
        yield "what filled the memory up to the limit: it came after the last sample"
    if case.growth is None:
        yield "how it grew: there is no sample from before the kill"
