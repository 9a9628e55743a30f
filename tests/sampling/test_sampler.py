"""The sampler on nodes made of plain files."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup import files, hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.errors import MalformedFileError, ReadFailedError
from cgwatch.model import Description, Kind, Runtime
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler, kernel_version
from tests.cgroup.fake_trees import TREES, Node, copy_captured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cgwatch.errors import KernelFileError
    from cgwatch.model import Sample

ID = "a" * 64
OTHER_ID = "b" * 64
BOTH = pytest.mark.parametrize("budget", [0, 10_000], ids=["opened each time", "kept open"])


def description(container_id: str, name: str, **more: object) -> Description:
    return Description(Runtime.DOCKER, container_id, name, "image:1", {}, "running", **more)  # type: ignore[arg-type]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "node")
    yield node
    node.close()


@pytest.fixture
def v2(node: Node) -> Node:
    """A node with one container that has a cgroup inside."""
    node.v2("/")
    node.v2("/docker")
    node.v2(f"/docker/{ID}", cgroup__procs="10\n11\n")
    node.v2(f"/docker/{ID}/init", cgroup__procs="12\n")
    return node


@pytest.fixture
def v1(node: Node) -> Node:
    node.v1("/", procs="1\n2\n")
    node.v1("/docker")
    node.v1(f"/docker/{ID}", procs="10\n11\n")
    return node


def test_a_v2_node_is_sampled_whole(v2: Node) -> None:
    samples = v2.samples()
    assert list(samples) == ["/", "/docker", f"/docker/{ID}", f"/docker/{ID}/init"]
    sample = samples[f"/docker/{ID}"]
    assert sample.container.owner.kind is Kind.CONTAINER
    assert sample.container.owner.container_id == ID
    assert sample.memory is not None
    assert (sample.memory.usage_bytes, sample.memory.limit_bytes) == (4096, math.inf)
    assert sample.memory.working_set_bytes == 3596
    assert sample.cpu is not None
    assert (sample.cpu.usage_seconds, sample.cpu.quota_microseconds) == (1.5, 50_000)
    assert sample.io is not None
    assert [device.read_bytes_total for device in sample.io.devices or ()] == [1024]
    assert sample.pids is not None
    assert sample.pids.current == 3
    assert v2.failures == []


def test_a_v1_node_is_sampled_whole(v1: Node) -> None:
    sample = v1.samples()[f"/docker/{ID}"]
    assert sample.memory is not None
    assert (sample.memory.usage_bytes, sample.memory.limit_bytes) == (4096, math.inf)
    assert sample.cpu is not None
    assert sample.cpu.usage_seconds_by_cpu == (1.0, 0.5)
    assert sample.pids is not None
    assert sample.pids.limit == math.inf
    assert v1.failures == []


def test_a_hybrid_node_has_pressure_from_the_unified_hierarchy(v1: Node) -> None:
    pressure = "some avg10=1.00 avg60=0.00 avg300=0.00 total=5000000\n"
    for path in ("/", "/docker", f"/docker/{ID}"):
        directory = v1.v2(f"unified{path}", without=("memory", "cpu", "io", "pids"))
        (directory / "memory.pressure").write_text(pressure)
    samples = v1.samples()
    assert v1.tick().layout is Layout.HYBRID
    sample = samples[f"/docker/{ID}"]
    assert sample.memory is not None
    assert sample.memory.usage_bytes == 4096
    assert sample.pressure is not None
    assert sample.pressure.memory is not None
    assert sample.pressure.memory.some is not None
    assert sample.pressure.memory.some.total_seconds == 5.0
    assert sample.core is not None
    assert (sample.core.processes, sample.core.populated) == (2, True)
    assert v1.failures == []


def described(tree: str) -> int:
    """How many containers the runtimes told of when the tree was captured."""
    folder = TREES / tree
    if (folder / "cri.json").exists():
        return sum(map(len, json.loads((folder / "cri.json").read_text()).values()))
    answers = [folder / "docker.json", folder / "inner_docker.json"]
    return sum(len(json.loads(answer.read_text())) for answer in answers if answer.exists())


@pytest.mark.parametrize("budget", [0, 50, 10_000])
@pytest.mark.parametrize("tree", sorted(tree.name for tree in TREES.iterdir()))
def test_a_captured_node_is_sampled_without_a_failure(tmp_path: Path, tree: str, budget: int) -> None:
    cgroup, proc = copy_captured(tree, tmp_path)
    failures: list[KernelFileError] = []
    descriptors = Descriptors(budget)
    sampler = Sampler(
        hierarchy.find(proc, cgroup),
        proc_root=proc,
        descriptors=descriptors,
        plan=Plan(),
        clock=lambda: 1.0,
        monotonic=lambda: 1.0,
        failed=failures.append,
    )
    snapshots = [sampler.sample(sequence) for sequence in range(3)]
    seen = [
        [one.container for one in snapshot.samples if one.container.owner.kind is Kind.CONTAINER]
        for snapshot in snapshots
    ]
    assert len(seen[0]) == described(tree)
    assert seen[0] == seen[1] == seen[2]
    assert failures == []
    sampler.close()
    assert descriptors.kept == 0


@BOTH
def test_a_malformed_file_is_a_counted_failure_and_every_other_number_still_comes(
    v2: Node, budget: int
) -> None:
    v2.descriptors.budget = budget
    before = v2.samples()
    path = v2.cgroup / "docker" / ID / "memory.current"
    path.write_text("many\n")
    samples = v2.samples()
    assert [(type(failure), failure.path) for failure in v2.failures] == [
        (MalformedFileError, os.fspath(path))
    ]
    sample = samples[f"/docker/{ID}"]
    assert sample.memory is not None
    assert sample.memory.usage_bytes is None
    assert sample.memory.peak_bytes == 8192
    assert sample.memory.stat.anon_bytes == 1000
    for other in (other for other in samples if other != f"/docker/{ID}"):
        assert samples[other] == before[other]
    path.write_text("4096\n")
    assert v2.samples() == before
    assert len(v2.failures) == 1


@BOTH
def test_a_file_that_is_malformed_from_the_first_is_counted_too(v2: Node, budget: int) -> None:
    v2.descriptors.budget = budget
    v2.v2("/bad", memory__current="?\n")
    for ticks in (1, 2):
        assert v2.samples()["/bad"].cpu is not None
        assert [failure.path for failure in v2.failures] == [f"{v2.cgroup}/bad/memory.current"] * ticks


def test_a_file_that_should_be_there_and_is_not_is_a_counted_failure(v2: Node) -> None:
    v2.v2("/poor", without=("memory.stat",))
    sample = v2.samples()["/poor"]
    assert [failure.path for failure in v2.failures] == [f"{v2.cgroup}/poor/memory.stat"]
    assert sample.memory is not None
    assert sample.memory.usage_bytes == 4096


def fail_on(
    monkeypatch: pytest.MonkeyPatch, part: str, number: int, then: Callable[[], None] = lambda: None
) -> None:
    """Let every read of an open file fail whose path holds ``part``."""
    pread = files.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if part in os.readlink(f"/proc/self/fd/{fd}"):
            then()
            raise OSError(number, os.strerror(number))
        return pread(fd, length, offset)

    monkeypatch.setattr(files, "pread", failing)


def test_a_cgroup_that_vanishes_while_it_is_read_is_dropped_and_nothing_else(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2.v2("/other")
    v2.descriptors.budget = 10_000
    before = v2.samples()
    # The kernel answers ENODEV for the third file, after the first two were read.
    directory = v2.cgroup / "docker" / ID / "init"
    fail_on(monkeypatch, f"{ID}/init/memory.events", errno.ENODEV, then=lambda: shutil.rmtree(directory))
    samples = v2.samples()
    assert list(samples) == ["/", "/docker", f"/docker/{ID}", "/other"]
    assert v2.failures == []
    assert samples["/other"] == before["/other"]
    assert samples[f"/docker/{ID}"].processes == 2


@BOTH
def test_a_cgroup_that_vanishes_between_two_ticks_is_no_failure(v2: Node, budget: int) -> None:
    v2.descriptors.budget = budget
    v2.samples()
    shutil.rmtree(v2.cgroup / "docker" / ID)
    assert list(v2.samples()) == ["/", "/docker"]
    assert v2.failures == []


def test_a_cgroup_that_vanishes_before_its_files_are_opened_is_no_failure(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2.samples()
    directory = v2.v2("/short")

    def vanish(*arguments: object) -> object:
        shutil.rmtree(directory, ignore_errors=True)
        return Followed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cgwatch.sampling.sampler.Followed", vanish)
    assert "/short" not in v2.samples()
    assert v2.failures == []


def test_a_cgroup_that_is_made_again_while_its_files_are_opened_is_no_failure(
    v2: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2.samples()
    directory = v2.v2("/again")

    def replace(*arguments: object) -> object:
        directory.rename(tmp_path / "removed")  # and its inode is not given to the next one
        followed = Followed(*arguments)  # type: ignore[arg-type]
        v2.v2("/again")
        return followed

    with monkeypatch.context() as patch:
        patch.setattr("cgwatch.sampling.sampler.Followed", replace)
        assert "/again" not in v2.samples()
    assert "/again" in v2.samples()
    assert v2.failures == []


def count(node: Node, **cgroups: int) -> None:
    """Let the kernel count the cgroups of v1 controllers."""
    lines = [f"{name}\t1\t{number}\t1\n" for name, number in cgroups.items()]
    (node.proc / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + "".join(lines))


def test_one_that_went_before_it_could_be_read_does_not_hide_the_next_one(
    v1: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    v1.descriptors.budget = 10_000
    count(v1, memory=3, cpu=3, cpuacct=3, blkio=3, pids=3)
    v1.samples()
    with monkeypatch.context() as patch:
        v1.v1("/short", "memory")
        count(v1, memory=4, cpu=3, cpuacct=3, blkio=3, pids=3)
        fail_on(patch, "/memory/short/", errno.ENODEV)
        assert "/short" not in v1.samples()
    shutil.rmtree(v1.cgroup / "memory/short")
    v1.v1("/next", "memory")
    assert "/next" in v1.samples()
    assert v1.failures == []


def shares(samples: dict[str, Sample], container_id: str) -> int | None:
    cpu = samples[f"/docker/{container_id}"].cpu
    return cpu.shares if cpu else None


def test_one_that_goes_while_another_comes_is_noticed_where_only_settings_could_tell(v1: Node) -> None:
    # Without CPU bandwidth control no file of the cpu controller moves, so none is kept open.
    v1.descriptors.budget = 10_000
    count(v1, memory=3, cpu=3, cpuacct=3, blkio=3, pids=3)
    assert shares(v1.samples(), ID) == 1024
    shutil.rmtree(v1.cgroup / "cpu/docker" / ID)
    v1.v1(f"/docker/{OTHER_ID}", "cpu")
    samples = v1.samples()
    assert shares(samples, OTHER_ID) == 1024
    assert shares(samples, ID) is None


def test_another_error_of_the_kernel_is_counted_and_costs_that_number_alone(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2.descriptors.budget = 10_000
    v2.samples()
    fail_on(monkeypatch, f"{ID}/memory.current", errno.EIO)
    sample = v2.samples()[f"/docker/{ID}"]
    assert [(type(failure), failure.path) for failure in v2.failures] == [
        (ReadFailedError, f"{v2.cgroup}/docker/{ID}/memory.current")
    ]
    assert sample.memory is not None
    assert sample.memory.usage_bytes is None
    assert sample.memory.events.oom_kill == 1


def test_a_threaded_cgroup_is_sampled_and_its_processes_are_counted_above(
    v2: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    v2.v2(f"/docker/{ID}/threads", without=("memory", "io"))
    fail_on(monkeypatch, f"{ID}/threads/cgroup.procs", errno.EOPNOTSUPP)
    samples = v2.samples()
    threaded = samples[f"/docker/{ID}/threads"]
    assert threaded.cpu is not None
    assert threaded.processes is None
    assert samples[f"/docker/{ID}"].processes == 3
    assert v2.failures == []


def test_controllers_that_are_not_enabled_are_none_and_no_failure(v2: Node) -> None:
    v2.v2("/few", without=("memory.", "io.", "pids.", "cpu.max", "cpu.weight", "cpu.idle"))
    sample = v2.samples()["/few"]
    assert (sample.memory, sample.io, sample.pids) == (None, None, None)
    assert sample.cpu is not None
    assert sample.cpu.usage_seconds == 1.5
    assert v2.failures == []


@BOTH
def test_a_controller_that_is_enabled_later_is_read_soon(tmp_path: Path, budget: int) -> None:
    node = Node(tmp_path / "node", budget=budget, interval_seconds=10.0)
    node.v2("/")
    node.v2("/late", without=("memory.", "io."))
    assert node.samples()["/late"].memory is None
    node.v2("/late")
    found = [node.samples()["/late"] for _ in range(4)]  # settings are read every 30 seconds
    assert found[-1].memory is not None
    assert found[-1].memory.usage_bytes == 4096
    assert found[-1].io is not None
    assert found[-1].container.cgroup == found[0].container.cgroup
    assert node.failures == []
    node.close()
    assert node.descriptors.kept == 0


@BOTH
def test_a_controller_that_is_disabled_is_none_and_no_failure(
    v2: Node, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    v2.descriptors.budget = budget
    assert v2.samples()[f"/docker/{ID}"].memory is not None
    for file in (v2.cgroup / "docker" / ID).glob("memory.*"):
        file.unlink()
    fail_on(monkeypatch, f"{ID}/memory.", errno.ENODEV)
    samples = v2.samples()
    assert samples[f"/docker/{ID}"].memory is None
    assert samples[f"/docker/{ID}"].cpu is not None
    assert v2.samples().keys() == samples.keys()
    assert v2.failures == []


@BOTH
def test_a_new_cgroup_is_seen_on_the_next_tick(v2: Node, budget: int) -> None:
    v2.descriptors.budget = budget
    v2.samples()
    v2.v2(f"/docker/{OTHER_ID}", memory__current="1\n")
    sample = v2.samples()[f"/docker/{OTHER_ID}"]
    assert sample.memory is not None
    assert sample.memory.usage_bytes == 1


def test_a_cgroup_made_again_under_its_path_is_another_one_with_its_own_numbers(
    v2: Node, tmp_path: Path
) -> None:
    v2.descriptors.budget = 10_000
    before = v2.samples()[f"/docker/{ID}"]
    (v2.cgroup / "docker" / ID).rename(tmp_path / "keeps the inode")
    v2.v2(f"/docker/{ID}", memory__current="1\n")
    after = v2.samples()[f"/docker/{ID}"]
    assert after.container.cgroup.path == before.container.cgroup.path
    assert after.container.cgroup.inode != before.container.cgroup.inode
    assert after.memory is not None
    assert after.memory.usage_bytes == 1


def limits(node: Node, ticks: int) -> list[int | float | None]:
    """Tick, and return the memory limit of the container at each tick."""
    found = []
    for _ in range(ticks):
        memory = node.samples()[f"/docker/{ID}"].memory
        assert memory is not None
        found.append(memory.limit_bytes)
    return found


def test_settings_are_read_for_the_first_ticks_and_then_within_30_seconds(v2: Node) -> None:
    file = v2.cgroup / "docker" / ID / "memory.max"
    limits(v2, 1)
    file.write_text("1000\n")  # a runtime writes the limits after it made the cgroup
    assert limits(v2, 1) == [1000]
    file.write_text("2000\n")
    found = limits(v2, 6)
    assert found[-1] == 2000
    assert found == sorted(found, key=lambda value: value or 0)


def test_settings_are_read_in_turn_even_if_every_other_tick_is_missed(v2: Node) -> None:
    for number in range(5):
        v2.v2(f"/c{number}")
    for sequence in (0, 2, 4):
        v2.sampler.sample(sequence)
    for number in range(5):
        (v2.cgroup / f"c{number}/memory.max").write_text("1000\n")
    for sequence in range(6, 6 + 2 * 6, 2):
        snapshot = v2.sampler.sample(sequence)
    found = [
        one.memory.limit_bytes
        for one in snapshot.samples
        if one.container.cgroup.path.startswith("/c") and one.memory
    ]
    assert found == [1000] * 5


def test_settings_are_read_at_once_after_the_runtime_said_something_new(v2: Node) -> None:
    v2.sampler.describe({ID: description(ID, "shop")})
    limits(v2, 3)
    (v2.cgroup / "docker" / ID / "memory.max").write_text("3000\n")
    v2.sampler.describe({ID: description(ID, "shop", exit_code=0)})
    assert limits(v2, 1) == [3000]


def test_a_container_is_sampled_before_it_has_a_name_and_gets_it_when_it_is_told(v2: Node) -> None:
    assert v2.samples()[f"/docker/{ID}"].container.description is None
    said = description(ID, "shop")
    v2.sampler.describe({ID: said, OTHER_ID: description(OTHER_ID, "till")})
    samples = v2.samples()
    assert samples[f"/docker/{ID}"].container.description is said
    assert samples["/docker"].container.description is None
    v2.v2(f"/docker/{OTHER_ID}")
    told = v2.samples()[f"/docker/{OTHER_ID}"].container.description
    assert told is not None
    assert told.name == "till"


def test_processes_are_counted_with_all_below(v2: Node) -> None:
    samples = v2.samples()
    assert {path: sample.processes for path, sample in samples.items()} == {
        "/": 5,
        "/docker": 3,
        f"/docker/{ID}": 3,
        f"/docker/{ID}/init": 1,
    }
    core = samples["/"].core
    assert core is not None
    assert core.processes == 2


def test_a_process_counts_once_where_a_cgroup_is_in_some_hierarchies_only(v1: Node) -> None:
    # pid 5 was put into a cgroup of the memory hierarchy alone: in all others it is in the root.
    v1.v1("/byhand", "memory", procs="5\n")
    v1.v1("/byhand/below", "memory", procs="6\n")
    v1.v1("/", procs="1\n2\n5\n6\n")
    samples = v1.samples()
    assert {path: sample.processes for path, sample in samples.items()} == {
        "/": 6,
        "/byhand": 2,
        "/byhand/below": 1,
        "/docker": 2,
        f"/docker/{ID}": 2,
    }
    assert v1.failures == []


def test_a_cgroup_in_some_hierarchies_only_has_the_numbers_of_those(v1: Node) -> None:
    v1.v1("/byhand", "memory")
    sample = v1.samples()["/byhand"]
    assert sample.memory is not None
    assert (sample.cpu, sample.pids) == (None, None)
    assert v1.failures == []


def test_a_path_that_only_begins_like_another_is_not_below_it(v2: Node) -> None:
    v2.v2("/docker-more", cgroup__procs="20\n")
    v2.v2("/dock", cgroup__procs="21\n")
    samples = v2.samples()
    assert samples["/docker"].processes == 3
    assert samples["/"].processes == 7
    paths = list(samples)
    assert all(
        paths.index(path.rpartition("/")[0] or "/") < paths.index(path) for path in paths if path != "/"
    )


def test_a_snapshot_says_when_it_was_taken_and_how_long_it_took(v2: Node) -> None:
    v2.now_seconds = 5000.0
    snapshot = v2.sampler.sample(7)
    assert snapshot.sequence == 7
    assert (snapshot.time_seconds, snapshot.monotonic_seconds, snapshot.duration_seconds) == (
        5000.0,
        5000.0,
        0.0,
    )
    assert snapshot.memory is not None
    assert snapshot.memory.total_bytes == 1 << 20
    assert snapshot.machine is not None
    assert snapshot.machine.kernel_release == "6.18.0-test"
    assert snapshot.devices == {(8, 0): "/dev/sda"}


def test_a_file_of_the_machine_that_cannot_be_read_is_counted_and_costs_nothing_else(v2: Node) -> None:
    (v2.proc / "meminfo").write_text("?")
    (v2.proc / "diskstats").write_text("?")
    snapshot = v2.tick()
    assert snapshot.memory is None
    assert snapshot.devices == {}
    assert {failure.path for failure in v2.failures} == {f"{v2.proc}/meminfo", f"{v2.proc}/diskstats"}
    assert len(snapshot.samples) == 4


def test_what_the_machine_is_is_read_again_every_five_minutes(v2: Node) -> None:
    machine = v2.tick().machine
    assert machine is not None
    assert machine.cores == 1
    (v2.proc / "stat").write_text("cpu 0\ncpu0 0\ncpu1 0\nbtime 1700000000\n")
    v2.now_seconds += 299
    assert v2.tick().machine is machine
    v2.now_seconds += 1
    machine = v2.tick().machine
    assert machine is not None
    assert machine.cores == 2


def test_unchanged_numbers_are_the_same_objects_at_the_next_tick(v2: Node) -> None:
    before, after = v2.samples(), v2.samples()
    for path, sample in before.items():
        for name in ("memory", "cpu", "io", "pids", "core"):
            assert getattr(after[path], name) is getattr(sample, name)


def test_closing_gives_every_descriptor_back(v2: Node) -> None:
    v2.descriptors.budget = 20
    v2.samples()
    assert v2.descriptors.kept == 20
    shutil.rmtree(v2.cgroup / "docker")
    v2.samples()
    v2.close()
    assert v2.descriptors.kept == 0


def test_a_hierarchy_that_went_is_a_counted_failure_and_an_empty_snapshot(v2: Node) -> None:
    v2.samples()
    v2.cgroup.rename(v2.cgroup.parent / "elsewhere")
    assert v2.samples() == {}
    assert [failure.path for failure in v2.failures] == [os.fspath(v2.cgroup)]
    (v2.cgroup.parent / "elsewhere").rename(v2.cgroup)
    assert len(v2.samples()) == 4


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc", (6, 18)),
        ("5.4.0-150-generic", (5, 4)),
        ("6.1", (6, 1)),
        ("4.19rc1", (4, 19)),
        ("?", (0, 0)),
    ],
)
def test_the_kernel_version_is_major_and_minor(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
