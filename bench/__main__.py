"""Measure what cgwatch costs on this machine, and print it beside what it aims at."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import click
import msgspec
from msgspec import Struct

from bench import uml
from bench.agent import AgentError
from bench.client import ScrapeError
from bench.clock import finest
from bench.native import NativeError
from bench.runs import PARTS, Bench, Plan, noise
from bench.sheet import Sheet
from bench.subtree import obstacle
from bench.table import Row, markdown, table
from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.errors import CgwatchError
from tests.compare.cadvisor import CadvisorError
from tests.real.dockerd import RealKernelError

_KILLS = 300


class Options(Struct, frozen=True):
    """The command line."""

    cgroups: str
    rounds: int
    seconds: float
    quick: bool
    only: str
    profile: bool
    cadvisor: Path | None
    intervals: str
    disk: str
    in_uml: bool
    uml_memory: str
    uml_minutes: float
    output: Path | None
    earlier: tuple[Path, ...]
    markdown: bool

    def plan(self) -> Plan:
        """Return what to measure."""
        return Plan(
            rounds=min(self.rounds, 10) if self.quick else self.rounds,
            starts=3 if self.quick else 5,
            seconds=min(self.seconds, 15) if self.quick else self.seconds,
            kills=_KILLS // 3 if self.quick else _KILLS,
            profile=self.profile,
            parts=frozenset(self.only.split(",")),
            cadvisor=self.cadvisor,
            intervals=tuple(float(seconds) for seconds in self.intervals.split(",")),
            disk=self.disk,
        )

    def arguments(self) -> list[str]:
        """Return what a bench inside another kernel is to be told."""
        words = [f"--cgroups={self.cgroups}", f"--rounds={self.rounds}", f"--seconds={self.seconds:g}"]
        words += [f"--only={self.only}", f"--intervals={self.intervals}"]
        words += [f"--cadvisor={self.cadvisor.absolute()}"] if self.cadvisor else []
        return words + ["--quick"] * self.quick + ["--profile"] * self.profile


FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(help=__doc__)
@click.option(
    "--cgroups", default="100,500,2000", show_default=True, help="Numbers of cgroups to measure with."
)
@click.option(
    "--rounds", default=40, show_default=True, help="Ticks, pages, scrapes and writes to take the median of."
)
@click.option("--seconds", default=60.0, show_default=True, help="Length of each window of CPU time.")
@click.option("--quick", is_flag=True, help="At most 10 rounds and windows of 15 s.")
@click.option("--only", default=",".join(PARTS), show_default=True, help="What to measure.")
@click.option("--profile", is_flag=True, help="Say where a tick's time goes, too.")
@click.option("--cadvisor", type=FILE, help="A cAdvisor binary to measure on the same cgroups.")
@click.option("--intervals", default="1,5", show_default=True, help="Seconds, for cgwatch beside cAdvisor.")
@click.option(
    "--disk", default="", help="A block device for the containers to WRITE OVER; default: a loop device."
)
@click.option("--uml", "in_uml", is_flag=True, help="Measure on cgroup v2, inside User Mode Linux.")
@click.option("--uml-memory", default="6G", show_default=True, help="How much memory that machine has.")
@click.option("--uml-minutes", default=90.0, show_default=True, help="How long that machine may run.")
@click.option("--json", "output", type=FILE, help="Write the rows there, too.")
@click.option("--with", "earlier", type=FILE, multiple=True, help="Rows of an earlier run, for the tables.")
@click.option("--markdown", is_flag=True, help="Print the README's table, too.")
def main(**given: Any) -> None:  # noqa: ANN401 - what click parsed, by name
    """Run what was asked for."""
    # Whatever ends the bench, its cgroups and processes go first.
    signal.signal(signal.SIGTERM, _leave)
    options = Options(**given)
    rows = [row for path in options.earlier for row in msgspec.json.decode(path.read_bytes(), type=list[Row])]
    before = noise()
    found: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
            (_in_uml if options.in_uml else _here)(options, Path(folder), found)
    except (CgwatchError, NativeError, AgentError, ScrapeError, CadvisorError, RealKernelError) as error:
        sys.exit(f"bench: {error}")
    finally:
        click.echo(f"before: {before}\nafter: {noise()}\nkernel: {os.uname().release}\n")
        click.echo(table(rows + found))
        if options.markdown:
            click.echo(f"\n{markdown(rows + found)}")
        _save(options, found)


def _here(options: Options, folder: Path, found: list[Row]) -> None:
    plan = options.plan()
    hierarchies = hierarchy.find("/proc", None)
    clock = finest()
    sheet = Sheet("v2" if hierarchies.layout is Layout.V2 else "v1", found)
    sheet.note(f"clock: {clock.name}; CPU time of a process steps by {clock.step_nanoseconds:,} ns")
    bench = Bench(folder, plan, sheet, clock)
    if reason := obstacle():
        sheet.note(reason)
        bench.run_as_it_is()
    else:
        for count in map(int, options.cgroups.split(",")):
            bench.run(hierarchies, count)
            _save(options, found)  # whatever becomes of the next one
        bench.growth()


def _in_uml(options: Options, folder: Path, found: list[Row]) -> None:
    seconds = options.uml_minutes * 60
    click.echo(uml.run(options.arguments(), folder, options.uml_memory, seconds, found), err=True)


def _save(options: Options, found: list[Row]) -> None:
    if options.output is not None:
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit("bench: terminated")


if __name__ == "__main__":
    main()
