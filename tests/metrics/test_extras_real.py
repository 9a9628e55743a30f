"""The families that cAdvisor lacks, on real kernels: v1 of this machine, v2 in User Mode Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.metrics.families import FAMILIES
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.golden.reading import walk
from tests.real.needs import require
from tests.real.uml import run_in_uml, uml_available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cgwatch.errors import KernelFileError
    from tests.conftest import V1Cgroups

pytestmark = pytest.mark.real

ROOT = Path("/sys/fs/cgroup")
ON_V2 = "CGWATCH_TEST_EXTRAS_ON_V2"
CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
OWN = [family for family in FAMILIES if not family.reads]
FORK = "import os\ntry: os.fork()\nexcept BlockingIOError: print('refused', flush=True)\ninput()"


def until(said: Callable[[], bool]) -> None:
    """Wait for what the kernel tells nobody of."""
    deadline_seconds = time.monotonic() + 30
    while not said():
        assert time.monotonic() < deadline_seconds
        time.sleep(0.02)


class Page:
    """What is on the page of the cgroups of one test."""

    def __init__(self, mine: str) -> None:
        self.mine = f"/{mine}"
        self._failures: list[KernelFileError] = []
        self.sampler = Sampler(
            hierarchy.find("/proc", None),
            proc_root="/proc",
            descriptors=Descriptors(10_000),
            plan=Plan(settings_seconds=5),  # what is read seldom is read at each tick
            clock=time.time,
            monotonic=time.monotonic,
            failed=self._failures.append,
        )

    def values(self, below: str = "") -> dict[str, float]:
        """Tick, and give the values of one cgroup by name of the family (without ``container_``)."""
        snapshot = self.sampler.sample(0)
        found = walk(snapshot, OWN, lambda container: {"id": container.cgroup.path})
        return {
            name.removeprefix("container_"): value
            for (name, labels), value in found.items()
            if dict(labels).get("id") == self.mine + below
        }

    def close(self) -> None:
        self.sampler.close()
        assert [failure for failure in self._failures if self.mine in failure.path] == []


@pytest.fixture
def v1_page(v1_cgroups: V1Cgroups) -> Iterator[Page]:
    for controller in CONTROLLERS:
        v1_cgroups.make("", controller)
    page = Page(v1_cgroups.name)
    yield page
    page.close()


def test_a_refused_fork_is_counted_on_v1(v1_page: Page, v1_cgroups: V1Cgroups) -> None:
    (v1_cgroups.path("", "pids") / "pids.max").write_text("1")
    process = v1_cgroups.start(v1_cgroups.path("", "pids"), command=(sys.executable, "-c", FORK))
    assert process.stdout is not None
    assert process.stdout.readline() == b"refused\n"
    values = v1_page.values()
    shown = {name: values[f"pids_{name}"] for name in ("current", "peak", "limit_hits_total")}
    assert shown == {"current": 1, "peak": 1, "limit_hits_total": 1}
    assert values["spec_pids_limit"] == 1


def test_a_quota_above_a_v1_cgroup_is_seen_below_it(v1_page: Page, v1_cgroups: V1Cgroups) -> None:
    parent, child = v1_cgroups.path("", "cpu"), v1_cgroups.make("a", "cpu")
    (parent / "cpu.cfs_quota_us").write_text("10000")
    v1_cgroups.start(child, command=("sh", "-c", "while :; do :; done"))
    until(lambda: "throttled_time 0\n" not in (parent / "cpu.stat").read_text())
    values = v1_page.values("/a")
    assert values["cpu_ancestor_throttled_periods_total"] >= 1
    assert values["cpu_ancestor_periods_total"] >= values["cpu_ancestor_throttled_periods_total"]
    assert values["cpu_ancestor_throttled_seconds_total"] > 0
    assert "cpu_cfs_throttled_periods_total" not in values
    if "cpu_local_throttled_seconds_total" in values:  # since 6.18
        until(lambda: v1_page.values("/a")["cpu_local_throttled_seconds_total"] > 0)
    own = v1_page.values()
    assert own["cpu_cfs_throttled_periods_total"] >= 1
    assert "cpu_ancestor_periods_total" not in own


def test_bursts_of_v1_are_told_where_the_kernel_does(v1_page: Page, v1_cgroups: V1Cgroups) -> None:
    directory = v1_cgroups.path("", "cpu")
    if "nr_bursts" not in (directory / "cpu.stat").read_text():
        pytest.skip("needs kernel 5.16")
    (directory / "cpu.cfs_quota_us").write_text("50000")
    (directory / "cpu.cfs_burst_us").write_text("20000")
    values = v1_page.values()
    assert values["cpu_cfs_burst_periods_total"] == 0
    assert values["cpu_cfs_burst_seconds_total"] == 0
    assert values["spec_cpu_burst_seconds"] == 0.02


def test_a_v1_cgroup_has_what_v1_says_and_nothing_made_up(v1_page: Page) -> None:
    values = v1_page.values()
    assert values["memory_events_oom_kill_total"] == 0
    assert values["memory_shmem_bytes"] == 0
    assert values["memory_unevictable_bytes"] == 0
    assert values["memory_docker_usage_bytes"] == values["memory_usage_bytes"]
    for name in ("memory_events_oom_total", "memory_slab_reclaimable_bytes", "spec_memory_oom_group"):
        assert name not in values


def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    if ON_V2 in os.environ:
        pytest.skip("this is the kernel that is tested")
    require(uml_available())
    done = run_in_uml(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__)), "-k", "of_v2"],
        environment={ON_V2: "1"},
    )
    assert done.status == 0, done.output
    assert "passed" in done.output
    assert "skipped" not in done.output


class V2:
    """A cgroup of this machine's unified hierarchy with every controller, and processes in it."""

    def __init__(self) -> None:
        self.directory = ROOT / f"cgwtest-{os.getpid()}"
        self.directory.mkdir()
        (self.directory / "cgroup.subtree_control").write_text("+cpu +memory +pids")
        self.page = Page(self.directory.name)
        self._processes: list[subprocess.Popen[bytes]] = []

    def make(self, below: str, **files: str) -> Path:
        """Make a cgroup and write to files of it, their dots written as ``__``."""
        directory = self.directory / below
        directory.mkdir()
        for name, text in files.items():
            (directory / name.replace("__", ".")).write_text(text)
        return directory

    def start(self, cgroup: Path, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in a cgroup, before its first fork."""
        process = subprocess.Popen(
            ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        (self.directory / "cgroup.kill").write_text("1")  # frozen ones and children, too
        for process in self._processes:
            with process:  # closes the pipes and waits
                pass
        for directory, _, _ in os.walk(self.directory, topdown=False):
            place = Path(directory)
            until(lambda place=place: "populated 0" in (place / "cgroup.events").read_text())  # type: ignore[misc]
            place.rmdir()
        self.page.close()


@pytest.fixture
def v2() -> Iterator[V2]:
    if ON_V2 not in os.environ:
        pytest.skip("runs in User Mode Linux, see test_a_kernel_with_cgroup_v2_keeps_these_promises")
    machine = V2()
    try:
        yield machine
    finally:
        machine.close()


def test_a_refused_fork_of_v2_is_counted(v2: V2) -> None:
    process = v2.start(v2.make("a", pids__max="1"), sys.executable, "-c", FORK)
    assert process.stdout is not None
    assert process.stdout.readline() == b"refused\n"
    values = v2.page.values("/a")
    assert (values["pids_current"], values["pids_peak"], values["pids_limit_hits_total"]) == (1, 1, 1)
    assert values["spec_pids_limit"] == 1
    assert "spec_pids_limit" not in v2.page.values()


def test_an_oom_kill_of_v2_is_counted_where_it_was_and_above(v2: V2) -> None:
    process = v2.start(v2.make("a", memory__max="20M", memory__swap__max="0"), "tail", "/dev/zero")
    assert process.wait(60) == -9
    values = v2.page.values("/a")
    for found in (values, v2.page.values()):
        assert found["memory_events_oom_total"] >= 1
        assert found["memory_events_oom_kill_total"] == 1
        assert found["memory_events_oom_group_kill_total"] == 0
    assert values["spec_memory_oom_group"] == 0
    assert values["memory_swap_events_max_total"] >= 0
    assert values["memory_swap_events_fail_total"] >= 0


def test_a_kill_of_a_whole_cgroup_of_v2_is_told_from_one_of_a_process(v2: V2) -> None:
    limits = {"memory__max": "20M", "memory__swap__max": "0", "memory__oom__group": "1"}
    process = v2.start(v2.make("a", **limits), "sh", "-c", "sleep 100 & tail /dev/zero")
    assert process.wait(60) == -9
    values = v2.page.values("/a")
    assert values["spec_memory_oom_group"] == 1
    assert values["memory_events_oom_group_kill_total"] == 1
    assert values["memory_events_oom_kill_total"] >= 3


def test_bounds_of_v2_are_there_once_they_are_set(v2: V2) -> None:
    v2.make("a", memory__high="8M", memory__low="1M", memory__min="2M", memory__swap__high="3M")
    v2.make("b", cpu__weight="79", cpu__idle="0", cpu__max="50000 100000", cpu__max__burst="20000")
    values, others = v2.page.values("/a"), v2.page.values("/b")
    for number, name in enumerate(("low", "min", "swap_high"), start=1):
        assert values[f"spec_memory_{name}_bytes"] == number << 20
        assert f"spec_memory_{name}_bytes" not in others
    assert values["spec_memory_high_bytes"] == 8 << 20
    assert values["memory_events_low_total"] == 0
    assert "memory_events_low_total" not in others
    assert (others["spec_cpu_weight"], others["spec_cpu_idle"]) == (79, 0)
    assert others["spec_cpu_burst_seconds"] == 0.02
    assert "spec_cpu_burst_seconds" not in values


def test_a_quota_above_a_cgroup_of_v2_is_seen_below_it(v2: V2) -> None:
    parent = v2.make("a", cpu__max="10000 100000")
    v2.start(v2.make("a/b"), "sh", "-c", "while :; do :; done")
    until(lambda: "throttled_usec 0\n" not in (parent / "cpu.stat").read_text())
    values = v2.page.values("/a/b")
    assert values["cpu_ancestor_throttled_periods_total"] >= 1
    assert values["cpu_ancestor_throttled_seconds_total"] > 0
    assert "cpu_cfs_throttled_periods_total" not in values
    assert "cpu_ancestor_periods_total" not in v2.page.values("/a")


def test_a_frozen_cgroup_of_v2_is_told_from_a_running_one(v2: V2) -> None:
    directory = v2.make("a")
    process = v2.start(directory, "sh", "-c", "echo; exec cat")
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    values = v2.page.values("/a")
    assert (values["cgroup_populated"], values["cgroup_frozen"]) == (1, 0)
    (directory / "cgroup.freeze").write_text("1")
    until(lambda: "frozen 1" in (directory / "cgroup.events").read_text())
    assert v2.page.values("/a")["cgroup_frozen"] == 1
    assert v2.page.values()["cgroup_descendants"] == 1


def test_a_removed_cgroup_of_v2_that_memory_still_holds_is_a_dying_one(v2: V2, tmp_path: Path) -> None:
    directory = v2.make("a")
    process = v2.start(directory, "sh", "-c", f"head -c 1000000 /dev/zero > {tmp_path}/held; echo; exec cat")
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    process.kill()
    process.wait()
    until(lambda: "populated 0" in (directory / "cgroup.events").read_text())
    directory.rmdir()
    values = v2.page.values()
    assert (values["cgroup_descendants"], values["cgroup_dying_descendants"]) == (0, 1)


def test_the_breakdown_of_v2_is_within_what_is_charged(v2: V2) -> None:
    directory = v2.make("a")
    hold = f"""{sys.executable} -c "held = b'x' * 5000000; print(flush=True); input()"; exit"""
    process = v2.start(directory, "sh", "-c", hold)  # a kernel stack is charged where the fork was
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    # The kernel adds up each CPU's share every two seconds.
    until(lambda: v2.page.values("/a")["memory_kernel_stack_bytes"] > 0)
    values = v2.page.values("/a")
    kernel = ("slab_reclaimable", "slab_unreclaimable", "kernel_stack", "page_tables", "percpu")
    parts = [values[f"memory_{what}_bytes"] for what in kernel]
    assert values["memory_slab_unreclaimable_bytes"] > 0
    assert values["memory_page_tables_bytes"] > 0
    assert sum(parts) <= values["memory_kernel_usage"]
    assert 5_000_000 < values["memory_docker_usage_bytes"] <= values["memory_usage_bytes"]
    assert values["memory_working_set_bytes"] <= values["memory_docker_usage_bytes"]
