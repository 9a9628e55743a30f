"""What a runtime says of containers that run, and of those that do not, on the page of a live agent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.real.agent_process import AgentProcess, Labels, Page
from tests.real.dockerd import IMAGE, Dockerd

pytestmark = pytest.mark.real

STATES = {"created", "running", "paused", "restarting", "removing", "exited", "dead"}
RETRIES = 2
FAMILIES = (
    *("container_state", "container_restarts_total", "container_exit_code", "container_oom_killed"),
    *("container_finished_time_seconds", "container_health_status", "container_last_seen"),
    *("cgwatch_stopped_containers_left_out", "cgwatch_last_sample_timestamp_seconds"),
)


class Agent(AgentProcess):
    """The agent, asked for these families alone: all pages of a busy node take a while to read."""

    def page(self) -> Page:
        """Scrape once."""
        return Page(self.get("/metrics?" + "&".join(f"name[]={family}" for family in FAMILIES)))


@pytest.fixture(scope="module")
def agent(docker: Dockerd) -> Iterator[Agent]:
    labels = {"CGWATCH_METRICS_CONTAINER_LABELS": "shop.*"}
    with Agent(docker.url, environment=labels) as process:
        yield process


@contextmanager
def created(docker: Dockerd, name: str, *arguments: str) -> Iterator[str]:
    """Create a container, and remove it whatever happens to it meanwhile."""
    container = docker.docker("create", f"--name={name}", "--label=shop.till=3", *arguments)
    try:
        yield container
    finally:
        subprocess.run(
            ["docker", "--host", docker.url, "rm", "--force", container], capture_output=True, check=False
        )


def of(page: Page, series_name: str, container: str) -> list[tuple[dict[str, str], float]]:
    """Give labels and value of each sample of a container, by its name."""
    return [found for found in page.find(series_name) if found[0].get("name") == container]


def value(page: Page, series_name: str, container: str) -> float:
    """Give the value of the container's one sample."""
    ((_, found),) = of(page, series_name, container)
    return found


def state(page: Page, name: str) -> str | None:
    """Give the state that holds; there is one for each container, and a series for each state there is."""
    found = {labels["state"]: value for labels, value in of(page, "container_state", name)}
    if not found:
        return None
    assert found.keys() == STATES
    (holds,) = (word for word, value in found.items() if value == 1)
    assert sorted(found.values()) == [0] * (len(STATES) - 1) + [1]
    return holds


def wait_for_state(agent: Agent, name: str, expected: str) -> Page:
    """Scrape until the container is in that state."""
    return agent.wait_for(lambda page: state(page, name) == expected)


def series(page: Page, name: str) -> set[tuple[str, Labels]]:
    """Give the series of a container that are there whether it runs or not."""
    names = ("container_state", "container_restarts_total", "container_oom_killed", "container_health_status")
    return {(one, frozenset(labels.items())) for one in names for labels, _ in of(page, one, name)}


def test_every_state_of_a_container_is_on_the_page_under_the_same_series(
    docker: Dockerd, agent: Agent
) -> None:
    with created(docker, "moody", IMAGE, "sleep", "100000") as container:
        page = wait_for_state(agent, "moody", "created")
        whose = {"id": f"/docker/{container}", "image": IMAGE, "name": "moody"}
        before = series(page, "moody")
        assert all({*whose.items(), ("container_label_shop_till", "3")} <= labels for _, labels in before)
        assert of(page, "container_exit_code", "moody") == []
        assert of(page, "container_finished_time_seconds", "moody") == []
        assert not page.shows(whose["id"])

        for verb, expected in (
            (("start",), "running"),
            (("pause",), "paused"),
            (("unpause",), "running"),
            (("kill", "--signal=KILL"), "exited"),
        ):
            docker.docker(*verb, container)
            page = wait_for_state(agent, "moody", expected)
            assert series(page, "moody") == before
        page = agent.wait_for(lambda page: not page.shows(whose["id"]))
        assert value(page, "container_exit_code", "moody") == 137
        finished = value(page, "container_finished_time_seconds", "moody")
        assert finished > page.sampled_seconds - 60

        docker.docker("start", container)
        page = agent.wait_for(lambda page: state(page, "moody") == "running" and page.shows(whose["id"]))
        assert series(page, "moody") == before
        assert value(page, "container_exit_code", "moody") == 137  # of the last run that ended
        assert value(page, "container_finished_time_seconds", "moody") == finished

        docker.docker("rm", "--force", container)
        page = agent.wait_for(lambda page: not page.identities(whose["id"]))
        assert series(page, "moody") == set()


