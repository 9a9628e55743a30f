"""All limits of one cgroup as a table for people. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cgwatch.cgroup.knob import Per
from cgwatch.cgroup.knobs import knob_of
from cgwatch.cli.changes_table import when
from cgwatch.cli.columns import UNKNOWN, Column, aligned
from cgwatch.cli.limit_text import heading, value_text, wrapped
from cgwatch.cli.usage_table import printable
from cgwatch.limits.view import Limit, View
from cgwatch.model import Owner, Runtime
from cgwatch.units import format_duration

_SHORT_ID = 12
_COLUMNS = (
    Column("LIMIT"),
    Column("CONFIGURED", right=True),
    Column("EFFECTIVE", right=True),
    Column("OF", optional=True, least=8),
    Column("BASELINE", optional=True, right=True),
    Column("LEFT", optional=True, right=True),
    Column("RUNTIME", optional=True, right=True),
    Column("VIA", optional=True),
)


def table(view: View, now_seconds: float, width: int | None) -> Iterator[str]:
    """Give the lines; columns of which nothing is known are left out.

    OF: whose limit is the effective one, if not its own. LEFT: until it is as before.
    """
    yield heading(view.target, width)
    yield f"owner: {printable(_owner(view.target.owner))}"
    shown = [limit for limit in view.limits if not _bounds_nothing(limit)]
    yield from aligned(_COLUMNS, [_cells(limit, view, now_seconds) for limit in shown], width)
    for limit in view.limits:
        if limit.actor is not None:
            yield from wrapped(_who(limit, now_seconds), "  ", width)
    for note in view.notes:
        yield from wrapped(f"note: {note}", "", width)


def _owner(owner: Owner) -> str:
    """Say who made the cgroup, and what for, as far as its path tells."""
    if owner.parent_container_id is not None:
        return f"whoever is in container {owner.parent_container_id[:_SHORT_ID]}"
    if owner.runtime is Runtime.NONE:
        return "nobody that its path tells"
    return f"{owner.runtime} ({owner.unit or owner.kind})"


def _bounds_nothing(limit: Limit) -> bool:
    """Whether it is one of a device that nobody bounds: a machine has many devices."""
    values = {limit.configured, limit.effective, limit.runtime, limit.baseline, limit.override}
    return knob_of(limit.key).per is Per.DEVICE and values <= {math.inf, None}


def _cells(limit: Limit, view: View, now_seconds: float) -> tuple[str, ...]:
    others = limit.effective_path not in {None, view.target.path}
    left = limit.expires_seconds
    return (
        printable(limit.key),
        value_text(limit.key, limit.configured),
        value_text(limit.key, limit.effective),
        printable(limit.effective_path or UNKNOWN) if others else UNKNOWN,
        value_text(limit.key, limit.baseline),
        UNKNOWN if left is None else format_duration(max(0, round(left - now_seconds))),
        value_text(limit.key, limit.runtime),
        limit.via or UNKNOWN,
    )


def _who(limit: Limit, now_seconds: float) -> str:
    actor = limit.actor
    name = f"{actor.name or actor.kind}" if actor else UNKNOWN
    value = value_text(limit.key, limit.override)
    until = "until it is reset"
    if limit.expires_seconds is not None:
        until = f"until {when(limit.expires_seconds, now_seconds)}"
    why = f" ({limit.reason})" if limit.reason else ""
    changed = "" if limit.override == limit.configured else "; somebody else has changed it since"
    return f"{limit.key}: {value} by {name} {until}{why}{changed}"
