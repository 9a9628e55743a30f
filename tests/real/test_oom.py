"""Real OOM kills, of bare cgroups and of Docker's containers: each is counted once, for whom it should be."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cgwatch.storage import Storage
from tests.oom.hogs import IN_UML, Hogs
from tests.real.dockerd import IMAGE, Dockerd, docker_available
from tests.real.kills import HOG, KERNEL_SILENT_SECONDS, LIMIT_BYTES, Watched, ended, node_total, run
from tests.real.needs import require
from tests.real.uml import run_in_uml, uml_available

pytestmark = pytest.mark.real


@pytest.fixture
def hogs() -> Iterator[Hogs]:
    found = Hogs()
    yield found
    found.close()


def test_a_kill_in_a_bare_cgroup_is_counted_for_it_with_its_cause(hogs: Hogs, tmp_path: Path) -> None:
    path = hogs.make("alone", LIMIT_BYTES)
    with Watched(tmp_path) as watched:
        watched.agent.wait_for(lambda page: page.shows(path))
        pid = hogs.kill_in(path)
        watched.wait_until_known(1)
        page = watched.wait_for("cgwatch_oom_kills_total", 1, name=path)

        assert page.value("container_oom_events_total", id=path) == 1
        assert page.value("cgwatch_oom_kills_total", name=path, cause="own_limit") == 1
    with Storage.open_reader(str(tmp_path / "cgwatch.db")) as storage:
        (stored,) = storage.kills()
        assert stored.kill.victim is not None
        assert stored.kill.victim.pid == pid
        assert stored.kill.limit_path == path


def test_a_kill_by_the_limit_above_is_one_of_the_cgroup_below(hogs: Hogs, tmp_path: Path) -> None:
    pod = hogs.make("pod", LIMIT_BYTES)
    path = hogs.make("pod/container")
    with Watched(tmp_path) as watched:
        watched.agent.wait_for(lambda page: page.shows(path))
        hogs.kill_in(path)
        watched.wait_until_known(1)
        page = watched.wait_for("cgwatch_oom_kills_total", 1, name=path)

        assert page.value("container_oom_events_total", id=path) == 1
        assert page.value("container_oom_events_total", id=pod) == 0
        assert page.value("cgwatch_oom_kills_total", name=path, cause="ancestor_limit") == 1


def test_thirty_kills_at_once_are_thirty(hogs: Hogs, tmp_path: Path) -> None:
    paths = [hogs.make(f"each{number}", LIMIT_BYTES) for number in range(30)]
    with Watched(tmp_path) as watched:
        watched.agent.wait_for(lambda page: all(page.shows(path) for path in paths))
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(hogs.kill_in, paths))
        watched.wait_until_known(30)

        # On the page of the next tick at the latest.
        watched.agent.wait_for(
            lambda page: [page.value("container_oom_events_total", id=path) for path in paths] == [1] * 30
        )


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_what_was_killed_while_no_agent_ran_is_found_by_the_next_one_and_marked(
    hogs: Hogs, tmp_path: Path, how: str
) -> None:
    path = hogs.make("meanwhile", LIMIT_BYTES)
    with Watched(tmp_path) as watched:
        watched.agent.wait_for(lambda page: page.shows(path))
        hogs.kill_in(path)
        before = watched.before
        watched.wait_until_known(1)
        if how == "killed":
            watched.agent.kill()
    hogs.kill_in(path)
    hogs.kill_in(path)
    with Watched(tmp_path) as watched:
        watched.before = before  # the ledger goes on where it was
        page = watched.wait_until_known(3)
        assert page.value("container_oom_events_total", id=path) == 3
    with Storage.open_reader(str(tmp_path / "cgwatch.db")) as storage:
        kills = [stored.kill for stored in storage.kills()]
        assert sum(kill.count for kill in kills) == 3
        assert sum(kill.count for kill in kills if kill.while_down) == 2


# Docker.


@pytest.fixture
def daemon() -> Iterator[Dockerd]:
    require(docker_available())
    if IN_UML in os.environ:
        pytest.skip("Docker's kills on v2 have their own run")
    with Dockerd() as own:
        yield own


def test_a_container_that_is_removed_at_once_is_counted_with_its_name(
    daemon: Dockerd, tmp_path: Path
) -> None:
    # The kernel says whose limit it was ten times in five seconds at most (oom_rs in mm/oom_kill.c), whoever
    # asks; with that used up by kills before these, nothing but the log's next interval would tell.
    time.sleep(KERNEL_SILENT_SECONDS)
    with Watched(tmp_path, daemon.url) as watched:
        for number in range(3):
            assert ended(run(daemon, f"gone{number}", HOG, "--rm")) == 137
        page = watched.wait_for("cgwatch_oom_kills_total", 3, runtime="docker")

        assert {labels["name"] for labels, _ in page.find("cgwatch_oom_kills_total")} == {
            f"gone{number}" for number in range(3)
        }
        assert page.value("cgwatch_oom_node_kills_total") == 3 == node_total() - watched.before
        assert page.value("cgwatch_oom_unattributed_total") == 0


def test_a_child_that_is_killed_leaves_its_container_running(daemon: Dockerd, tmp_path: Path) -> None:
    identity = daemon.run(
        *("--name=lives", f"--memory={LIMIT_BYTES}", f"--memory-swap={LIMIT_BYTES}", IMAGE),
        *("sh", "-c", f"{HOG}; echo gone; sleep 100000"),
    )
    try:
        with Watched(tmp_path, daemon.url) as watched:
            daemon.docker("exec", identity, "sh", "-c", f"{HOG}; true")
            page = watched.wait_for("cgwatch_oom_kills_total", 1, name="lives")

            assert page.value("cgwatch_oom_kills_total", name="lives", cause="own_limit", scope="child") == 1
            assert page.value("container_oom_events_total", name="lives") == 1
            assert daemon.docker("inspect", "--format={{.State.Running}}", identity) == "true"
    finally:
        daemon.docker("rm", "--force", identity)


def test_while_docker_is_down_kills_are_counted_for_the_container(daemon: Dockerd, tmp_path: Path) -> None:
    identity = daemon.run(
        *("--name=kept", f"--memory={LIMIT_BYTES}", f"--memory-swap={LIMIT_BYTES}", IMAGE),
        *("sh", "-c", "while ! [ -e /go ]; do sleep 0.1; done; " + HOG + "; sleep 100000"),
    )
    try:
        with Watched(tmp_path, daemon.url) as watched:
            path = f"/docker/{identity}"
            watched.agent.wait_for(lambda page: page.name_of(path) == "kept")
            daemon.docker("exec", identity, "touch", "/go")
            daemon.kill()
            page = watched.wait_for("container_oom_events_total", 1, id=path)

            assert page.name_of(path) == "kept"
            daemon.start()
    finally:
        daemon.docker("rm", "--force", identity)


def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    require(uml_available())
    done = run_in_uml(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "not kernel"],
        environment={IN_UML: "1"},
        memory="512M",
    )
    assert done.status == 0, done.output
    assert " passed" in done.output
