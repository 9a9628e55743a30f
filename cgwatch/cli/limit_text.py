"""What became of a request, as people read it. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knob_values import format_value
from cgwatch.change import Outcome, Report, Result, Step, Target, Via
from cgwatch.cli.columns import UNKNOWN, Column, aligned
from cgwatch.cli.oom_text import local
from cgwatch.cli.usage_table import cut, printable
from cgwatch.errors import UnknownLimitError
from cgwatch.units import format_duration

_PIPE_WIDTH = 100
_LEAST_WIDTH = 40
_DONE = (
    Column("LIMIT"),
    Column("BEFORE", right=True),
    Column("NOW", right=True),
    Column("EFFECTIVE", right=True),
    Column("VIA", optional=True),
    Column("RESULT"),
)
_PLANNED = (
    Column("LIMIT"),
    Column("NOW", right=True),
    Column("THEN", right=True),
    Column("VIA", optional=True),
    Column("RESULT", optional=True),
)


def report_lines(report: Report, width: int | None) -> Iterator[str]:
    """Give what became of one request, or what would become of it."""
    request = report.request
    yield heading(request.target, width)
    outcomes = report.outcomes
    if request.dry_run:
        rows = [_planned(outcome) for outcome in outcomes]
        yield from aligned(_PLANNED, rows, width)
    elif outcomes:
        yield from aligned(_DONE, [_done(outcome) for outcome in outcomes], width)
    for outcome in outcomes:
        for note in _notes(outcome, request.target):
            yield from wrapped(note, "  ", width)
    for warning in report.warnings:
        yield from wrapped(f"warning: {warning}", "", width)
    if not outcomes:
        yield "nothing to do: no limit of it is changed"
    if request.dry_run:
        yield from _steps(report, width)
        yield "nothing was changed (--dry-run)"
    elif report.expires_seconds is not None and request.for_seconds is not None:
        until = local(report.expires_seconds)
        yield f"until {until} ({format_duration(request.for_seconds)}); then it is as before"


def heading(target: Target, width: int | None) -> str:
    """Return who it is, and where; a path that is too long has its ends."""
    name, path = target.name or target.owner.unit, printable(target.path)
    start = f"{printable(name)}  " if name else ""
    return start + (path if width is None else cut(path, max(width - len(start), _LEAST_WIDTH)))


def value_text(key: str, value: Value | None) -> str:
    """Return a limit's value in the notation that people write it in."""
    if value is None:
        return UNKNOWN
    try:
        return printable(format_value(key, value)) or '""'
    except UnknownLimitError:  # of another version of cgwatch
        return printable(str(value))


def result_text(result: Result | None) -> str:
    """Return a result as words; ``None``: it is under way, or was when the machine stopped."""
    if result is None:
        return "under way"
    return str(result).removeprefix("applied_").replace("_", " ")


def _done(outcome: Outcome) -> tuple[str, ...]:
    change = outcome.change
    now = outcome.read_back
    if now is None and outcome.result in {Result.UNCHANGED, Result.REFUSED}:
        now = change.before
    return (
        printable(change.key),
        value_text(change.key, change.before),
        value_text(change.key, now),
        value_text(change.key, outcome.effective),
        _via(outcome),
        result_text(outcome.result),
    )


def _planned(outcome: Outcome) -> tuple[str, ...]:
    change = outcome.change
    plain = outcome.result is Result.DRY_RUN
    return (
        printable(change.key),
        value_text(change.key, change.before),
        value_text(change.key, change.to),
        _via(outcome),
        UNKNOWN if plain else result_text(outcome.result),
    )


def _via(outcome: Outcome) -> str:
    none = outcome.via is Via.AUTO or outcome.result is Result.UNCHANGED
    return UNKNOWN if none else outcome.via


def _notes(outcome: Outcome, target: Target) -> Iterator[str]:
    change = outcome.change
    if change.note:
        yield f"{change.key}: {change.note}"
    if outcome.message:
        yield f"{change.key}: {outcome.message}"
    elif outcome.effective_path not in {None, target.path} and outcome.effective != outcome.read_back:
        holds = value_text(change.key, outcome.effective)
        yield f"{change.key}: {outcome.effective_path} allows only {holds}"


def _steps(report: Report, width: int | None) -> Iterator[str]:
    if not report.steps:
        return
    yield "steps:"
    for number, step in enumerate(report.steps, start=1):
        yield from wrapped(_step(step, report), f"  {number}. ", width)


def _step(step: Step, report: Report) -> str:
    target = report.request.target
    known = {outcome.change.key: outcome.via for outcome in report.outcomes}
    # A step that goes with a change, and changes nothing itself, goes by the same way.
    ways = {known[key] for key in step.keys if key in known} or set(known.values()) - {Via.AUTO}
    who = " ".join(sorted(ways - {Via.CGROUPFS}))
    where = "" if step.path == target.path else f" of {step.path}"
    waits = f", then wait for {step.waits_for}" if step.waits_for else ""
    undone = "" if step.undo is None else f" (undone by {step.undo.strip()!r})"
    verb = f"let {who} write" if who else "write"
    return f"{verb} {step.text.strip()!r} to {step.file}{where}{waits}{undone}"


def wrapped(text: str, start: str, width: int | None) -> list[str]:
    """Return a text of anybody's as lines that fit, where words allow."""
    return textwrap.wrap(
        printable(text),
        max(width or _PIPE_WIDTH, _LEAST_WIDTH),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
