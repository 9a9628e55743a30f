"""What a run has found so far."""

from __future__ import annotations

import click
from msgspec import Struct

from bench.table import Row


class Sheet(Struct):
    """The rows of one kernel, told as they come."""

    layout: str
    rows: list[Row] = []

    def add(
        self,
        what: str,
        cgroups: int,
        measured: float,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        headline: bool = False,
    ) -> None:
        """Take one number; a ``headline`` or one with an aim belongs in the README's table."""
        row = Row(
            what,
            cgroups,
            measured,
            unit,
            layout=self.layout,
            headline=headline,
            at_most=at_most,
            at_least=at_least,
        )
        self.rows.append(row)
        click.echo("  ".join(row.cells()), err=True)

    def note(self, text: str) -> None:
        """Say something that is no number."""
        click.echo(text, err=True)

    def points(self, what: str) -> list[tuple[float, float]]:
        """Return what was measured under that name, by the number of cgroups."""
        return [(row.cgroups, row.measured) for row in self.rows if row.what == what]
