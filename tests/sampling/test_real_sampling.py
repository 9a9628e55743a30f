"""The sampler on the real v1 hierarchies of this machine: made, mounted and hidden in every way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.real.needs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.errors import KernelFileError
    from cgwatch.model import Sample
    from tests.conftest import V1Cgroups

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).resolve().parents[2]
CONTROLLERS = ("memory", "cpu", "cpuacct", "blkio", "pids")


class Machine:
    """A sampler of this machine, seen only where the cgroups of one test are."""

    def __init__(self, mine: str, budget: int) -> None:
        self.mine = f"/{mine}"
        self._failures: list[KernelFileError] = []
        self.descriptors = Descriptors(budget, interval_seconds=0.1)
        self.sampler = Sampler(
            hierarchy.find("/proc", None),
            proc_root="/proc",
            descriptors=self.descriptors,
            plan=Plan(),
            clock=time.time,
            monotonic=time.monotonic,
            failed=self._failures.append,
        )
        self._ticks = 0

    def samples(self) -> dict[str, Sample]:
        """Tick, and return our samples by their path below the test's own cgroup."""
        snapshot = self.sampler.sample(self._ticks)
        self._ticks += 1
        return {
            sample.container.cgroup.path.removeprefix(self.mine): sample
            for sample in snapshot.samples
            if sample.container.cgroup.path.startswith(self.mine)
        }

    @property
    def failures(self) -> list[KernelFileError]:
        """Failures of our own cgroups; others may come and go as they like."""
        return [failure for failure in self._failures if self.mine in failure.path]


@pytest.fixture(params=[0, 15_000], ids=["opened each time", "kept open"])
def machine(request: pytest.FixtureRequest, v1_cgroups: V1Cgroups) -> Iterator[Machine]:
    machine = Machine(v1_cgroups.name, request.param)
    yield machine
    machine.sampler.close()
    assert machine.descriptors.kept == 0


def make_everywhere(v1_cgroups: V1Cgroups, below: str = "") -> list[Path]:
    return [v1_cgroups.make(below, controller) for controller in CONTROLLERS]


def test_a_real_cgroup_shows_its_processes_and_what_they_use(machine: Machine, v1_cgroups: V1Cgroups) -> None:
    places = make_everywhere(v1_cgroups)
    (places[0] / "memory.limit_in_bytes").write_text("104857600")
    assert machine.samples()[""].processes == 0
    work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; exec cat"
    process = v1_cgroups.start(*places, command=("sh", "-c", work))
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    sample = machine.samples()[""]
    assert sample.processes == 1
    assert sample.core is not None
    assert sample.core.first_pid == process.pid
    assert sample.memory is not None
    assert sample.memory.usage_bytes is not None
    assert 0 < sample.memory.usage_bytes < 104857600
    assert sample.memory.limit_bytes == 104857600
    assert sample.cpu is not None
    assert sample.cpu.usage_seconds is not None
    assert 0 < sample.cpu.usage_seconds < 60
    assert sample.pids is not None
    assert sample.pids.current == 1
    v1_cgroups.end(process)
    assert machine.failures == []


def test_real_cgroups_are_sampled_from_the_tick_after_they_came_until_they_went(
    machine: Machine, v1_cgroups: V1Cgroups
) -> None:
    assert machine.samples() == {}
    make_everywhere(v1_cgroups)
    make_everywhere(v1_cgroups, "a/b")
    assert set(machine.samples()) == {"", "/a", "/a/b"}
    for controller in CONTROLLERS:
        v1_cgroups.path("a/b", controller).rmdir()
    assert set(machine.samples()) == {"", "/a"}
    make_everywhere(v1_cgroups, "a/c")
    for controller in CONTROLLERS:
        v1_cgroups.path("a/c", controller).rmdir()
    assert set(machine.samples()) == {"", "/a"}
    assert machine.failures == []


def test_a_real_cgroup_made_again_is_another_one(machine: Machine, v1_cgroups: V1Cgroups) -> None:
    places = make_everywhere(v1_cgroups)
    before = machine.samples()[""].container.cgroup
    for place in places:
        place.rmdir()
        place.mkdir()
    after = machine.samples()[""].container.cgroup
    assert after.path == before.path
    assert after.inode != before.inode
    assert machine.failures == []


def test_a_cgroup_that_goes_in_one_hierarchy_stays_in_the_others(
    machine: Machine, v1_cgroups: V1Cgroups
) -> None:
    make_everywhere(v1_cgroups)
    assert machine.samples()[""].pids is not None
    v1_cgroups.path(controller="pids").rmdir()
    sample = machine.samples()[""]
    assert sample.pids is None
    assert sample.memory is not None
    assert machine.failures == []


def test_the_network_of_a_real_namespace_is_shown_by_its_cgroup(
    machine: Machine, v1_cgroups: V1Cgroups
) -> None:
    # A container by its name, since the network is that of containers.
    below = f"docker/{'c' * 64}"
    places = [v1_cgroups.make(below, controller) for controller in ("memory", "pids", "blkio")]
    shared = [v1_cgroups.make(f"docker/{'d' * 64}", controller) for controller in ("memory", "pids", "blkio")]
    script = "ip link add cg0 type veth peer name cg1 && echo up || echo none; exec cat"
    process = v1_cgroups.start(*places, command=("unshare", "--net", "sh", "-c", script))
    assert process.stdout is not None
    require(None if process.stdout.readline() == b"up\n" else "needs ip(8) and the veth network device")
    v1_cgroups.start(*shared)  # on the host's network
    samples = machine.samples()
    network = samples[f"/{below}"].network
    assert network is not None
    assert {interface.name for interface in network} == {"cg0", "cg1"}
    assert samples[f"/docker/{'d' * 64}"].network is None
    assert machine.failures == []


