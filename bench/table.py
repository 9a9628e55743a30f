"""Rows of numbers, each with what it aims at."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Row(Struct, frozen=True):
    """One number; without an aim it is there to understand the others."""

    what: str
    cgroups: int
    measured: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    layout: str = ""
    """Where: ``v1``, ``v2``."""
    headline: bool = False
    """It belongs in the table of the README."""

    @property
    def passed(self) -> bool | None:
        """Whether the aim is met; ``None`` without one."""
        if self.at_most is not None:
            return self.measured <= self.at_most
        if self.at_least is not None:
            return self.measured >= self.at_least
        return None

    @property
    def aim(self) -> str:
        """The aim in words, empty without one."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}" if self.at_least is not None else ""

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        verdict = {True: "pass", False: "MISS", None: ""}[self.passed]
        where = f"{self.layout} {self.cgroups}".strip()
        return self.what, where, f"{self.measured:.4g}", self.unit, self.aim, verdict


_HEADER = ("what", "cgroups", "measured", "unit", "aim", "")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a plain table."""
    cells = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADER))]
    lines = []
    for line in cells:
        parts = [
            text.rjust(width) if column in (1, 2) else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(rows: Sequence[Row]) -> str:
    """Return the headlines as a Markdown table: a column for each layout and number, misses in bold."""
    shown = [row for row in rows if row.headline or row.passed is not None]
    places = sorted({(row.layout, row.cgroups) for row in shown})
    found = {(row.what, row.layout, row.cgroups): row for row in shown}
    lines = [
        ["", *(f"{layout}, {cgroups:,}".removeprefix(", ") for layout, cgroups in places), "aim"],
        ["---"] * (len(places) + 2),
    ]
    for row in {row.what: row for row in shown}.values():
        here = (found.get((row.what, *place)) for place in places)
        unit = f" ({row.unit})" if row.unit else ""
        lines.append([row.what + unit, *map(_cell, here), row.aim])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    # Three digits say all that such numbers are good for.
    text = f"{row.measured:.3g}" if abs(row.measured) < 1000 else f"{row.measured:,.0f}"  # noqa: PLR2004 - three digits
    return f"**{text}**" if row.passed is False else text
