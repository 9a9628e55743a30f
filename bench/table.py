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

    @property
    def passed(self) -> bool | None:
        """Whether the aim is met; ``None`` without one."""
        if self.at_most is not None:
            return self.measured <= self.at_most
        if self.at_least is not None:
            return self.measured >= self.at_least
        return None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        aim = f"<= {self.at_most:g}" if self.at_most is not None else ""
        aim = f">= {self.at_least:g}" if self.at_least is not None else aim
        verdict = {True: "pass", False: "MISS", None: ""}[self.passed]
        return self.what, str(self.cgroups), f"{self.measured:.4g}", self.unit, aim, verdict


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