SAMPLE = """
    import json, sys, time
    from cgwatch.cgroup import hierarchy
    from cgwatch.cgroup.files import Descriptors
    from cgwatch.sampling.plan import Plan
    from cgwatch.sampling.sampler import Sampler

    proc_root, cgroup_root = sys.argv[1:]
    failures = []
    sampler = Sampler(
        hierarchy.find(proc_root, cgroup_root), proc_root=proc_root, descriptors=Descriptors(10_000),
        plan=Plan(), clock=time.time, monotonic=time.monotonic, failed=failures.append,
    )
    for sequence in range(2):
        snapshot = sampler.sample(sequence)
    sampler.close()
    json.dump({
        "layout": snapshot.layout,
        "usage": {s.container.cgroup.path: s.memory and s.memory.usage_bytes for s in snapshot.samples},
        "processes": {s.container.cgroup.path: s.processes for s in snapshot.samples},
        "failures": [str(failure) for failure in failures if "cgwtest-" in str(failure)],
    }, sys.stdout)
"""


PRIVATE = ("unshare", "--mount", "--propagation", "private")


def sampled(shell: str, proc_root: str, cgroup_root: str, *first: str) -> dict[str, Any]:
    """Run ``shell`` and then a sampler in mounts of their own, by way of ``first``; return what it saw."""
    sampler = (sys.executable, "-W", "error", "-c", textwrap.dedent(SAMPLE), proc_root, cgroup_root)
    done = subprocess.run(
        [*PRIVATE, *first, "sh", "-ec", f'{shell}\nexec "$@"', "sh", *sampler],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=CHECKOUT,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_a_hierarchy_that_is_mounted_at_an_unusual_place_is_sampled_there(
    v1_cgroups: V1Cgroups, tmp_path: Path
) -> None:
    v1_cgroups.make("a")
    root = tmp_path / "mycg"
    shell = f"mkdir -p {root}/memory && mount -t cgroup -o memory cgroup {root}/memory"
    seen = sampled(shell, "/proc", os.fspath(root))
    assert seen["layout"] == "v1"
    assert seen["usage"][f"/{v1_cgroups.name}/a"] == 0
    assert seen["usage"]["/"] > 0
    assert seen["failures"] == []


def test_a_folder_name_with_a_space_is_a_mount_point_like_any_other(
    v1_cgroups: V1Cgroups, tmp_path: Path
) -> None:
    v1_cgroups.make("a")
    root = tmp_path / "my cgroups"
    shell = f"mkdir -p '{root}/memory' && mount -t cgroup -o memory cgroup '{root}/memory'"
    assert seen_of(v1_cgroups, sampled(shell, "/proc", os.fspath(root))) == {"", "/a"}


def seen_of(v1_cgroups: V1Cgroups, seen: dict[str, Any]) -> set[str]:
    mine = f"/{v1_cgroups.name}"
    assert seen["failures"] == []
    return {path.removeprefix(mine) for path in seen["usage"] if path.startswith(mine)}


def test_a_part_of_a_hierarchy_that_is_bound_somewhere_keeps_its_paths(
    v1_cgroups: V1Cgroups, tmp_path: Path
) -> None:
    directory = v1_cgroups.make()
    v1_cgroups.make("a")
    root = tmp_path / "part"
    seen = sampled(
        f"mkdir -p {root}/memory && mount --bind {directory} {root}/memory", "/proc", os.fspath(root)
    )
    assert set(seen["usage"]) == {f"/{v1_cgroups.name}", f"/{v1_cgroups.name}/a"}
    assert seen["failures"] == []


def host_under(root: Path, cgroup: Path) -> str:
    """Return a script that binds the host's trees under ``root`` from inside a cgroup namespace."""
    return (
        f"mkdir -p {root}/sys/fs/cgroup {root}/proc && mount --rbind /sys/fs/cgroup {root}/sys/fs/cgroup"
        f" && mount --bind /proc {root}/proc && grep -q ' /.. .* - cgroup ' /proc/self/mountinfo"
        f" && grep -q :memory:/$ /proc/self/cgroup && test -d {cgroup}"
    )


def test_an_agent_in_a_cgroup_namespace_sees_the_hosts_paths_in_the_hosts_tree(
    v1_cgroups: V1Cgroups, tmp_path: Path
) -> None:
    own = v1_cgroups.make("agent")
    v1_cgroups.make("other/nested")
    root = tmp_path / "host"
    # The namespace begins at the cgroup of who makes it: move there first.
    move = ("sh", "-ec", f'echo $$ > {own}/cgroup.procs; exec "$@"', "sh")
    seen = sampled(
        host_under(root, own), f"{root}/proc", f"{root}/sys/fs/cgroup", *move, "unshare", "--cgroup"
    )
    assert seen["layout"] == "hybrid"
    assert seen_of(v1_cgroups, seen) == {"", "/agent", "/other", "/other/nested"}
    assert seen["usage"][f"/{v1_cgroups.name}/agent"] > 0
    assert seen["processes"][f"/{v1_cgroups.name}"] == 1
