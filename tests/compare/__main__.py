"""Hold cgwatch against a real cAdvisor: both watch the same containers, and every series is compared.

Exit status 1 if there is a difference that tests/compare/differences.py does not explain.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import click

from cgwatch.settings import KEYS
from tests.compare.cadvisor import Cadvisor, CadvisorError
from tests.compare.differences import TOLERANCES
from tests.compare.observed import Observed, add_page, nothing_yet
from tests.compare.process import Cost, cpu_seconds, resident_bytes
from tests.compare.report import costs, differences, table, unexplained
from tests.compare.verdict import compare, compare_identities
from tests.real import busy
from tests.real.agent_process import AgentError, AgentProcess
from tests.real.busy import Busy
from tests.real.dockerd import Dockerd, RealKernelError, docker_available
from tests.real.kernel_says import is_v1

_INTERVAL_SECONDS = 1.0
_SETTLE_SECONDS = 30.0


@click.command(help=__doc__)
@click.option(
    "--cadvisor",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="cAdvisor's binary.",
)
@click.option(
    "--seconds", default=20, show_default=True, type=click.IntRange(min=8), help="How long to watch."
)
@click.option("--defaults", is_flag=True, help="Both with the groups that are on by default, not with all.")
def main(*, cadvisor: Path, seconds: int, defaults: bool) -> None:
    """Compare, and print what came out."""
    if reason := docker_available() or busy.no_disk():
        sys.exit(f"compare: {reason}")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="cgwtest-") as folder,
            busy.disk() as disk,
            Dockerd() as docker,
            busy.busy_containers(docker, disk) as containers,
            Cadvisor(
                cadvisor.absolute(), Path(folder), docker.url, interval=_interval(), everything=not defaults
            ) as theirs,
            AgentProcess(docker.url, interval=_interval(), environment=_environment(defaults)) as ours,
        ):
            is_right = _watch(containers, theirs, ours, seconds)
    except (CadvisorError, AgentError, RealKernelError, TimeoutError) as error:
        sys.exit(f"compare: {error}")
    sys.exit(0 if is_right else 1)


def _interval() -> str:
    return f"{_INTERVAL_SECONDS:g}s"


def _environment(defaults: bool) -> dict[str, str]:  # noqa: FBT001 - the flag, passed on
    """Labels as cAdvisor shows them by default, and every group."""
    groups = [key.environment for key in KEYS.values() if key.path.startswith("metrics.groups.")]
    return {"CGWATCH_METRICS_CONTAINER_LABELS": "*"} | dict.fromkeys([] if defaults else groups, "true")


def _watch(containers: Busy, theirs: Cadvisor, ours: AgentProcess, seconds: int) -> bool:
    """Scrape both while the containers work; print what they said, and tell whether all is explained."""
    names = {containers.cgroup(name): name for name in containers.ids}
    _settle(names, theirs, ours)
    processes = (theirs.pid, ours.pid)
    before = [cpu_seconds(pid) for pid in processes]
    began = time.monotonic()
    pages = []
    for number in range(1, int(seconds / _INTERVAL_SECONDS) + 1):
        pages.append((theirs.scrape(), ours.get(accept="text/plain"), time.time()))
        time.sleep(max(0.0, began + number * _INTERVAL_SECONDS - time.monotonic()))
    took = time.monotonic() - began
    spent = [cpu_seconds(pid) - start for pid, start in zip(processes, before, strict=True)]
    held = [resident_bytes(pid) for pid in processes]
    cgroups = {*names, "/", "/docker"}
    sides = nothing_yet(), nothing_yet()
    for one, other, moment in pages:
        add_page(sides[0], one, moment, cgroups)
        add_page(sides[1], other, _own(other, "cgwatch_last_sample_timestamp_seconds"), cgroups)
    parts = zip(spent, held, sides, strict=True)
    used = [Cost(cpu, memory, took, side.samples()) for cpu, memory, side in parts]
    followed = [int(_own(page, "cgwatch_cgroups")) for _, page, _ in pages]
    spent_words = f"{min(followed)} to {max(followed)} cgroups\n{costs(used[0], used[1], len(pages))}"
    return _print(sides, names, spent_words)


def _settle(names: Iterable[str], theirs: Cadvisor, ours: AgentProcess) -> None:
    """Wait until both show every container by its name."""
    wanted = [f'id="{cgroup}",image="' for cgroup in names]
    deadline = time.monotonic() + _SETTLE_SECONDS
    while any(text not in page for text in wanted for page in [theirs.scrape()]):
        if time.monotonic() > deadline:
            raise CadvisorError(f"it does not show all containers after {_SETTLE_SECONDS:g} s")
        time.sleep(0.2)
    ours.wait_for(lambda page: all(page.name_of(cgroup) for cgroup in names))


def _own(page: str, name: str) -> float:
    """Give a number that cgwatch says of itself."""
    lines = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[1])


def _print(sides: tuple[Observed, Observed], names: dict[str, str], spent: str) -> bool:
    rows = compare(*sides, TOLERANCES, skew_seconds=_INTERVAL_SECONDS / 2)
    findings = [*compare_identities(*sides), *(finding for row in rows for finding in row.findings)]
    (about,) = {
        dict(series.labels).get("cadvisorVersion", "") for series in sides[0].of("cadvisor_version_info")
    }
    layout = "v1" if is_v1() else "v2"
    wrong = len(unexplained(findings))
    click.echo(f"cAdvisor {about}, kernel {os.uname().release}, memory on cgroup {layout}\n")
    click.echo(f"{table(rows)}\n\n{differences(findings, names)}\n\n{spent}\n")
    click.echo(f"{len(rows)} families, {len(findings)} differences, {wrong} not explained")
    return not wrong


if __name__ == "__main__":
    main()
