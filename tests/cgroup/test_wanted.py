"""What of the table of controllers is read on a node: what somebody wants, and what can be there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from cgwatch.cgroup import hierarchy, io
from cgwatch.cgroup.controllers import CONTROLLERS, Controller, open_reader, wanted
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.model import Sample
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from tests.cgroup.fake_trees import Node, write

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from cgwatch.errors import KernelFileError

OPTIONAL = ("cpuset", "hugetlb", "numa")
TIMES = {"blkio.bfq.io_service_time_recursive": "8:0 Read 5\n8:0 Total 5\nTotal 5\n"}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path)
    (tmp_path / "sys/kernel/mm/hugepages/hugepages-65536kB").mkdir(parents=True)
    return made


def found(node: Node) -> Hierarchies:
    return hierarchy.find(str(node.proc), str(node.cgroup))


def table(node: Node, *parts: str) -> dict[str, Controller]:
    rows = wanted(parts, found(node), str(node.cgroup.parent / "sys"))
    return {controller.name: controller for controller in rows}


def test_a_sample_has_a_field_for_each_controller_in_the_same_order() -> None:
    names = [controller.name for controller in CONTROLLERS]

    assert list(Sample.__struct_fields__[-len(names) :]) == names


def test_what_nobody_wants_has_no_files(node: Node) -> None:
    node.v2("/")
    rows = table(node)

    assert list(rows) == [controller.name for controller in CONTROLLERS]
    assert {name for name, row in rows.items() if not row.files_v1 + row.files_v2} == set(OPTIONAL)


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_somebody_wants_has_files(node: Node, name: str) -> None:
    node.v2("/")
    row = table(node, name)[name]

    assert row.files_v2
    assert row.files_v1


def test_huge_pages_are_looked_for_in_the_sizes_of_the_machine(node: Node) -> None:
    node.v2("/")
    row = table(node, "hugetlb")["hugetlb"]

    assert {file.name.split(".")[1] for file in row.files_v1 + row.files_v2} == {"64MB"}
    assert row.mark == "hugetlb.64MB.current"


def opened(node: Node, row: Controller, path: str) -> tuple[set[str], set[str]]:
    """Return the files that are read, and those that were looked for in vain."""
    hierarchies = found(node)
    places = {place: 1 for place in hierarchies.v1 if os.path.isdir(place.locate(path))}
    reader = open_reader(row, hierarchies, path, places, Descriptors(100))
    names = {file.file.name for file in reader.files}
    reader.close()
    return names, {fault.file.name for fault in reader.absent}


def test_times_of_block_io_are_not_looked_for_where_the_root_has_none(node: Node) -> None:
    node.v1("/")
    node.v1("/a")
    names = {file.name for file in io.DETAILS_V1}

    for parts in ([], ["io.details"]):
        read, missed = opened(node, table(node, *parts)["io"], "/a")
        assert not names & (read | missed)


def test_times_of_block_io_are_read_where_the_root_has_them_if_they_are_wanted(node: Node) -> None:
    for directory in (node.v1("/")["blkio"], node.v1("/a")["blkio"]):
        write(directory, TIMES)

    assert set(TIMES) <= opened(node, table(node, "io.details")["io"], "/a")[0]
    assert not set(TIMES) & set().union(*opened(node, table(node)["io"], "/a"))


def sample(node: Node, parts: Collection[str], ticks: int = 1) -> dict[str, Sample]:
    """Sample with some parts; no file may be missing without a reason."""
    failures: list[KernelFileError] = []
    sampler = Sampler(
        found(node),
        proc_root=str(node.proc),
        sys_root=str(node.cgroup.parent / "sys"),
        descriptors=node.descriptors,
        plan=Plan(parts=frozenset(parts)),
        clock=lambda: 0,
        monotonic=lambda: 0,
        failed=failures.append,
    )
    snapshots = [sampler.sample(number) for number in range(ticks)]
    sampler.close()
    assert failures == []
    return {sample.container.cgroup.path: sample for sample in snapshots[-1].samples}


CPUSET_V1 = {"cpuset.effective_cpus": "0-3\n", "cpuset.effective_mems": "0\n", "cpuset.memory_migrate": "1\n"}


def test_on_v1_the_optional_parts_come_from_hierarchies_of_their_own(node: Node) -> None:
    for path in ("/", "/a"):
        memory = node.v1(path)["memory"]
        write(memory, {"memory.numa_stat": "file=2 N0=2\nhierarchical_file=3 N0=3\n"})
        write(node.cgroup / "cpuset" / path.lstrip("/"), {**CPUSET_V1, "cgroup.procs": ""})
        huge = {f"hugetlb.64MB.{word}": "7\n" for word in ("usage_in_bytes", "max_usage_in_bytes", "failcnt")}
        limits = {f"hugetlb.64MB.{word}limit_in_bytes": "8\n" for word in ("", "rsvd.")}
        reserved = {"hugetlb.64MB.rsvd.failcnt": "0\n"}
        reserved |= {f"hugetlb.64MB.rsvd.{word}": "9\n" for word in ("usage_in_bytes", "max_usage_in_bytes")}
        write(node.cgroup / "hugetlb" / path.lstrip("/"), {**huge, **limits, **reserved, "cgroup.procs": ""})

    one = sample(node, OPTIONAL)["/a"]

    assert one.cpuset is not None
    assert (one.cpuset.cpus, one.cpuset.memory_nodes, one.cpuset.memory_migrate) == (4, 1, True)
    assert one.hugetlb is not None
    assert [(pages.size, pages.usage_bytes, pages.limit_bytes) for pages in one.hugetlb.pages] == [
        ("64MB", 9, 8)
    ]
    assert one.numa is not None
    assert [pages.pages for pages in (*one.numa.own, *one.numa.hierarchical)] == [2, 3]


def test_a_hierarchy_that_nobody_wants_is_not_followed(node: Node) -> None:
    node.v1("/")
    for path in ("", "only-there"):
        write(node.cgroup / "cpuset" / path, {**CPUSET_V1, "cgroup.procs": ""})

    assert set(sample(node, [])) == {"/"}
    assert set(sample(node, ["cpuset"])) == {"/", "/only-there"}


def test_a_cgroup_of_v2_without_the_controllers_says_nothing_and_fails_nothing(node: Node) -> None:
    node.v2("/")
    node.v2("/a")

    one = sample(node, OPTIONAL)["/a"]

    assert (one.cpuset, one.hugetlb, one.numa) == (None, None, None)


def test_a_controller_of_v2_that_is_enabled_later_is_read_from_then_on(node: Node) -> None:
    node.v2("/")
    directory = node.v2("/a")
    failures: list[KernelFileError] = []
    sampler: Any = Sampler(
        found(node),
        proc_root=str(node.proc),
        sys_root=str(node.cgroup.parent / "sys"),
        descriptors=node.descriptors,
        plan=Plan(interval_seconds=5, settings_seconds=5, parts=frozenset(OPTIONAL)),
        clock=lambda: 0,
        monotonic=lambda: 0,
        failed=failures.append,
    )
    sampler.sample(0)
    names = ("rsvd.current", "rsvd.max", "current", "max", "events")
    texts = {f"hugetlb.64MB.{name}": "max 0\n" if name == "events" else "5\n" for name in names}
    write(directory, {**texts, "cpuset.cpus.effective": "0\n", "cpuset.mems.effective": "0\n"})

    for number in range(1, 4):
        last = sampler.sample(number).samples[-1]
    sampler.close()

    assert failures == []
    assert last.cpuset is not None
    assert last.hugetlb.pages[0].usage_bytes == 5
