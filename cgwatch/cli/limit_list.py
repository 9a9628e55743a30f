"""``--list``: every limit that there is, from the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import click

from cgwatch.cgroup.knob import V2, Knob
from cgwatch.cgroup.knobs import KNOBS
from cgwatch.cli.columns import UNKNOWN, Column, aligned, terminal_columns

P = ParamSpec("P")
R = TypeVar("R")

_COLUMNS = (
    Column("LIMIT", least=16),
    Column("UNIT"),
    Column("CGROUP V2"),
    Column("CGROUP V1", least=16),
    Column("FLAG", optional=True),
)


def list_option(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb ``--list``, which shows all limits and ends."""

    def show(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
        if value and not context.resilient_parsing:
            click.echo("\n".join(lines(terminal_columns())))
            context.exit()

    return click.option(
        "--list",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show every limit that there is, and end.",
    )(verb)


def lines(width: int | None) -> Iterator[str]:
    """Give the table of limits, with an example where a device or a size belongs to the name."""
    return aligned(_COLUMNS, [_row(knob) for knob in KNOBS], width)


def _row(knob: Knob) -> tuple[str, ...]:
    return (
        knob.key.replace("DEVICE", "8:0").replace("SIZE", "2MB"),
        knob.unit,
        _file(knob, V2),
        _file(knob, 1),
        " ".join(knob.flags) or UNKNOWN,
    )


def _file(knob: Knob, version: int) -> str:
    place = knob.place(version)
    return place.file.replace("SIZE", "2MB") if place else UNKNOWN
