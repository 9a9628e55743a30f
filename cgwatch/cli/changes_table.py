"""The audit log of limits as a table for people, or as CSV. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cgwatch.change import ActorKind
from cgwatch.cli.columns import UNKNOWN, Column, aligned
from cgwatch.cli.limit_text import result_text, value_text
from cgwatch.cli.oom_text import iso
from cgwatch.cli.usage_table import csv_lines, cut, printable
from cgwatch.limits.record import Entry
from cgwatch.limits.wire import builtins
from cgwatch.units import format_duration

_LONGEST = 255
_COLUMNS = (
    Column("NUMBER", right=True),
    Column("WHEN"),
    Column("CONTAINER", least=8),
    Column("LIMIT"),
    Column("FROM", right=True),
    Column("TO", right=True),
    Column("RESULT"),
    Column("BY", least=4, optional=True),
    Column("FOR", optional=True),
    Column("VIA", optional=True),
    Column("REASON", least=8, optional=True),
)


def table(entries: Sequence[Entry], now_seconds: float, width: int | None) -> Iterator[str]:
    """Give the lines; where the terminal is narrow, what matters less is left out."""
    return aligned(_COLUMNS, [_cells(entry, now_seconds) for entry in entries], width)


def _cells(entry: Entry, now_seconds: float) -> tuple[str, ...]:
    change, outcome, target = entry.change, entry.outcome, entry.target
    now = outcome.read_back if outcome and outcome.read_back is not None else change.to
    return (
        str(entry.number),
        when(entry.seconds, now_seconds),
        cut(printable(target.name or target.path), _LONGEST),
        printable(change.key),
        value_text(change.key, change.before),
        value_text(change.key, now),
        result_text(outcome.result if outcome else None),
        cut(printable(_who(entry)), _LONGEST),
        UNKNOWN if entry.for_seconds is None else format_duration(entry.for_seconds),
        str(outcome.via) if outcome else UNKNOWN,
        cut(printable(entry.reason), _LONGEST) or UNKNOWN,
    )


def when(seconds: float, now_seconds: float) -> str:
    """Return a time in the local zone, of today without the day."""
    then, now = datetime.fromtimestamp(seconds).astimezone(), datetime.fromtimestamp(now_seconds).astimezone()
    return then.strftime("%H:%M:%S" if then.date() == now.date() else "%Y-%m-%d %H:%M")


def _who(entry: Entry) -> str:
    actor = entry.actor
    return (
        actor.name if actor.kind is ActorKind.COMMAND and actor.name else f"{actor.kind} {actor.name}".strip()
    )


def row(entry: Entry) -> dict[str, object]:
    """Return an entry as one flat row: values as the kernel has them, times as ISO 8601."""
    change, outcome, target, actor = entry.change, entry.outcome, entry.target, entry.actor
    return {
        "number": entry.number,
        "report": entry.report,
        "time": iso(entry.seconds),
        "name": target.name,
        "container_id": target.owner.container_id,
        "path": target.path,
        "limit": change.key,
        "before": change.before,
        "asked": change.asked,
        "to": change.to,
        "read_back": outcome.read_back if outcome else None,
        "effective": outcome.effective if outcome else None,
        "effective_path": outcome.effective_path if outcome else None,
        "result": outcome.result if outcome else None,
        "via": outcome.via if outcome else None,
        "duration_seconds": outcome.duration_seconds if outcome else None,
        "for_seconds": entry.for_seconds,
        "actor": actor.kind,
        "actor_name": actor.name,
        "actor_user_id": actor.user_id,
        "reason": entry.reason,
        "message": outcome.message if outcome else None,
    }


_TITLES = (
    *(
        "number",
        "report",
        "time",
        "name",
        "container_id",
        "path",
        "limit",
        "before",
        "asked",
        "to",
        "read_back",
    ),
    *(
        "effective",
        "effective_path",
        "result",
        "via",
        "duration_seconds",
        "for_seconds",
        "actor",
        "actor_name",
    ),
    *("actor_user_id", "reason", "message"),
)


def comma_separated(entries: Sequence[Entry]) -> str:
    """Return one line for each entry, whatever its names hold; nothing stands for ``None``."""
    rows = [builtins(row(entry)) for entry in entries]
    return csv_lines([_TITLES, *([each[title] for title in _TITLES] for each in rows)])
