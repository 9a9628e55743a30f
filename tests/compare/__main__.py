"""Hold cgwatch against a real cAdvisor: both watch the same containers, and every series is compared.

Exit status 1 if there is a difference that tests/compare/differences.py does not explain, or a reason there
for a difference that is not.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import click
from msgspec import Struct, structs

from cgwatch.settings import KEYS
from tests.compare.cadvisor import Cadvisor, CadvisorError
from tests.compare.differences import KNOWN, TOLERANCES
from tests.compare.known import Round, reasons
from tests.compare.observed import add_page, nothing_yet
from tests.compare.process import Cost, cpu_seconds, resident_bytes
from tests.compare.report import costs, differences, stale, table, unexplained
from tests.compare.verdict import compare, compare_identities
from tests.real import busy
from tests.real.agent_process import AgentError, AgentProcess
from tests.real.busy import Busy
from tests.real.dockerd import Dockerd, RealKernelError, docker_available
from tests.real.kernel_says import is_v1

_INTERVAL_SECONDS = 1.0
_INTERVAL = f"{_INTERVAL_SECONDS:g}s"
_SETTLE_SECONDS = 60.0
_BUSY_SECONDS = 3.0
"""A value may be as much younger than its page says: beyond, few of both would be left to compare."""


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
@click.option(
    "--round",
    "rounds",
    multiple=True,
    type=click.Choice([one.name.lower() for one in Round]),
    help="How both are configured; all of these, one after the other, unless it is said.",
)
@click.option(
    "--keep",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder for the last pages of both.",
)
def main(*, cadvisor: Path, seconds: int, rounds: tuple[str, ...], keep: Path | None) -> None:
    """Compare, and print what came out."""
    if reason := docker_available() or busy.no_disk():
        sys.exit(f"compare: {reason}")
    wanted = [Round[name.upper()] for name in rounds] or list(Round)
    try:
        with (
            busy.disk() as disk,
            Dockerd() as docker,
            busy.busy_containers(docker, disk) as containers,
        ):
            seen = [_watch(containers, docker.url, cadvisor.absolute(), one, seconds) for one in wanted]
    except (CadvisorError, AgentError, RealKernelError, TimeoutError) as error:
        sys.exit(f"compare: {error}")
    right = [_judge(one) for one in seen]
    if keep:
        for one in seen:
            one.keep(keep)
    sys.exit(0 if all(right) else 1)


class Seen(Struct, frozen=True):
    """What both said and used in one round."""

    current: Round
    names: dict[str, str]
    """What to call the cgroups that are compared, by path."""
    pages: list[tuple[str, str, float]]
    """cAdvisor's, ours, and when."""
    costs: tuple[Cost, Cost]

    def keep(self, folder: Path) -> None:
        """Write the last page of each."""
        for name, text in zip(("cadvisor", "cgwatch"), self.pages[-1][:2], strict=True):
            (folder / f"{self.current.name.lower()}-{name}.txt").write_text(text)


def _watch(containers: Busy, docker_url: str, binary: Path, current: Round, seconds: int) -> Seen:
    """Scrape both while the containers work."""
    names = {containers.cgroup(name): name for name in containers.ids}
    is_everything = current is not Round.DEFAULTS
    with (
        tempfile.TemporaryDirectory(prefix="cgwtest-") as folder,
        Cadvisor(binary, Path(folder), docker_url, interval=_INTERVAL, everything=is_everything) as theirs,
        AgentProcess(docker_url, interval=_INTERVAL, environment=_environment(current)) as ours,
    ):
        _settle(names, theirs, ours)
        processes = (theirs.pid, ours.pid)
        before = [cpu_seconds(pid) for pid in processes]
        began = time.monotonic()
        pages = []
        for number in range(1, int(seconds / _INTERVAL_SECONDS) + 1):
            page = _answer("cAdvisor", theirs.scrape)
            pages.append((page, _answer("cgwatch", lambda: ours.get(accept="text/plain")), time.time()))
            time.sleep(max(0.0, began + number * _INTERVAL_SECONDS - time.monotonic()))
        took = time.monotonic() - began
        used = [
            Cost(cpu_seconds(pid) - start, resident_bytes(pid), took)
            for pid, start in zip(processes, before, strict=True)
        ]
    return Seen(current, {**names, "/": "/", "/docker": "/docker"}, pages, (used[0], used[1]))


