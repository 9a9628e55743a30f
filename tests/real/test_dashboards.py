"""Every expression of the dashboards, asked of a real Prometheus that scrapes a live agent."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from dashboards.generate import promql
from tests.dashboards.boards import BOARDS, VARIABLES, Target, filled_in, targets
from tests.real.agent_process import AgentProcess
from tests.real.busy import BURNER_CPUS, busy_containers, disk, no_disk
from tests.real.dockerd import IMAGE, Dockerd, inside_uml
from tests.real.kernel_says import is_v1
from tests.real.moments import moment_with
from tests.real.needs import require
from tests.real.prometheus import Prometheus
from tests.real.uml import Finished

pytestmark = pytest.mark.real

THROTTLED_CPUS = 0.01
"""What Docker allows at least: used up in each period, however busy the machine is."""
CONTAINERS = {"holder", "burner", "writer", "joined", "host", "throttled", "checked"}
STOPPED = {"ended"}
WITH_MEMORY_LIMIT = {"holder", "writer"}
TARGETS = targets()
MAY_BE_EMPTY = (
    # Series that begin with the first failure.
    r"cgwatch_(read_failures|runtime_api_errors)_total",
    # Of a disk that nobody asks for anything.
    r"container_fs_(read|write)_seconds_total",
)
RUNNING = promql.CONTAINERS + ', state="running"'
READY = (
    f"count({promql.series('container_last_seen', promql.CONTAINERS)}) == {len(CONTAINERS)}",
    f"{promql.throttled_share(promql.CONTAINERS)} > 0.25",
    promql.series("container_health_status", promql.CONTAINERS + ', status="unhealthy"') + " == 1",
    f"count({promql.series('container_state', RUNNING)} == 1) == {len(CONTAINERS)}",
    f"count({promql.series('container_finished_time_seconds', promql.CONTAINERS)}) == {len(STOPPED) + 1}",
    f"{promql.rate('container_restarts_total', promql.CONTAINERS)} >= 0",
    f"{promql.increase('cgwatch_runtime_api_duration_seconds_count', promql.TARGET)} > 0",
    # A rate needs two scrapes of a series, and some series begin with a scrape.
    f"sum_over_time({promql.series('up', promql.TARGET)}[5s]) >= 4",
)


class Asked(Struct, frozen=True):
    """A Prometheus, and the moment that it is asked about."""

    prometheus: Prometheus
    moment_seconds: float

    def answers(self, expr: str, **variables: str) -> list[tuple[dict[str, str], float]]:
        """Give labels and value of each series."""
        query = filled_in(expr, {**VARIABLES, **variables})
        found = self.prometheus.api("query", query=query, time=str(self.moment_seconds))["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def values(self, board: str, panel: str) -> dict[str, float]:
        """Give the values of a panel's first query by container."""
        (target,) = [each for each in TARGETS if (each.board, each.panel, each.ref) == (board, panel, "A")]
        return {labels.get("name", ""): value for labels, value in self.answers(target.expr)}


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


def why_not(target: Target) -> str | None:
    """Say why an expression gives nothing here; None when it must give something."""
    reasons = {"container_cpu_ancestor_": "no cgroup above a container has a CPU quota here"}
    if not Path("/proc/pressure").exists():
        reasons["(container|machine)_pressure_"] = "the kernel has no pressure stall information"
    if _kernel() < ((6, 18) if is_v1() else (6, 6)):
        reasons["container_cpu_local_throttled_"] = "this kernel does not count it yet"
    if is_v1():
        reasons["container_memory_events_high_total"] = "cgroup v1 has no memory.high"
        reasons["container_memory_pg(scan|steal)_total"] = "cgroup v1 does not count it by cgroup"
        reasons["container_memory_(slab|sock|kernel_stack|page_tables|percpu)_"] = "nor these"
    if " cgroup2 " not in Path("/proc/self/mounts").read_text():
        reasons["container_cgroup_"] = "cgroup v1 does not count cgroups"
    return next((why for metric, why in reasons.items() if re.search(metric, target.expr)), None)


