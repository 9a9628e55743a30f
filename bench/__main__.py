"""Measure what cgwatch costs on this machine, and print it beside what it aims at."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import click
import msgspec

from bench.native import NativeError
from bench.process import AgentError
from bench.runs import Bench, Plan, noise
from bench.subtree import obstacle
from bench.table import table
from cgwatch.cgroup import hierarchy
from cgwatch.errors import CgwatchError
from tests.real.dockerd import RealKernelError


@click.command(help=__doc__)
@click.option("--cgroups", default="100,500", show_default=True, help="Numbers of cgroups to measure with.")
@click.option("--rounds", default=40, show_default=True, help="Ticks and pages to take the median of.")
@click.option("--quick", is_flag=True, help="A few rounds, 15 s of CPU time.")
@click.option("--profile", is_flag=True, help="Say where a tick's time goes, too.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the rows there, too.")
def main(*, cgroups: str, rounds: int, quick: bool, profile: bool, output: Path | None) -> None:
    """Run what was asked for."""
    # Whatever ends the bench, its cgroups and processes go first.
    signal.signal(signal.SIGTERM, _leave)
    plan = Plan(
        rounds=min(rounds, 10) if quick else rounds,
        starts=3 if quick else 5,
        cpu_seconds=15 if quick else 60,
        burn_microseconds=1000 if quick else 2000,
        profile=profile,
    )
    before = noise()
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        bench = Bench(Path(folder), plan)
        try:
            hierarchies = hierarchy.find("/proc", None)
            reason = obstacle(hierarchies)
            if reason is None:
                for count in map(int, cgroups.split(",")):
                    bench.run(hierarchies, count)
            else:
                click.echo(reason)
                bench.run_as_it_is()
        except (CgwatchError, NativeError, AgentError, RealKernelError) as error:
            sys.exit(f"bench: {error}")
        finally:
            click.echo(f"before: {before}\nafter: {noise()}\nkernel: {os.uname().release}\n")
            click.echo(table(bench.rows))
            if output is not None:
                output.write_bytes(msgspec.json.format(msgspec.json.encode(bench.rows)))


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit("bench: terminated")


if __name__ == "__main__":
    main()
