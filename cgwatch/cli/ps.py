"""``cgwatch ps``."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click
import msgspec

from cgwatch.cli.names import described_by_docker
from cgwatch.cli.options import settings_options
from cgwatch.cli.usage_table import comma_separated, table, wide
from cgwatch.control import client
from cgwatch.errors import AgentUnreachableError
from cgwatch.model import Kind
from cgwatch.settings import KEYS
from cgwatch.usage import Usage, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cgwatch.errors import KernelFileError
    from cgwatch.settings import Settings

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
        click.echo(comma_separated(rows), nl=False)
    else:
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        click.echo("\n".join(wide(rows) if output == "wide" else table(rows, columns)))
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
        found = client.fetch_rows(state_dir)
    except AgentUnreachableError as error:
        # Without a socket none is meant to be there; otherwise its user wants to know.
        expected = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        LOG.log(logging.DEBUG if expected else logging.WARNING, "%s", error)
        return None
    return None if found.interval_seconds is None else found.rows  # it has only just started: no rates yet


def _sampled(settings: Settings, interval_seconds: float) -> tuple[Usage, ...]:
    from cgwatch.assembly import open_sampler  # noqa: PLC0415 - with the HTTP server, which an agent has loaded

    failures: list[KernelFileError] = []
    sampler, _ = open_sampler(settings, failures.append)
    try:
        sampler.sample(0)  # opens the files, so that the next two take the same time
        sampler.describe(described_by_docker(settings.discovery.docker))
        before = sampler.sample(1)
        time.sleep(max(0.0, before.monotonic_seconds + interval_seconds - time.monotonic()))
        after = sampler.sample(2)
    finally:
        sampler.close()
    for path, problem in {failure.path: failure.problem for failure in failures}.items():
        LOG.warning("a kernel file could not be read", extra={"path": path, "problem": problem})
    return listing(before, after).rows
