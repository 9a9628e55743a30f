"""``cgwatch ps``."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec import Struct, structs

from cgwatch import control
from cgwatch.cli.options import settings_options
from cgwatch.errors import AgentUnreachableError
from cgwatch.model import Description, Kind, Runtime
from cgwatch.settings import KEYS
from cgwatch.units import format_count, format_size
from cgwatch.usage import Usage, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cgwatch.errors import KernelFileError
    from cgwatch.settings import Docker, Settings

LOG = logging.getLogger(__name__)

_SORTS: dict[str, Callable[[Usage], float | None]] = {
    "cpu": lambda row: row.cpu_ratio,
    "memory": lambda row: row.memory_used_bytes,
    "net": lambda row: _sum(row.network_receive_bytes_total, row.network_transmit_bytes_total),
    "io": lambda row: _sum(row.block_read_bytes_total, row.block_written_bytes_total),
    "pids": lambda row: row.pids,
    "throttled": lambda row: row.throttled_ratio,
}


@click.command()
@click.option(
    "--all", "everything", is_flag=True, help="Pods, systemd units, other cgroups and the root, too."
)
@click.option(
    "--sort",
    type=click.Choice(["name", *_SORTS]),
    default="name",
    show_default=True,
    help="By name, or by what is shown in that column, largest first.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "wide", "json", "csv"]),
    default="table",
    show_default=True,
    help="json and csv have every number as it is, with its unit in its name.",
)
@click.option("--no-agent", is_flag=True, help="Take two samples here, even where an agent runs.")
@click.option(
    "-i",
    "--interval",
    default="1s",
    show_default=True,
    help="Between the two samples where no agent answers; an agent has an interval of its own.",
)
@settings_options
def ps(
    settings: Settings, *, everything: bool, sort: str, output: str, no_agent: bool, interval: str
) -> None:
    """Show containers and what they use, like "docker stats --no-stream".

    Rates come from a running agent's last two samples, or from two of our own. "--" is what the kernel does
    not say. MEM USAGE is without the inactive page cache; THROTTLED are the periods of the CPU quota in which
    it was used up.
    """
    seconds = msgspec.convert(KEYS["sampling.interval"].read(interval, "--interval"), float)
    found = None if no_agent else _from_agent(settings.state_dir)
    if found is None:
        found = _sampled(settings, seconds)
    rows = _sorted([row for row in found if everything or row.kind is Kind.CONTAINER], sort)
    if output == "json":
        click.echo(json.dumps(msgspec.to_builtins(rows), indent=2))
    elif output == "csv":
        click.echo(_csv(rows), nl=False)
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo("\n".join(_wide(rows) if output == "wide" else _table(rows, columns)))
        if not rows:
            click.echo("cgwatch: no container runs here; --all shows pods, units and other cgroups", err=True)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def _sorted(rows: Sequence[Usage], sort: str) -> list[Usage]:
    by_name = sorted(rows, key=lambda row: (row.name, row.cgroup))
    if sort == "name":
        return by_name
    number = _SORTS[sort]
    return sorted(by_name, key=lambda row: -1 if (value := number(row)) is None else value, reverse=True)


# Where the rows come from.


def _from_agent(state_dir: str) -> tuple[Usage, ...] | None:
    try:
        found = control.fetch_rows(state_dir)
    except AgentUnreachableError as error:
        # Without a socket none is meant to be there; otherwise its user wants to know.
        expected = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        LOG.log(logging.DEBUG if expected else logging.WARNING, "%s", error)
        return None
    return None if found.interval_seconds is None else found.rows  # it has only just started: no rates yet


def _sampled(settings: Settings, interval_seconds: float) -> tuple[Usage, ...]:
    from cgwatch.agent import open_sampler  # noqa: PLC0415 - with the HTTP server, which an agent has loaded

    failures: list[KernelFileError] = []
    sampler, _ = open_sampler(settings, failures.append)
    try:
        sampler.sample(0)  # opens the files, so that the next two take the same time
        sampler.describe(_described(settings.discovery.docker))
        before = sampler.sample(1)
        time.sleep(max(0.0, before.monotonic_seconds + interval_seconds - time.monotonic()))
        after = sampler.sample(2)
    finally:
        sampler.close()
    for path, problem in {failure.path: failure.problem for failure in failures}.items():
        LOG.warning("a kernel file could not be read", extra={"path": path, "problem": problem})
    return listing(before, after).rows


class _Listed(Struct, frozen=True, rename="pascal"):
    """One element of Docker's ``GET /containers/json``."""

    id: str
    names: tuple[str, ...] | None = None
    image: str | None = None


