"""Docker's daemon stops, hangs, dies and comes back; the numbers of the containers go on without it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from tests.real import leftovers
from tests.real.agent_process import AgentProcess, Page
from tests.real.dockerd import IMAGE, Dockerd, docker_available
from tests.real.needs import require

pytestmark = pytest.mark.real

INTERVAL_SECONDS = 0.4
"""Short, and yet so long that a busy machine does not hold up a tick for all of it."""
SCRAPE_SECONDS = 1.0
"""Far below the timeout of Prometheus (10 s): a daemon that does not answer must not delay a page."""
PATIENCE = {"CGWATCH_DISCOVERY_DOCKER_TIMEOUT": "60s"}
"""The agent's end may not depend on it."""
MISSED = "cgwatch_missed_ticks_total"
TICKS = "cgwatch_sample_duration_seconds_count"
FOUND_OUT_SECONDS = 15.0
"""Until the agent notices that the daemon is back: its pauses between two attempts grow to 10 s."""


@pytest.fixture
def urgent() -> Iterator[None]:
    """Put this process and those that it starts before all others: their load must not cost us a tick."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    yield
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, before)


@pytest.fixture
def daemon(urgent: None) -> Iterator[Dockerd]:  # noqa: ARG001 - asked for first
    require(docker_available())
    with Dockerd() as own:
        yield own


def agent_for(daemon: Dockerd) -> AgentProcess:
    return AgentProcess(daemon.url, interval=f"{round(INTERVAL_SECONDS * 1000)}ms")


class Watch:
    """Scrapes on a thread of its own all the while: how old the samples are, and the slowest answer."""

    def __init__(self, agent: AgentProcess) -> None:
        self._agent = agent
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._errors: list[Exception] = []
        self.scrapes = 0
        self.oldest_seconds = 0.0
        self.slowest_seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        assert self._errors == []

    def _run(self) -> None:
        try:
            while not self._stopping.wait(INTERVAL_SECONDS / 4):
                asked_seconds, began = time.time(), time.monotonic()
                text = self._agent.get()
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
                age_seconds = asked_seconds - Page(text).sampled_seconds
                self.oldest_seconds = max(self.oldest_seconds, age_seconds)
                self.scrapes += 1
        except Exception as error:  # noqa: BLE001 - the thread's top: what went wrong fails the test
            self._errors.append(error)


def up(page: Page) -> float | None:
    found = page.find("cgwatch_runtime_up", runtime="docker")
    return found[0][1] if found else None


@contextlib.contextmanager
def unknown_container() -> Iterator[str]:
    """Make a cgroup that looks like a container of Docker's, so that the agent asks for its name."""
    cgroup = f"/docker/{os.urandom(32).hex()}"
    places = [mount / cgroup.lstrip("/") for mount in leftovers.cgroup_mounts()]
    made = [place for place in places if place.parent.is_dir()]
    assert made, "there is no /docker before the first container"
    for place in made:
        place.mkdir()
    try:
        yield cgroup
    finally:
        for place in made:
            place.rmdir()


def test_samples_go_on_while_docker_hangs_dies_and_comes_back(daemon: Dockerd) -> None:
    cgroup = f"/docker/{daemon.run('--name=lasting', IMAGE, 'sleep', '100000')}"
    with agent_for(daemon) as agent:
        agent.wait_for(lambda page: page.name_of(cgroup) == "lasting" and up(page) == 1)
        first = agent.page()
        with Watch(agent) as watch:
            # It hangs: the connection stands, and nobody answers. Whoever asks finds out.
            daemon.pause_daemon()
            with unknown_container() as unknown:
                page = agent.page_after(time.time())
                assert page.shows(unknown)
                page = agent.wait_for(lambda page: up(page) == 0)
                assert page.name_of(cgroup) == "lasting"
            daemon.resume_daemon()
            page = agent.wait_for(lambda page: up(page) == 1, FOUND_OUT_SECONDS)
            assert page.name_of(cgroup) == "lasting"
            # It dies: the connection ends.
            daemon.kill()
            page = agent.wait_for(lambda page: up(page) == 0)
            assert page.name_of(cgroup) == "lasting"
            # It comes back, and what happens then is heard of.
            daemon.start()
            agent.wait_for(lambda page: up(page) == 1, FOUND_OUT_SECONDS)
            newer = f"/docker/{daemon.run('--name=newer', IMAGE, 'sleep', '100000')}"
            agent.wait_for(lambda page: page.name_of(newer) == "newer", FOUND_OUT_SECONDS)
            last = agent.page()
        assert last.name_of(cgroup) == "lasting"
        assert last.value(MISSED) == first.value(MISSED), agent.log
    assert watch.scrapes > 0
    assert watch.oldest_seconds < 2 * INTERVAL_SECONDS
    assert watch.slowest_seconds < SCRAPE_SECONDS
    seconds = last.sampled_seconds - first.sampled_seconds
    ticks = last.value(TICKS) - first.value(TICKS)
    assert seconds > 2, "the outage was too short to tell anything"
    assert ticks == pytest.approx(seconds / INTERVAL_SECONDS, abs=1)


def test_an_agent_that_starts_without_docker_samples_at_once_and_learns_names_later(daemon: Dockerd) -> None:
    cgroup = f"/docker/{daemon.run('--name=lasting', '--memory=64m', IMAGE, 'sleep', '100000')}"
    daemon.terminate()
    with agent_for(daemon) as agent:
        first = agent.wait_for(lambda page: up(page) == 0)
        assert first.name_of(cgroup) == ""
        assert first.value("container_spec_memory_limit_bytes", id=cgroup) == 64 << 20
        daemon.start()
        page = agent.wait_for(lambda page: page.name_of(cgroup) == "lasting", FOUND_OUT_SECONDS)
        assert up(page) == 1
        assert page.value(MISSED) == first.value(MISSED), agent.log


def test_an_agent_that_starts_while_docker_hangs_samples_at_once_and_learns_names_later(
    daemon: Dockerd,
) -> None:
    cgroup = f"/docker/{daemon.run('--name=lasting', '--memory=64m', IMAGE, 'sleep', '100000')}"
    daemon.pause_daemon()
    try:
        with agent_for(daemon) as agent:
            page = agent.page()
            assert page.name_of(cgroup) == ""
            assert page.value("container_spec_memory_limit_bytes", id=cgroup) == 64 << 20
            first = agent.wait_for(lambda page: up(page) == 0)
            daemon.resume_daemon()
            page = agent.wait_for(lambda page: page.name_of(cgroup) == "lasting", FOUND_OUT_SECONDS)
            assert up(page) == 1
            assert page.value(MISSED) == first.value(MISSED), agent.log
    finally:
        daemon.resume_daemon()


def test_an_agent_ends_in_good_order_while_it_waits_for_a_docker_that_hangs(daemon: Dockerd) -> None:
    daemon.run(IMAGE, "sleep", "100000")
    with AgentProcess(daemon.url, environment=PATIENCE) as agent:
        agent.wait_for(lambda page: up(page) == 1)
        daemon.pause_daemon()
        try:
            with unknown_container() as unknown:
                agent.wait_for(lambda page: page.shows(unknown))
                assert agent.stop() == 0
        finally:
            daemon.resume_daemon()


def test_an_agent_that_waits_for_its_first_answer_ends_in_good_order(daemon: Dockerd) -> None:
    daemon.pause_daemon()
    try:
        with AgentProcess(daemon.url, environment=PATIENCE) as agent:
            agent.wait_for(lambda page: page.shows("/"))
            assert agent.stop() == 0
    finally:
        daemon.resume_daemon()
