"""OOM kills as people read them: a table, a record in full, an explanation; and as CSV."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct, structs

from cgwatch.cli.usage_table import csv_lines, cut, printable
from cgwatch.oom.case import moment_of, name_of
from cgwatch.oom.evidence import Evidence, Series
from cgwatch.oom.explain import Explanation
from cgwatch.oom.kill import Cause, OomKill
from cgwatch.units import format_duration, format_size

_GAP = "  "
_UNKNOWN = "--"
_LEAST_NAME = 8
_LONGEST_TEXT = 255
_EPOCH_SECONDS = 1e8
"""Seconds of that many are a time, of fewer a duration."""
_CAUSES = {
    Cause.OWN_LIMIT: "own limit",
    Cause.ANCESTOR_LIMIT: "limit above",
    Cause.GLOBAL: "node",
    Cause.LIMIT_WRITE: "limit write",
    Cause.UNKNOWN: _UNKNOWN,
}
_TITLES = ("NUMBER", "WHEN", "CONTAINER", "CAUSE", "KILLED", "VICTIM")
_NAME_COLUMN = _TITLES.index("CONTAINER")


def local(seconds: float) -> str:
    """Return a time in the local zone, with its offset."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def iso(seconds: float | None) -> str | None:
    """Return a time as programs read it, with the local zone's offset."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


# One line for each kill.


def table(kills: Sequence[OomKill], terminal_columns: int | None) -> Iterator[str]:
    """Give the lines, titles first; on a terminal names are cut where they must be."""
    cells = [_TITLES, *map(_cells, kills)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if terminal_columns is not None:
        room = terminal_columns - sum(widths) - len(_GAP) * (len(widths) - 1) + widths[_NAME_COLUMN]
        widths[_NAME_COLUMN] = min(widths[_NAME_COLUMN], max(room, _LEAST_NAME))
    return (line(each, widths) for each in cells)


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return one line of the table."""
    padded = (
        cut(text, width).ljust(width)
        if at == _NAME_COLUMN
        else text.rjust(width)
        if not at
        else text.ljust(width)
        for at, (text, width) in enumerate(zip(cells, widths, strict=True))
    )
    return _GAP.join(padded).rstrip()


def _cells(kill: OomKill) -> tuple[str, ...]:
    scope = str(kill.scope)
    many = f"{kill.count} kills" if kill.count > 1 else _UNKNOWN
    return (
        str(kill.number),
        local(moment_of(kill)),
        cut(printable(name_of(kill) if kill.holder or kill.path else _UNKNOWN), _LONGEST_TEXT),
        _CAUSES[kill.cause],
        _UNKNOWN if scope == "unknown" else scope,
        printable(kill.victim.command) if kill.victim else many,
    )


def row(kill: OomKill) -> dict[str, object]:
    """Return a kill as one flat row: numbers as they are, times as ISO 8601."""
    holder, victim = kill.holder, kill.victim
    owner = holder.owner if holder else None
    return {
        "number": kill.number,
        "killed": iso(kill.killed_seconds),
        "found": iso(kill.found_seconds),
        "kills": kill.count,
        "name": holder.name if holder else None,
        "container_id": owner.container_id if owner else None,
        "pod_uid": owner.pod_uid if owner else None,
        "image": holder.image if holder else None,
        "runtime": owner.runtime if owner else None,
        "path": kill.path,
        "holder_path": holder.path if holder else None,
        "attributed": kill.attributed,
        "settled": kill.settled,
        "cause": kill.cause,
        "limit_path": kill.limit_path,
        "scope": kill.scope,
        "exit_code": kill.exit_code,
        "victim_pid": victim.pid if victim else None,
        "victim_command": victim.command if victim else None,
        "victim_anon_bytes": victim.anon_bytes if victim else None,
        "victim_file_bytes": victim.file_bytes if victim else None,
        "victim_shmem_bytes": victim.shmem_bytes if victim else None,
        "sources": " ".join(kill.sources),
        "while_down": kill.while_down,
        "boot_id": kill.boot_id,
    }


def comma_separated(kills: Sequence[OomKill], *, titles: bool = True) -> str:
    """Return one line for each kill, whatever its names hold; nothing stands for ``None``."""
    return csv_lines([*([row(_NO_KILL)] if titles else []), *(row(kill).values() for kill in kills)])


_NO_KILL = OomKill(0, "", 0.0, 0.0)
"""Its row has the titles."""


# One kill in full.


def record(kill: OomKill, evidence: Evidence | None) -> Iterator[str]:
    """Give all that is stored of a kill; what is not known is left out."""
    yield from _fields(kill, "")
    if evidence is None:
        yield "evidence: none is stored"
        return
    yield "evidence:"
    yield from _fields(evidence, _GAP)


def _fields(value: Struct, indent: str) -> Iterator[str]:
    for name in value.__struct_fields__:
        part = getattr(value, name)
        if part is None or part == () or part == Series():
            continue
        if isinstance(part, Series):
            yield f"{indent}{_label(name)}:"
            yield from _grid([structs.asdict(point) for point in part.points], indent + _GAP)
        elif isinstance(part, Struct):
            inner = list(_fields(part, indent + _GAP))
            if inner:
                yield f"{indent}{_label(name)}:"
                yield from inner
        elif isinstance(part, tuple) and isinstance(part[0], Struct):
            yield f"{indent}{_label(name)}:"
            yield from _grid([structs.asdict(each) for each in part], indent + _GAP)
        else:
            yield f"{indent}{_label(name)}: {_shown(name, part)}"


def _grid(rows: Sequence[dict[str, object]], indent: str) -> Iterator[str]:
    names = [name for name in rows[0] if any(each[name] is not None for each in rows)] if rows else []
    cells = [[_label(name) for name in names]]
    cells += [
        [_UNKNOWN if each[name] is None else _shown(name, each[name]) for name in names] for each in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for each in cells:
        yield indent + _GAP.join(text.ljust(width) for text, width in zip(each, widths, strict=True)).rstrip()


def _label(name: str) -> str:
    for unit in ("_bytes", "_seconds", "_ratio"):
        name = name.removesuffix(unit)
    return (name or "time").replace("_", " ") if name != "seconds" else "time"


def _shown(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, int | float):
        if name.endswith("_bytes"):
            return format_size(value)
        if name == "seconds" or name.endswith("_seconds"):
            return local(value) if value > _EPOCH_SECONDS else format_duration(max(0.0, value))
        if name.endswith("_ratio"):
            return f"{value:.1%}"
    return printable(str(value))


# Why.


def explanation(said: Explanation, moment: float, width: int) -> Iterator[str]:
    """Give an explanation as lines of at most ``width`` columns where words allow."""
    yield from _wrapped(f"OOM kill {said.number}, {local(moment)}", "", width)
    yield from _wrapped(printable(said.summary), "", width)
    for title, texts in (
        ("What happened", [fact.text for fact in said.facts]),
        ("What to do", [advice.text for advice in said.advice]),
        ("Not known", said.not_known),
    ):
        if texts:
            yield ""
            yield title
        for text in texts:
            yield from _wrapped(printable(text), "- ", width)


def _wrapped(text: str, start: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def builtins(kill: OomKill) -> dict[str, object]:
    """Return a kill as JSON has it: every field by its name, and its times as ISO 8601 as well."""
    fields: dict[str, object] = msgspec.to_builtins(kill)
    return {
        "number": kill.number,
        "killed": iso(kill.killed_seconds),
        "found": iso(kill.found_seconds),
    } | fields