def _described(docker: Docker) -> dict[str, Description]:
    """Ask Docker once for the names of what runs; what is without a name has its id."""
    path = docker.socket.removeprefix("unix://")
    if not docker.enabled or (path != docker.socket and not Path(path).exists()):
        return {}
    from docker import APIClient  # noqa: PLC0415 - heavy, for those who have a Docker
    from docker.errors import DockerException  # noqa: PLC0415 - the same

    seconds = math.ceil(docker.timeout_seconds)  # what docker's types take
    try:
        with closing(APIClient(docker.socket, version="auto", timeout=seconds)) as client:
            listed = msgspec.convert(client.containers(), list[_Listed])
    except (DockerException, OSError, msgspec.ValidationError) as error:
        LOG.warning(
            "Docker does not tell names; containers have their ids",
            extra={"socket": docker.socket, "problem": str(error)},
        )
        return {}
    return {each.id: _description(each) for each in listed}


def _description(listed: _Listed) -> Description:
    # The other names are links: /other-container/alias.
    name = next((name for name in listed.names or () if name.count("/") == 1), "")
    return Description(Runtime.DOCKER, listed.id, name.removeprefix("/"), listed.image or "", {}, "running")


# How they are shown.


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


def _printable(text: str) -> str:
    """Escape all but ASCII's printable characters, so that a character is a column and nothing else.

    Names come from whoever may make a cgroup: escape sequences of a terminal, line ends, marks that turn the
    direction of what follows.
    """
    return "".join(each if " " <= each <= "~" else each.encode("unicode_escape").decode() for each in text)


_NAME = _Column("NAME", lambda row, _: _cut(_printable(row.name), _LONGEST_NAME), is_text=True)
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
_ID = _Column("CONTAINER ID", lambda row, _: _printable(row.container_id or _UNKNOWN)[:12], is_text=True)
_KIND = _Column("KIND", lambda row, _: row.kind, is_text=True)
_RUNTIME = _Column("RUNTIME", lambda row, _: row.runtime, is_text=True)
_IMAGE = _Column("IMAGE", lambda row, _: _cut(_printable(row.image or _UNKNOWN), _LONGEST_NAME), is_text=True)
_CGROUP = _Column("CGROUP", lambda row, _: _printable(row.cgroup), is_text=True)

_TABLE = (_NAME, _CPU, _MEMORY, _MEMORY_RATIO, _NETWORK, _BLOCK, _PIDS, _THROTTLED)
_WIDE = (
    *(_NAME, _CPU, _MEMORY, _MEMORY_RATIO, _NETWORK, _NETWORK_RATE, _BLOCK, _BLOCK_RATE, _PIDS, _THROTTLED),
    *(_ID, _KIND, _RUNTIME, _IMAGE, _CGROUP),
)


def _wide(rows: Sequence[Usage]) -> Iterator[str]:
    return _aligned(_cells(rows, _WIDE, _FULL), _WIDE)


def _table(rows: Sequence[Usage], terminal_columns: int | None) -> Iterator[str]:
    """Give the lines; on a terminal names are cut where they must be, and on a narrow one numbers as well."""
    cells = _cells(rows, _TABLE, _FULL)
    if terminal_columns is not None:
        longest = max(len(line[0]) for line in cells)
        if _room_for_names(cells, terminal_columns) < min(longest, _USUAL_NAME):
            cells = _cells(rows, _TABLE, _NARROW)
        room = max(_room_for_names(cells, terminal_columns), _LEAST_NAME)
        cells = [(_cut(name, room), *numbers) for name, *numbers in cells]
    return _aligned(cells, _TABLE)


def _cells(rows: Sequence[Usage], columns: Sequence[_Column], style: _Style) -> list[tuple[str, ...]]:
    titles = [column.narrow_title if style is _NARROW else "" for column in columns]
    header = tuple(title or column.title for title, column in zip(titles, columns, strict=True))
    return [header, *(tuple(column.cell(row, style) for column in columns) for row in rows)]


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _room_for_names(cells: Sequence[Sequence[str]], terminal_columns: int) -> int:
    return terminal_columns - sum(len(_GAP) + width for width in _widths(cells)[1:])


def _cut(text: str, length: int) -> str:
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


def _csv(rows: Sequence[Usage]) -> str:
    """One line for each row, whatever its names hold; nothing stands for ``None``."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Usage.__struct_fields__)
    for row in rows:
        values = structs.astuple(row)
        writer.writerow(_printable(value) if isinstance(value, str) else value for value in values)
    return buffer.getvalue()