@pytest.fixture(scope="module")
def asked(docker: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    require(None if shutil.which("prometheus") else "needs the Debian package prometheus")
    require(no_disk())
    with (
        disk() as folder,
        busy_containers(docker, folder) as busy,
        AgentProcess(docker.url, interval="1s") as agent,
    ):
        # They are removed with the others.
        busy.ids["throttled"] = docker.run(
            "--name=throttled", f"--cpus={THROTTLED_CPUS}", IMAGE, "sh", "-c", "while :; do :; done"
        )
        check = ("--health-cmd=false", "--health-interval=1s", "--health-retries=1")
        busy.ids["checked"] = docker.run("--name=checked", *check, IMAGE, "sleep", "100000")
        busy.ids["ended"] = docker.run("--name=ended", IMAGE, "false")
        host, port = agent.address
        with Prometheus(tmp_path_factory.mktemp("prometheus"), f"{host}:{port}") as prometheus:
            prometheus.wait_for(filled_in(READY[0]), 90)
            # So that the agent asks Docker about it, which takes some time to show.
            docker.docker("restart", "--time=0", "host")
            yield Asked(prometheus, moment_with(prometheus, map(filled_in, READY), 90))


def test_every_expression_gives_numbers_or_there_is_a_reason(asked: Asked) -> None:
    wrong: dict[str, Any] = {}
    for target in TARGETS:
        got = asked.answers(target.expr)
        may_be_empty = any(re.search(metric, target.expr) for metric in MAY_BE_EMPTY)
        right = may_be_empty or bool(got) != bool(why_not(target))
        if not right or not all(math.isfinite(value) for _, value in got):
            wrong[str(target)] = (filled_in(target.expr), why_not(target), got)
    assert not wrong, json.dumps(wrong, indent=2)


def test_series_of_an_expression_are_told_apart_by_its_legend(asked: Asked) -> None:
    for target in TARGETS:
        named = re.findall(r"\{\{(\w+)\}\}", target.legend)
        answers = asked.answers(target.expr)
        if target.legend:
            assert len({tuple(labels.get(name) for name in named) for labels, _ in answers}) == len(
                answers
            ), target


def test_the_rows_of_the_tables_are_the_containers(asked: Asked) -> None:
    for title, names in (
        *(("Containers", CONTAINERS), ("Specification", CONTAINERS), ("State", CONTAINERS | STOPPED)),
    ):
        columns = [asked.answers(target.expr) for target in TARGETS if target.panel == title]
        rows = [[labels["name"] for labels, _ in column] for column in columns]
        assert all(len(set(row)) == len(row) for row in rows)
        assert set().union(*rows) == names
        identities = {tuple(sorted(labels.items())) for column in columns for labels, _ in column}
        assert len(identities) == len(names), "what belongs to one container is one row"


def test_numbers_are_those_of_the_containers(asked: Asked) -> None:
    node = "cgwatch-node"
    assert asked.values(node, "Running containers") == {"": len(CONTAINERS)}
    assert 0 < asked.values(node, "CPU used")[""] <= 1.1
    assert 0 < asked.values(node, "Memory used")[""] < 1
    assert asked.values(node, "Without a memory limit") == {"": len(CONTAINERS - WITH_MEMORY_LIMIT)}
    assert asked.values(node, "Throttled")[""] in (1, 2)
    assert asked.values(node, "Agents that answer") == {"": 1}
    assert asked.values(node, "Not running") == {"": len(STOPPED)}
    assert asked.values(node, "Unhealthy") == {"": 1}
    assert asked.values(node, "Killed for memory") == {"": 0}
    cpus = asked.values(node, "CPU of containers")
    assert cpus.keys() == CONTAINERS
    assert 0 < cpus["burner"] < BURNER_CPUS * 2
    throttled = asked.values(node, "Throttled periods")
    assert throttled.keys() == {"burner", "throttled"}, "the others have no quota"
    assert 0.25 < throttled["throttled"] <= 1
    shares = asked.values(node, "Working set of the limit")
    assert shares.keys() == WITH_MEMORY_LIMIT, "the others have no limit to divide by"
    assert 0.5 < shares["holder"] < 1


def test_states_are_those_of_the_containers(asked: Asked) -> None:
    columns = [target for target in TARGETS if target.panel == "State"]
    running, health, _, exit_code, killed, ended = (
        {labels["name"]: value for labels, value in asked.answers(target.expr)} for target in columns
    )
    assert running == {**dict.fromkeys(CONTAINERS, 1), **dict.fromkeys(STOPPED, 0)}
    assert {name for name, value in health.items() if value == 0} == {"checked"}
    assert exit_code["ended"] == 1
    assert exit_code.keys() == ended.keys() == {"ended", "host"}, "host was restarted"
    assert set(killed.values()) == {0}


def test_variables_offer_this_agent_and_its_containers(asked: Asked) -> None:
    def offered(query: str) -> set[str]:
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", filled_in(query))
        assert found
        return set(asked.prometheus.api(f"label/{found[2]}/values", **{"match[]": found[1]}))

    for board in BOARDS.values():
        queries = {
            each["name"]: each["query"] for each in board["templating"]["list"] if each["type"] == "query"
        }
        assert offered(queries["job"]) == {"cgwatch", "cadvisor"}
        (instance,) = offered(queries["instance"])
        assert instance.startswith("127.0.0.1:")
        assert "name" not in queries or offered(queries["name"]) == CONTAINERS


def test_chosen_containers_are_shown_and_no_other(asked: Asked) -> None:
    shown: set[str] = set()
    for target in TARGETS:
        if target.board == "cgwatch-container":
            answers = asked.answers(target.expr, name="burner|holder")
            shown |= {labels["name"] for labels, _ in answers if "name" in labels}
            assert not why_not(target) or not answers
    assert shown == {"burner", "holder"}


@pytest.mark.timeout(600)
@pytest.mark.skipif(inside_uml(), reason="is the one that runs the others inside")
def test_every_expression_gives_numbers_on_cgroup_v2(uml: Callable[..., Finished]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=400", __file__]
    finished = uml(command, disk_megabytes=256, deadline_seconds=500)
    sys.stdout.write(finished.output)
    assert finished.status == 0, finished.output
    others = len(re.findall(r"^def test_", Path(__file__).read_text(), re.MULTILINE)) - 1
    assert f"= {others} passed, 1 skipped in " in finished.output.splitlines()[-1]
