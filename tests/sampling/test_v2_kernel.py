"""What only a kernel with cgroup v2 can show; on another one these run in User Mode Linux."""

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
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.real.needs import require
from tests.real.uml import run_in_uml, uml_available

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.errors import KernelFileError
    from cgwatch.model import Sample

pytestmark = pytest.mark.real

ROOT = Path("/sys/fs/cgroup")
ON_V2 = "CGWATCH_TEST_ON_V2"


class Machine:
    """A sampler of this machine's unified hierarchy, and a cgroup for the test in it."""

    def __init__(self, budget: int) -> None:
        self.directory = ROOT / f"cgwtest-{os.getpid()}"
        self.directory.mkdir()
        self.failures: list[KernelFileError] = []
        self.sampler = Sampler(
            hierarchy.find("/proc", None),
            proc_root="/proc",
            descriptors=Descriptors(budget),
            plan=Plan(interval_seconds=10),  # settings are read at every third tick
            clock=time.time,
            monotonic=time.monotonic,
            failed=self.failures.append,
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ticks = 0

    def samples(self) -> dict[str, Sample]:
        snapshot = self.sampler.sample(self._ticks)
        assert snapshot.layout is Layout.V2
        self._ticks += 1
        return {
            sample.container.cgroup.path.removeprefix(f"/{self.directory.name}"): sample
            for sample in snapshot.samples
        }

    def start(self, below: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self._processes.append(process)
        (self.directory / below / "cgroup.procs").write_text(str(process.pid))
        return process

    def close(self) -> None:
        self.sampler.close()
        for process in self._processes:
            with process:
                process.kill()
        for directory, _, _ in os.walk(self.directory, topdown=False):
            deadline_seconds = time.monotonic() + 10
            while "populated 1" in Path(directory, "cgroup.events").read_text():
                assert time.monotonic() < deadline_seconds
                time.sleep(0.01)
            Path(directory).rmdir()


@pytest.fixture(params=[0, 10_000], ids=["opened each time", "kept open"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if ON_V2 not in os.environ:
        pytest.skip("runs in User Mode Linux, see test_a_kernel_with_cgroup_v2_keeps_these_promises")
    machine = Machine(request.param)
    try:
        yield machine
    finally:
        machine.close()
    assert machine.failures == []


def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    if ON_V2 in os.environ:
        pytest.skip("this is the kernel that is tested")
    require(uml_available())
    done = run_in_uml(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sampling/test_v2_kernel.py"],
        environment={ON_V2: "1"},
    )
    assert done.status == 0, done.output
    assert "passed" in done.output


def test_every_cgroup_is_sampled_without_a_failure(machine: Machine) -> None:
    (machine.directory / "a/b").mkdir(parents=True)
    process = machine.start("a/b")
    for _ in range(4):
        samples = machine.samples()
    assert {"", "/a", "/a/b"} <= samples.keys()
    assert samples["/a"].processes == 1
    core = samples["/a/b"].core
    assert core is not None
    assert (core.processes, core.first_pid, core.populated, core.frozen) == (1, process.pid, True, False)
    root = samples["/"]
    assert root.memory is not None
    assert root.memory.usage_bytes
    assert root.cpu is not None


def test_cgroups_come_and_go(machine: Machine) -> None:
    directory = machine.directory / "a"
    directory.mkdir()
    before = machine.samples()["/a"].container.cgroup
    directory.rmdir()
    assert "/a" not in machine.samples()
    directory.mkdir()
    after = machine.samples()["/a"].container.cgroup
    assert after.path == before.path
    assert after.inode != before.inode
    directory.rmdir()
    (machine.directory / "b").mkdir()
    samples = machine.samples()
    assert "/a" not in samples
    assert "/b" in samples


def test_a_controller_that_is_enabled_later_is_read_soon_and_gone_when_it_is_disabled(
    machine: Machine,
) -> None:
    directory = machine.directory / "a"
    directory.mkdir()
    assert machine.samples()["/a"].memory is None
    (machine.directory / "cgroup.subtree_control").write_text("+memory +pids")
    found = [machine.samples()["/a"] for _ in range(4)]
    assert found[-1].memory is not None
    assert found[-1].memory.usage_bytes is not None
    assert found[-1].pids is not None
    assert found[-1].io is None
    (machine.directory / "cgroup.subtree_control").write_text("-memory")
    sample = machine.samples()["/a"]
    assert sample.memory is None
    assert sample.pids is not None
    assert machine.samples()["/a"].container.cgroup == found[0].container.cgroup


def test_a_threaded_cgroup_is_sampled_and_its_processes_are_counted_above(machine: Machine) -> None:
    (machine.directory / "a/threads").mkdir(parents=True)
    (machine.directory / "a/threads/cgroup.type").write_text("threaded")
    process = machine.start("a")
    (machine.directory / "a/threads/cgroup.threads").write_text(str(process.pid))
    samples = machine.samples()
    assert samples["/a"].processes == 1
    assert samples["/a/threads"].processes is None
    assert samples["/a/threads"].cpu is not None


def test_a_quiet_node_is_known_to_be_quiet(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.directory / "a").mkdir()
    machine.samples()
    if machine.sampler._descriptors.budget == 0:
        return  # nothing is kept open, so each cgroup has to be looked at
    monkeypatch.setattr("cgwatch.cgroup.tree.os.scandir", None)  # the call would fail
    assert "/a" in machine.samples()