def _environment(current: Round) -> dict[str, str]:
    """Labels as cAdvisor shows them by default, its groups, and everything as often as it reads it."""
    groups = [key.environment for key in KEYS.values() if key.path.startswith("metrics.groups.")]
    return {
        "CGWATCH_METRICS_CONTAINER_LABELS": "*",
        "CGWATCH_SAMPLING_PROCESSES_INTERVAL": _INTERVAL,
        "CGWATCH_SAMPLING_SOCKETS_INTERVAL": _INTERVAL,
        **dict.fromkeys([] if current is Round.DEFAULTS else groups, "true"),
        **({"CGWATCH_METRICS_STRICT_CADVISOR": "true"} if current is Round.STRICT else {}),
    }


def _answer(whose: str, scrape: Callable[[], str]) -> str:
    try:
        return scrape()
    except OSError as error:
        raise CadvisorError(f"{whose} does not answer: {error}") from error


def _settle(names: Iterable[str], theirs: Cadvisor, ours: AgentProcess) -> None:
    """Wait until both show every container by its name."""
    wanted = [f'id="{cgroup}",image="' for cgroup in names]
    deadline = time.monotonic() + _SETTLE_SECONDS
    while any(text not in page for text in wanted for page in [theirs.scrape()]):
        if time.monotonic() > deadline:
            raise CadvisorError(f"it does not show all containers after {_SETTLE_SECONDS:g} s")
        time.sleep(0.2)
    ours.wait_for(lambda page: all(page.name_of(cgroup) for cgroup in names))


def _longest_seconds(seen: Seen) -> float:
    """Give how long we took to sample, at most: a value is as much younger than its page says."""
    spent = [_own(page, "cgwatch_sample_duration_seconds_sum") for _, page, _ in seen.pages]
    return max((after - before for before, after in pairwise(spent)), default=0)


def _own(page: str, name: str) -> float:
    """Give a number that cgwatch says of itself."""
    lines = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[1])


def _judge(seen: Seen) -> bool:
    """Print what both said, and tell whether all of it is explained."""
    longest_seconds = _longest_seconds(seen)
    if longest_seconds > _BUSY_SECONDS:
        click.echo(
            f"{seen.current}: a sample took {longest_seconds:.1f} s; try again when less is going on here"
        )
        return False
    sides = nothing_yet(), nothing_yet()
    for one, other, moment in seen.pages:
        add_page(sides[0], one, moment, seen.names)
        add_page(sides[1], other, _own(other, "cgwatch_last_sample_timestamp_seconds"), seen.names)
    rows = compare(*sides, TOLERANCES, skew_seconds=_INTERVAL_SECONDS / 2 + longest_seconds)
    findings = [*compare_identities(*sides), *(finding for row in rows for finding in row.findings)]
    holding = reasons(KNOWN, seen.current)
    wrong = len(unexplained(findings, holding))
    old = holding.stale(findings, {row.family for row in rows})
    (about,) = {
        dict(series.labels).get("cadvisorVersion", "") for series in sides[0].of("cadvisor_version_info")
    }
    layout = "v1" if is_v1() else "v2"
    click.echo(f"{seen.current}: cAdvisor {about}, kernel {os.uname().release}, memory on cgroup {layout}\n")
    click.echo(f"{table(rows, holding)}\n\n{differences(findings, holding)}\n{stale(old)}\n")
    theirs, ours = (
        structs.replace(cost, samples=side.samples()) for cost, side in zip(seen.costs, sides, strict=True)
    )
    followed = [int(_own(page, "cgwatch_cgroups")) for _, page, _ in seen.pages]
    click.echo(f"{min(followed)} to {max(followed)} cgroups\n{costs(theirs, ours, len(seen.pages))}\n")
    click.echo(
        f"{seen.current}: {len(rows)} families, {len(findings)} differences, {wrong} not explained,"
        f" {len(old)} reasons for nothing\n"
    )
    return not wrong and not old


if __name__ == "__main__":
    main()
