"""Reading limits where something is amiss; test_real_limits.py has them on real kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy, Layout
from cgwatch.cgroup.limit_files import holder, inode_of, read_limit, read_limits, versions, write_step
from cgwatch.cgroup.limit_use import read_use
from cgwatch.change import Step
from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.limits.survey import MOST_BELOW, read_tree
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.cgroup.fake_trees import copy_captured

if TYPE_CHECKING:
    from pathlib import Path

MEGABYTE = 1 << 20
STAT = """anon 1000
file 5000
inactive_file 3000
active_file 1000
inactive_anon 600
active_anon 500
file_dirty 400
file_writeback 100
slab_reclaimable 50
"""


@pytest.fixture
def unified(tmp_path: Path) -> Hierarchies:
    """A unified hierarchy with one cgroup, ``/one``, made of plain files."""
    one = tmp_path / "one"
    one.mkdir()
    files = {
        "memory.max": f"{64 * MEGABYTE}\n",
        "memory.swap.max": "max\n",
        "memory.current": "6000\n",
        "memory.swap.current": "70\n",
        "memory.stat": STAT,
        "cpu.max": "max 100000\n",
        "io.max": "8:0 rbps=1048576 wbps=max riops=max wiops=max\n",
        "pids.max": "100\n",
        "pids.current": "7\n",
        "hugetlb.2MB.max": "max\n",
        "hugetlb.2MB.current": "2097152\n",
        "hugetlb.2MB.rsvd.current": "4194304\n",
        "cgroup.freeze": "0\n",
        "cgroup.procs": "1\n2\n",
        "memory.events": "max 3\n",
    }
    for name, text in files.items():
        (one / name).write_text(text)
    controllers = frozenset({"memory", "cpu", "io", "pids", "hugetlb"})
    return Hierarchies(Layout.V2, (), Hierarchy(2, controllers, str(tmp_path)))


def test_every_limit_that_a_cgroup_offers_is_read_and_nothing_else(
    unified: Hierarchies, tmp_path: Path
) -> None:
    read = read_limits(unified, "/one", devices=("8:0", "8:16"))
    assert read.inode == (tmp_path / "one").stat().st_ino
    assert read.failures == ()
    assert read.values == {
        "memory.max": 64 * MEGABYTE,
        "memory.swap.max": math.inf,
        "cpu.max": math.inf,
        "cpu.max.period": 100_000,
        "io.max.rbps[8:0]": MEGABYTE,
        **{f"io.max.{word}[8:0]": math.inf for word in ("wbps", "riops", "wiops")},
        **{f"io.max.{word}[8:16]": math.inf for word in ("rbps", "wbps", "riops", "wiops")},
        "pids.max": 100,
        "hugetlb.2MB.max": math.inf,
        "cgroup.freeze": 0,
    }


def test_a_file_that_cannot_be_understood_is_named_and_costs_nothing_else(
    unified: Hierarchies, tmp_path: Path
) -> None:
    (tmp_path / "one" / "pids.max").write_text("many\n")
    (tmp_path / "one" / "cpuset.cpus").write_text("0-1\n")  # of a controller that this hierarchy has not got
    read = read_limits(unified, "/one")
    (failure,) = read.failures
    assert isinstance(failure, MalformedFileError)
    assert failure.path == str(tmp_path / "one" / "pids.max")
    assert "pids.max" not in read.values
    assert "cpuset.cpus" not in read.values
    assert read.values["memory.max"] == 64 * MEGABYTE
    with pytest.raises(MalformedFileError):
        read_limit(unified, "/one", "pids.max")


def test_a_cgroup_that_is_not_there_is_missing(unified: Hierarchies) -> None:
    for read in (read_limits, inode_of, read_tree):
        with pytest.raises(FileMissingError):
            read(unified, "/two")


def test_one_limit_is_read_with_what_it_is_told_apart_by(unified: Hierarchies) -> None:
    assert read_limit(unified, "/one", "io.max.rbps[8:0]") == MEGABYTE
    assert read_limit(unified, "/one", "io.max.rbps[8:16]") == math.inf
    with pytest.raises(FileMissingError, match=r"no cpuset controller"):
        read_limit(unified, "/one", "cpuset.cpus")
    with pytest.raises(FileMissingError, match=r"cpu\.weight instead"):
        read_limit(unified, "/one", "cpu.shares")


def test_a_step_writes_its_text_once_and_makes_no_file(unified: Hierarchies, tmp_path: Path) -> None:
    write_step(unified, Step("/one", "pids", "pids.max", "42\n", None, ()))
    # No truncation: what a longer text leaves behind is the plain file's, a kernel file has none.
    assert (tmp_path / "one" / "pids.max").read_text() == "42\n\n"
    with pytest.raises(FileMissingError):
        write_step(unified, Step("/one", "pids", "pids.new", "42", None, ()))
    assert not (tmp_path / "one" / "pids.new").exists()
    with pytest.raises(FileMissingError, match="no cpuset controller"):
        write_step(unified, Step("/one", "cpuset", "cpuset.cpus", "0", None, ()))


def test_what_is_used_is_known_before_anything_is_lowered(unified: Hierarchies) -> None:
    use = read_use(unified, "/one", huge_page_sizes=("2MB", "1GB"))
    assert (use.memory_bytes, use.swap_bytes, use.processes) == (6000, 70, 2)
    # Dirty pages and those under writeback have to be written first; caches of the slab can go.
    assert use.reclaimable_bytes == 3000 + 1000 - 400 - 100 + 50
    assert use.anon_bytes == 1100
    assert use.others == {"pids.max": 7, "hugetlb.2MB.max": 2_097_152, "hugetlb.2MB.rsvd.max": 4_194_304}


def test_what_is_used_is_not_known_where_nobody_counts(unified: Hierarchies, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    use = read_use(unified, "/bare")
    assert (use.memory_bytes, use.reclaimable_bytes, use.anon_bytes, use.processes) == (None,) * 4
    assert use.others == {}


def test_a_tree_has_all_above_and_a_bounded_number_below(unified: Hierarchies, tmp_path: Path) -> None:
    for number in range(MOST_BELOW + 10):
        (tmp_path / "one" / f"below-{number:04}").mkdir()
    tree = read_tree(unified, "/one/below-0007")
    assert list(tree.cgroups) == ["/one/below-0007", "/one", "/"]
    assert tree.cgroups["/one"].used["pids.max"] == 7
    assert len(read_tree(unified, "/one").cgroups) == MOST_BELOW + 2
    assert tree.node.page_bytes >= 4096
    assert tree.node.cpus


def test_each_controller_is_where_it_is_mounted() -> None:
    memory = Hierarchy(1, frozenset({"memory"}), "/cg/memory")
    block = Hierarchy(1, frozenset({"blkio"}), "/cg/blkio")
    freezer = Hierarchy(1, frozenset({"freezer"}), "/cg/freezer")
    unified = Hierarchy(2, frozenset({"hugetlb"}), "/cg/unified")
    hybrid = Hierarchies(Layout.HYBRID, (block, freezer, memory), unified)
    assert versions(hybrid) == {"memory": 1, "io": 1, "freezer": 1, "hugetlb": 2}
    assert holder(hybrid, "io") is block
    assert holder(hybrid, "") is unified
    without_freezer = Hierarchies(Layout.HYBRID, (memory,), unified)
    assert holder(without_freezer, "freezer") is unified
    assert versions(Hierarchies(Layout.V1, (memory,), None)) == {"memory": 1}


@pytest.mark.parametrize("name", ["docker_v1", "hybrid", "docker_v2"])
@pytest.mark.parametrize("parts", [frozenset(), frozenset({"cpuset", "hugetlb"})])
def test_a_cgroup_is_the_same_one_here_and_where_it_is_sampled(
    name: str, parts: frozenset[str], tmp_path: Path
) -> None:
    cgroup_root, proc_root = copy_captured(name, tmp_path)
    hierarchies = hierarchy.find(proc_root, cgroup_root)
    sampler = Sampler(
        hierarchies,
        proc_root=proc_root,
        descriptors=Descriptors(0),
        plan=Plan(parts=parts),
        clock=lambda: 0,
        monotonic=lambda: 0,
        failed=lambda _: None,
    )
    samples = sampler.sample(0).samples
    sampler.close()
    assert len(samples) > 3
    for sample in samples:
        cgroup = sample.container.cgroup
        assert inode_of(hierarchies, cgroup.path) == cgroup.inode
        read = read_limits(hierarchies, cgroup.path)
        assert read.failures == ()
        if sample.memory and sample.memory.limit_bytes is not None:
            assert read.values["memory.max"] == sample.memory.limit_bytes
        if sample.cpu and sample.cpu.quota_microseconds is not None:
            assert read.values["cpu.max"] == sample.cpu.quota_microseconds
