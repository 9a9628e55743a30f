"""``--cpu-shares`` of real containers, whatever their runtime made of it: on v1, on v2, by either formula."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cgwatch.cgroup.shares import Formula, formula_of, weight_of
from tests.real.agent_process import AgentProcess, Page
from tests.real.dockerd import IMAGE, Dockerd, inside_uml
from tests.real.kernel_says import file_of, is_v1
from tests.real.uml import Finished

pytestmark = pytest.mark.real

ASKED = (2, 3, 102, 512, 1000, 1024, 2048, 4096, 262144)
SHARES, WEIGHT = "container_spec_cpu_shares", "container_spec_cpu_weight"


class Agent(AgentProcess):
    """The agent, asked for these families alone."""

    def page(self) -> Page:
        """Scrape once."""
        names = (SHARES, WEIGHT, "container_last_seen", "cgwatch_last_sample_timestamp_seconds")
        return Page(self.get("/metrics?" + "&".join(f"name[]={name}" for name in names)))


@pytest.fixture(scope="module")
def agent(docker: Dockerd) -> Iterator[Agent]:
    settings = {"CGWATCH_SAMPLING_SETTINGS_INTERVAL": "500ms"}
    with Agent(docker.url, interval="500ms", environment=settings) as process:
        yield process


@contextmanager
def running(docker: Dockerd, *options: str) -> Iterator[str]:
    """Run a container that sleeps; give its cgroup."""
    container = docker.run(*options, IMAGE, "sleep", "100000")
    try:
        yield f"/docker/{container}"
    finally:
        docker.docker("rm", "--force", container)


def wait_for_shares(agent: Agent, cgroup: str, shares: int) -> None:
    agent.wait_for(lambda page: values(page, SHARES, cgroup) == [shares])


def values(page: Page, name: str, cgroup: str) -> list[float]:
    return [value for _, value in page.find(name, id=cgroup)]


@pytest.mark.timeout(400)
@pytest.mark.skipif(inside_uml(), reason="is inside already")
def test_all_of_this_holds_on_cgroup_v2(uml: Callable[..., Finished]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--timeout=300", str(Path(__file__))]
    finished = uml(command, deadline_seconds=360)
    assert finished.status == 0, finished.output
    assert re.search(r"= 4 passed, 1 skipped in ", finished.output.splitlines()[-1]), finished.output


def test_shares_are_those_that_docker_was_asked_for(docker: Dockerd, agent: Agent) -> None:
    with ExitStack() as containers:
        cgroups = {
            shares: containers.enter_context(running(docker, f"--cpu-shares={shares}")) for shares in ASKED
        }
        for shares, cgroup in cgroups.items():
            wait_for_shares(agent, cgroup, shares)


def test_a_container_that_nobody_asked_any_for_has_the_kernels_default(docker: Dockerd, agent: Agent) -> None:
    with running(docker) as cgroup:
        wait_for_shares(agent, cgroup, 1024)


def test_shares_that_docker_updates_are_shown_exactly(docker: Dockerd, agent: Agent) -> None:
    with running(docker, "--cpu-shares=512") as cgroup:
        wait_for_shares(agent, cgroup, 512)
        docker.docker("update", "--cpu-shares=777", cgroup.rpartition("/")[2])
        wait_for_shares(agent, cgroup, 777)


@pytest.mark.skipif(is_v1(), reason="needs cgroup v2: cpu.shares are what they are")
def test_a_weight_of_either_formula_is_shown_exactly_and_tells_of_the_others(
    docker: Dockerd, agent: Agent
) -> None:
    with running(docker, "--cpu-shares=512") as cgroup, running(docker) as other:
        wait_for_shares(agent, cgroup, 512)
        weight = file_of("cpu", cgroup, "cpu.weight")
        ours = formula_of(512, int(weight.read_text()))
        assert ours is not None
        # As a runtime of the other age would have written it.
        (theirs,) = (formula for formula in Formula if formula is not ours)
        weight.write_text(str(weight_of(512, theirs)))
        agent.wait_for(lambda page: page.value(WEIGHT, id=cgroup) == weight_of(512, theirs))
        wait_for_shares(agent, cgroup, 512)
        # A weight that was not made of shares is shown by the formula of this node's runtime.
        file_of("cpu", other, "cpu.weight").write_text("1000")
        low, high = (min(s for s in range(2, 262145) if weight_of(s, ours) == w) for w in (999, 1001))
        agent.wait_for(lambda page: low < page.value(SHARES, id=other) < high)
