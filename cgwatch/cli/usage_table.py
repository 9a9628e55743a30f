"""Rows of ``cgwatch ps`` as a table for people, or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct, structs

from cgwatch.units import format_count, format_size
from cgwatch.usage import Usage


class _Style(Struct, frozen=True):
    """How numbers are written."""

    percent: str
    between: str
    memory: Callable[[float], str]
    traffic: Callable[[float], str]


class _Column(Struct, frozen=True):
    """One column of a table."""

    title: str
    cell: Callable[[Usage, _Style], str]
    narrow_title: str = ""
    is_text: bool = False


def _three_digits(value: float) -> str:
    return format_count(float(f"{value:.3g}"))


# As docker stats writes them.
_FULL = _Style(".2%", " / ", format_size, lambda value: f"{_three_digits(value)}B")
_NARROW = _Style(".1%", "/", lambda value: format_size(value).removesuffix("iB"), _three_digits)

_UNKNOWN = "--"
_GAP = "  "
_LEAST_NAME = 8
_USUAL_NAME = 16
_LONGEST_NAME = 255
"""As that of a file; a cgroup's path may be longer, and the column CGROUP shows all of it."""


def _ratio(value: float | None, style: _Style) -> str:
    return _UNKNOWN if value is None else format(value, style.percent)


def _pair(one: float | None, other: float | None, style: _Style, written: Callable[[float], str]) -> str:
    if one is None and other is None:
        return _UNKNOWN
    return style.between.join(_UNKNOWN if value is None else written(value) for value in (one, other))


def printable(text: str) -> str:
    """Escape all but ASCII's printable characters, so that a character is a column and nothing else.

    Names come from whoever may make a cgroup: escape sequences of a terminal, line ends, marks that turn the
    direction of what follows.
    """
    return "".join(each if " " <= each <= "~" else each.encode("unicode_escape").decode() for each in text)


_NAME = _Column("NAME", lambda row, _: cut(printable(row.name), _LONGEST_NAME), is_text=True)
_CPU = _Column("CPU %", lambda row, style: _ratio(row.cpu_ratio, style))
_MEMORY = _Column(
    "MEM USAGE / LIMIT",
    lambda row, style: _pair(row.memory_used_bytes, row.memory_ceiling_bytes, style, style.memory),
    "MEM/LIMIT",
)
_MEMORY_RATIO = _Column("MEM %", lambda row, style: _ratio(row.memory_ratio, style))
_NETWORK = _Column(
    "NET I/O",
    lambda row, style: _pair(
        row.network_receive_bytes_total, row.network_transmit_bytes_total, style, style.traffic
    ),
)
_BLOCK = _Column(
    "BLOCK I/O",
    lambda row, style: _pair(row.block_read_bytes_total, row.block_written_bytes_total, style, style.traffic),
)
_PIDS = _Column("PIDS", lambda row, _: _UNKNOWN if row.pids is None else str(row.pids))
_THROTTLED = _Column("THROTTLED", lambda row, style: _ratio(row.throttled_ratio, style), "THR %")
_NETWORK_RATE = _Column(
    "NET I/O PER S",
    lambda row, style: _pair(
        row.network_receive_bytes_per_second, row.network_transmit_bytes_per_second, style, style.traffic
    ),
)
_BLOCK_RATE = _Column(
    "BLOCK I/O PER S",
    lambda row, style: _pair(
        row.block_read_bytes_per_second, row.block_written_bytes_per_second, style, style.traffic
    ),
)
_ID = _Column("CONTAINER ID", lambda row, _: printable(row.container_id or _UNKNOWN)[:12], is_text=True)
_KIND = _Column("KIND", lambda row, _: row.kind, is_text=True)
_RUNTIME = _Column("RUNTIME", lambda row, _: row.runtime, is_text=True)
_IMAGE = _Column("IMAGE", lambda row, _: cut(printable(row.image or _UNKNOWN), _LONGEST_NAME), is_text=True)
_CGROUP = _Column("CGROUP", lambda row, _: printable(row.cgroup), is_text=True)

_TABLE = (_NAME, _CPU, _MEMORY, _MEMORY_RATIO, _NETWORK, _BLOCK, _PIDS, _THROTTLED)
_WIDE = (
    *(_NAME, _CPU, _MEMORY, _MEMORY_RATIO, _NETWORK, _NETWORK_RATE, _BLOCK, _BLOCK_RATE, _PIDS, _THROTTLED),
    *(_ID, _KIND, _RUNTIME, _IMAGE, _CGROUP),
)


def wide(rows: Sequence[Usage]) -> Iterator[str]:
    """Give the lines with every column, however long they get."""
    return _aligned(_cells(rows, _WIDE, _FULL), _WIDE)


def table(rows: Sequence[Usage], terminal_columns: int | None) -> Iterator[str]:
    """Give the lines; on a terminal names are cut where they must be, and on a narrow one numbers as well."""
    cells = _cells(rows, _TABLE, _FULL)
    if terminal_columns is not None:
        longest = max(len(line[0]) for line in cells)
        if _room_for_names(cells, terminal_columns) < min(longest, _USUAL_NAME):
            cells = _cells(rows, _TABLE, _NARROW)
        room = max(_room_for_names(cells, terminal_columns), _LEAST_NAME)
        cells = [(cut(name, room), *numbers) for name, *numbers in cells]
    return _aligned(cells, _TABLE)


def _cells(rows: Sequence[Usage], columns: Sequence[_Column], style: _Style) -> list[tuple[str, ...]]:
    titles = [column.narrow_title if style is _NARROW else "" for column in columns]
    header = tuple(title or column.title for title, column in zip(titles, columns, strict=True))
    return [header, *(tuple(column.cell(row, style) for column in columns) for row in rows)]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _room_for_names(cells: Sequence[Sequence[str]], terminal_columns: int) -> int:
    return terminal_columns - sum(len(_GAP) + width for width in _widths(cells)[1:])


def cut(text: str, length: int) -> str:
    """Take out the middle: names of one project begin alike, and those of one program end alike."""
    if len(text) <= length:
        return text
    kept = length - 2
    return f"{text[: kept - kept // 2]}..{text[len(text) - kept // 2 :]}"


def _aligned(cells: Sequence[Sequence[str]], columns: Sequence[_Column]) -> Iterator[str]:
    widths = _widths(cells)
    for line in cells:
        yield _GAP.join(
            text.ljust(width) if column.is_text else text.rjust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()


def comma_separated(rows: Sequence[Usage]) -> str:
    """One line for each row, whatever its names hold; nothing stands for ``None``."""
    return csv_lines([Usage.__struct_fields__, *map(structs.astuple, rows)])


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Write rows as CSV, each on a line of its own; nothing stands for ``None``."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow(printable(value) if isinstance(value, str) else value for value in row)
    return buffer.getvalue()