def test_restarts_by_the_policy_are_counted_until_a_person_starts_the_container_anew(
    docker: Dockerd, agent: Agent
) -> None:
    policy = f"--restart=on-failure:{RETRIES}"
    with created(docker, "failing", policy, IMAGE, "sh", "-c", "exit 3") as container:
        docker.docker("start", container)
        page = wait_for_state(agent, "failing", "exited")
        assert value(page, "container_restarts_total", "failing") == RETRIES
        assert page.types["container_restarts_total"] == "counter"
        assert value(page, "container_exit_code", "failing") == 3
        assert not any("restart" in label for labels, _ in page.find("container_state") for label in labels)
        finished = value(page, "container_finished_time_seconds", "failing")

        docker.docker("start", container)
        page = agent.wait_for(
            lambda page: (
                state(page, "failing") == "exited"
                and value(page, "container_finished_time_seconds", "failing") > finished
                and value(page, "container_restarts_total", "failing") == RETRIES
            )
        )
        assert value(page, "container_exit_code", "failing") == 3


def test_docker_restart_begins_the_count_of_restarts_anew(docker: Dockerd, agent: Agent) -> None:
    # It fails until it is asked not to.
    script = "test -e /tmp/stay && exec sleep 100000; touch /tmp/stay; exit 1"
    with created(docker, "reborn", "--restart=on-failure", IMAGE, "sh", "-c", script) as container:
        docker.docker("start", container)
        agent.wait_for(
            lambda page: (
                state(page, "reborn") == "running" and value(page, "container_restarts_total", "reborn") == 1
            )
        )
        docker.docker("restart", "--time=0", container)
        page = agent.wait_for(
            lambda page: (
                state(page, "reborn") == "running" and value(page, "container_restarts_total", "reborn") == 0
            )
        )
        assert value(page, "container_exit_code", "reborn") == 137


def test_the_health_of_a_container_is_one_of_three_series(docker: Dockerd, agent: Agent) -> None:
    def health(page: Page) -> dict[str, float]:
        return {labels["status"]: value for labels, value in of(page, "container_health_status", "ill")}

    check = ("--health-cmd=test -e /tmp/well", "--health-interval=200ms", "--health-retries=1")
    with created(docker, "ill", *check, IMAGE, "sleep", "100000") as container:
        docker.docker("start", container)
        agent.wait_for(lambda page: health(page) == {"starting": 0, "healthy": 0, "unhealthy": 1})
        docker.docker("exec", container, "touch", "/tmp/well")  # noqa: S108 - in the container
        agent.wait_for(lambda page: health(page) == {"starting": 0, "healthy": 1, "unhealthy": 0})


def test_a_container_that_ran_out_of_memory_says_so_after_its_end(docker: Dockerd, agent: Agent) -> None:
    limits = ("--memory=16m", "--memory-swap=16m", "--network=none")
    with created(docker, "greedy", *limits, IMAGE, "tail", "/dev/zero") as container:
        page = wait_for_state(agent, "greedy", "created")
        assert value(page, "container_oom_killed", "greedy") == 0
        docker.docker("start", container)
        page = wait_for_state(agent, "greedy", "exited")
        assert value(page, "container_oom_killed", "greedy") == 1
        assert value(page, "container_exit_code", "greedy") == 137


def test_containers_that_ended_before_the_agent_began_are_on_its_first_pages(docker: Dockerd) -> None:
    with created(docker, "early", IMAGE, "sh", "-c", "exit 7") as container:
        docker.docker("start", container)
        docker.docker("wait", container)
        with Agent(docker.url) as late:
            page = wait_for_state(late, "early", "exited")
            assert page.value("container_exit_code", id=f"/docker/{container}") == 7
            assert page.value("cgwatch_stopped_containers_left_out") == 0
