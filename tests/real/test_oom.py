"""Real OOM kills in bare cgroups: each is counted once, for whom it should be."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cgwatch.storage import Storage
from tests.oom.hogs import IN_UML, Hogs, run_on_v2
from tests.real.kills import KERNEL_SILENT_SECONDS, LIMIT_BYTES, Watched

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
        (stored,) = storage.kills(container=path)
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
        kills = [stored.kill for stored in storage.kills(container=path)]
        assert sum(kill.count for kill in kills) == 3
        assert sum(kill.count for kill in kills if kill.while_down) == 2


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_kills_while_no_agent_ran_are_named_from_the_kernels_log(
    hogs: Hogs, tmp_path: Path, how: str
) -> None:
    # As in a test further down: the kernel must have said nothing for a while to say all of these.
    time.sleep(KERNEL_SILENT_SECONDS)
    paths = [hogs.make(f"down{number}", LIMIT_BYTES) for number in range(3)]
    with Watched(tmp_path) as watched:
        watched.agent.wait_for(lambda page: all(page.shows(path) for path in paths))
        before = watched.before
        if how == "killed":
            watched.agent.kill()
    pids = {path: hogs.kill_in(path) for path in paths}
    hogs.remove(paths[1])
    with Watched(tmp_path) as watched:
        watched.before = before
        watched.wait_until_known(3)
        for path in paths:
            watched.wait_for("cgwatch_oom_kills_total", 1, name=path, cause="own_limit")
    with Storage.open_reader(str(tmp_path / "cgwatch.db")) as storage:
        kills = {stored.kill.path: stored.kill for stored in storage.kills()}
    assert kills.keys() == pids.keys()
    for path, pid in pids.items():
        kill = kills[path]
        assert kill.victim is not None
        assert (kill.victim.pid, kill.limit_path) == (pid, path)
        assert (kill.while_down, kill.exact, kill.count) == (True, True, 1)
        assert kill.killed_seconds is not None
        assert kill.killed_seconds < kill.found_seconds


@pytest.fixture
def local_events(hogs: Hogs) -> Iterator[None]:
    """Have memory.events count each cgroup alone: an option of the whole mount."""
    if not hogs.is_v2:
        pytest.skip("an option of cgroup v2")
    remount = ["mount", "-o", "remount,memory_localevents", hogs.hierarchy.directory]
    subprocess.run(remount, check=True)
    yield
    subprocess.run(["mount", "-o", "remount", hogs.hierarchy.directory], check=True)


@pytest.mark.usefixtures("local_events")
def test_where_events_are_local_a_kill_is_still_one(hogs: Hogs, tmp_path: Path) -> None:
    pod = hogs.make("pod", LIMIT_BYTES)
    path = hogs.make("pod/container")
    with Watched(tmp_path) as watched:
        watched.agent.wait_for(lambda page: page.shows(path))
        hogs.kill_in(path)
        hogs.kill_in(path)
        watched.wait_until_known(2)
        page = watched.wait_for("cgwatch_oom_kills_total", 2, name=path)

        assert page.value("container_oom_events_total", id=path) == 2
        assert page.value("container_oom_events_total", id=pod) == 0


def test_a_group_that_is_killed_as_one_is_counted_as_the_kernel_does(hogs: Hogs, tmp_path: Path) -> None:
    if not hogs.is_v2:
        pytest.skip("cgroup v1 has no memory.oom.group")
    path = hogs.make("group", LIMIT_BYTES)
    (hogs.directory(path) / "memory.oom.group").write_text("1")
    join = 'echo $$ > "$0" && echo joined && exec sleep 100000'
    sleepers = [
        subprocess.Popen(["sh", "-c", join, hogs.directory(path) / "cgroup.procs"], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    with Watched(tmp_path) as watched:
        for sleeper in sleepers:
            assert sleeper.stdout
            assert sleeper.stdout.readline() == b"joined\n"
        watched.agent.wait_for(lambda page: page.shows(path))
        hogs.kill_in(path)
        for sleeper in sleepers:
            with sleeper:
                assert sleeper.wait(60) == -signal.SIGKILL
        events = (hogs.directory(path) / "memory.events.local").read_text()
        kills = next(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
        assert kills >= 4, "the kernel counts its first victim twice if that takes a while to die"
        watched.wait_until_known(kills)
        page = watched.wait_for("cgwatch_oom_kills_total", kills, name=path)

        assert page.value("container_oom_events_total", id=path) == kills
        assert page.value("cgwatch_oom_kills_total", name=path, cause="own_limit", scope="group") == kills


@pytest.mark.timeout(300)
@pytest.mark.skipif(IN_UML in os.environ, reason="is the one that runs the others inside")
def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    run_on_v2(__file__, skipped=1, memory="512M", deadline_seconds=250)
