"""Real OOM kills in Docker's containers: each is counted once, by the container's name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cgwatch.storage import Storage
from tests.oom.hogs import IN_UML, Hogs, run_on_v2
from tests.real import leftovers
from tests.real.dockerd import IMAGE, Dockerd, docker_available
from tests.real.kernel_says import is_v1
from tests.real.kills import (
    HOG,
    KERNEL_SILENT_SECONDS,
    LIMIT_BYTES,
    Watched,
    ended,
    of_name,
    run,
)
from tests.real.needs import require

pytestmark = pytest.mark.real

ON_GO = f"until [ -e /go/now ]; do sleep 0.1; done; exec {HOG}"
"""Its first process is the one that is killed, once it is told to go."""
TOGETHER = 6 if IN_UML in os.environ else 30
"""Docker takes long for each on the one CPU of User Mode Linux; thirty bare cgroups are killed there, too."""
LIMITED = (f"--memory={LIMIT_BYTES}", f"--memory-swap={LIMIT_BYTES}")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    require(docker_available())
    with Dockerd() as own:
        yield own


@pytest.fixture(autouse=True)
def told() -> None:
    """Let the kernel's log have its interval.

    It says whose limit it was ten times in five seconds at most (oom_rs in mm/oom_kill.c), whoever asks; with
    that used up by kills before these, nothing else would tell.
    """
    time.sleep(KERNEL_SILENT_SECONDS)


@contextmanager
def running(daemon: Dockerd, name: str, *options: str, work: str = "sleep 100000") -> Iterator[str]:
    """Give the id of a container that is there, and remove it if it still is."""
    identity = daemon.run(f"--name={name}", *options, IMAGE, "sh", "-c", work)
    try:
        yield identity
    finally:
        left = daemon.docker("ps", "--all", "--quiet", "--no-trunc").split()
        if identity in left:
            daemon.docker("rm", "--force", identity)


def kill_child(daemon: Dockerd, identity: str) -> None:
    """Have a process killed in a container that goes on."""
    daemon.docker("exec", identity, "sh", "-c", f"{HOG}; true")


def test_a_container_that_is_removed_at_once_is_counted_with_its_name(
    daemon: Dockerd, tmp_path: Path
) -> None:
    with Watched(tmp_path, daemon.url) as watched:
        for number in range(3):
            assert ended(run(daemon, f"gone{number}", HOG, "--rm")) == 137
        page = watched.wait_for_names({f"gone{number}": 1 for number in range(3)})

        for number in range(3):
            assert page.value("cgwatch_oom_kills_total", name=f"gone{number}", cause="own_limit") == 1
        watched.wait_until_known(3)


def test_the_first_process_of_a_container_that_was_seen_is_its_main_one(
    daemon: Dockerd, tmp_path: Path
) -> None:
    with (
        Watched(tmp_path / "state", daemon.url) as watched,
        running(daemon, "main", "--rm", f"--volume={tmp_path}:/go", *LIMITED, work=ON_GO) as identity,
    ):
        watched.agent.wait_for(lambda page: page.name_of(f"/docker/{identity}") == "main")
        (tmp_path / "now").touch()
        page = watched.wait_for("cgwatch_oom_kills_total", 1, name="main")

        assert page.value("cgwatch_oom_kills_total", name="main", cause="own_limit", scope="main") == 1
        watched.wait_until_known(1)


def test_a_child_that_is_killed_leaves_its_container_running(daemon: Dockerd, tmp_path: Path) -> None:
    with running(daemon, "lives", *LIMITED) as identity, Watched(tmp_path, daemon.url) as watched:
        watched.agent.wait_for(lambda page: page.name_of(f"/docker/{identity}") == "lives")
        kill_child(daemon, identity)
        page = watched.wait_for("cgwatch_oom_kills_total", 1, name="lives")

        assert page.value("cgwatch_oom_kills_total", name="lives", cause="own_limit", scope="child") == 1
        assert page.value("container_oom_events_total", name="lives") == 1
        assert daemon.docker("inspect", "--format={{.State.Running}}", identity) == "true"
        watched.wait_until_known(1)


def test_a_kill_by_the_limit_of_a_pod_is_one_of_the_container_in_it(daemon: Dockerd, tmp_path: Path) -> None:
    hogs = Hogs()
    elsewhere = leftovers.missing_cgroups(hogs.top)
    try:
        pod = hogs.make("pod", LIMIT_BYTES)
        with (
            Watched(tmp_path, daemon.url) as watched,
            running(daemon, "inside", f"--cgroup-parent={pod}") as identity,
            running(daemon, "beside", f"--cgroup-parent={pod}"),
        ):
            path = f"{pod}/{identity}"
            watched.agent.wait_for(lambda page: page.name_of(path) == "inside")
            kill_child(daemon, identity)
            page = watched.wait_for("cgwatch_oom_kills_total", 1, name="inside")

            (labels,) = (labels for labels, _ in page.find("cgwatch_oom_kills_total", name="inside"))
            assert (labels["cause"], labels["scope"]) == ("ancestor_limit", "child")
            assert page.value("container_oom_events_total", id=path) == 1
            assert page.value("container_oom_events_total", name="beside") == 0
            assert page.value("container_oom_events_total", id=pod) == 0
            watched.wait_until_known(1)
        with Storage.open_reader(str(tmp_path / "cgwatch.db")) as storage:
            (stored,) = storage.kills(container="inside")
            assert stored.kill.limit_path == pod
    finally:
        leftovers.remove_cgroups(place / "pod" for place in elsewhere)
        leftovers.remove_cgroups(elsewhere)
        hogs.close()


def test_a_container_that_is_killed_as_a_group_is_all_killed(daemon: Dockerd, tmp_path: Path) -> None:
    if is_v1():
        pytest.skip("cgroup v1 has no memory.oom.group")
    work = f"sleep 100000 & sleep 100000 & {ON_GO}"
    with (
        Watched(tmp_path / "state", daemon.url) as watched,
        running(daemon, "group", f"--volume={tmp_path}:/go", *LIMITED, work=work) as identity,
    ):
        path = f"/docker/{identity}"
        Path(f"/sys/fs/cgroup{path}/memory.oom.group").write_text("1")
        watched.agent.wait_for(lambda page: page.name_of(path) == "group")
        (tmp_path / "now").touch()
        assert daemon.docker("wait", identity) == "137"
        page = watched.agent.wait_for(lambda page: of_name(page, "group") >= 3)

        (labels,) = (labels for labels, _ in page.find("cgwatch_oom_kills_total", name="group"))
        assert (labels["cause"], labels["scope"]) == ("own_limit", "group")
        kills = int(of_name(page, "group"))
        watched.wait_until_known(kills)


@pytest.mark.timeout(300)
def test_containers_that_are_killed_and_removed_together_are_each_counted(
    daemon: Dockerd, tmp_path: Path
) -> None:
    with Watched(tmp_path / "state", daemon.url) as watched, ExitStack() as stack:
        names = {f"each{number}" for number in range(TOGETHER)}
        for name in names:
            options = ("--rm", "--network=none", f"--volume={tmp_path}:/go", *LIMITED)
            stack.enter_context(running(daemon, name, *options, work=ON_GO))
        watched.agent.wait_for(
            lambda page: names <= {labels["name"] for labels, _ in page.find("container_last_seen")}
        )
        (tmp_path / "now").touch()
        watched.wait_for_names(dict.fromkeys(names, 1))
        watched.wait_until_known(TOGETHER)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_kills_while_no_agent_ran_are_found_by_the_next_one(
    daemon: Dockerd, tmp_path: Path, how: str
) -> None:
    with (
        running(daemon, "goes-on", *LIMITED) as identity,
        running(daemon, "ends", "--rm", f"--volume={tmp_path}:/go", *LIMITED, work=ON_GO) as other,
    ):
        with Watched(tmp_path / "state", daemon.url) as watched:
            before = watched.before
            watched.agent.wait_for(lambda page: page.name_of(f"/docker/{identity}") == "goes-on")
            watched.agent.wait_for(lambda page: page.name_of(f"/docker/{other}") == "ends")
            kill_child(daemon, identity)
            watched.wait_until_known(1)
            if how == "killed":
                watched.agent.kill()
        kill_child(daemon, identity)
        (tmp_path / "now").touch()
        assert leftovers.wait_until(lambda: other not in daemon.docker("ps", "-aq", "--no-trunc"), 30)
        with Watched(tmp_path / "state", daemon.url) as watched:
            watched.before = before  # the ledger goes on where it was
            page = watched.wait_for_names({"goes-on": 2})
            assert page.value("container_oom_events_total", name="goes-on") == 2
            page = watched.wait_until_known(3)
            # Nobody may have seen whose it was, but then it is nobody's.
            assert of_name(page, "ends") == 1 or page.value("cgwatch_oom_unattributed_total") >= 1


def test_while_docker_is_down_kills_are_counted_for_the_container(daemon: Dockerd, tmp_path: Path) -> None:
    work = f"until [ -e /go/now ]; do sleep 0.1; done; {HOG}; sleep 100000"
    with (
        running(daemon, "kept", f"--volume={tmp_path}:/go", *LIMITED, work=work) as identity,
        Watched(tmp_path / "state", daemon.url) as watched,
    ):
        path = f"/docker/{identity}"
        watched.agent.wait_for(lambda page: page.name_of(path) == "kept")
        daemon.kill()
        try:
            (tmp_path / "now").touch()
            page = watched.wait_for("container_oom_events_total", 1, id=path)
            assert page.name_of(path) == "kept"
            page = watched.wait_for("cgwatch_oom_kills_total", 1, name="kept")
            assert page.value("cgwatch_oom_kills_total", name="kept", cause="own_limit", scope="child") == 1
            watched.wait_until_known(1)
        finally:
            daemon.start()


@pytest.mark.timeout(900)
@pytest.mark.skipif(IN_UML in os.environ, reason="is the one that runs the others inside")
def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    run_on_v2(__file__, skipped=1, memory="2G", deadline_seconds=800)
