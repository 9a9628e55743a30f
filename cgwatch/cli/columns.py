"""Tables of text that fit a terminal: columns are cut in the middle, or left out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from msgspec import Struct

from cgwatch.cli.usage_table import cut

UNKNOWN = "--"
_GAP = "  "


class Column(Struct, frozen=True):
    """One column."""

    title: str
    right: bool = False
    """Numbers."""
    least: int | None = None
    """It may be cut down to that many characters; ``None``: never."""
    optional: bool = False
    """It is left out where cutting is not enough, the last such column first, and where nothing is known."""


def terminal_columns(stream: TextIO | None = None) -> int | None:
    """How wide standard output, or another stream, is; ``None``: it is no terminal."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def aligned(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None, indent: str = ""
) -> Iterator[str]:
    """Give the lines, titles first, of at most ``width`` characters as far as that is possible.

    The cells are printable already. An optional column without anything known in it is left out.
    """
    shown = [
        at
        for at, column in enumerate(columns)
        if not column.optional or any(row[at] not in ("", UNKNOWN) for row in rows)
    ]
    while width is not None and _least(columns, rows, shown) + len(indent) > width:
        droppable = [at for at in shown if columns[at].optional]
        if not droppable:
            break
        shown.remove(droppable[-1])
    widths = _fitted(columns, rows, shown, None if width is None else width - len(indent))
    titles = [column.title for column in columns]
    for row in (titles, *rows):
        cells = (
            text.rjust(widths[at]) if columns[at].right else text.ljust(widths[at])
            for at, text in ((at, cut(row[at], widths[at])) for at in shown)
        )
        yield indent + _GAP.join(cells).rstrip()


def _full(columns: Sequence[Column], rows: Sequence[Sequence[str]], at: int) -> int:
    return max(len(columns[at].title), *(len(row[at]) for row in rows), 0)


def _least(columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Sequence[int]) -> int:
    sizes = (_narrowest(columns, rows, at) for at in shown)
    return sum(sizes) + len(_GAP) * (len(shown) - 1)


def _narrowest(columns: Sequence[Column], rows: Sequence[Sequence[str]], at: int) -> int:
    full, least = _full(columns, rows, at), columns[at].least
    return full if least is None else min(full, max(least, len(columns[at].title)))


def _fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Sequence[int], width: int | None
) -> dict[int, int]:
    widths = {at: _full(columns, rows, at) for at in shown}
    if width is None:
        return widths
    over = sum(widths.values()) + len(_GAP) * (len(shown) - 1) - width
    # The longest gives way first, so that a long path costs a short name nothing.
    for at in sorted(shown, key=lambda at: -widths[at]):
        if over > 0 and columns[at].least is not None:
            given = min(over, widths[at] - _narrowest(columns, rows, at))
            widths[at] -= given
            over -= given
    return widths
