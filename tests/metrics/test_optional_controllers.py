"""Families of the controllers that are read only if somebody wants them."""

from __future__ import annotations

import math

import pytest

from cgwatch.assembly import sampling_plan
from cgwatch.cgroup.cpuset import CpusetStats
from cgwatch.cgroup.hugetlb import HugePages, HugetlbStats
from cgwatch.cgroup.numa import NumaPages, NumaStats
from cgwatch.groups import Groups
from cgwatch.model import Sample
from cgwatch.settings import Metrics, Settings
from tests.metrics.test_families import container, values


def huge(*pages: HugePages) -> Sample:
    return Sample(container(), hugetlb=HugetlbStats(pages))


def test_huge_pages_have_a_series_for_each_size() -> None:
    sample = huge(HugePages("2MB", 4096, 8192, 3, 16384), HugePages("1GB", 0, 0, 0, math.inf))

    assert values("container_hugetlb_usage_bytes", sample) == {("2MB",): 4096, ("1GB",): 0}
    assert values("container_hugetlb_max_usage_bytes", sample) == {("2MB",): 8192, ("1GB",): 0}
    assert values("container_hugetlb_failcnt", sample) == {("2MB",): 3, ("1GB",): 0}


def test_a_limit_on_huge_pages_is_shown_where_there_is_one() -> None:
    sample = huge(HugePages("2MB", limit_bytes=0), HugePages("1GB", limit_bytes=math.inf), HugePages("64KB"))

    assert values("container_spec_hugetlb_limit_bytes", sample) == {("2MB",): 0}


def test_a_peak_that_the_kernel_does_not_keep_is_absent() -> None:
    assert values("container_hugetlb_max_usage_bytes", huge(HugePages("2MB", 1))) == {}


def test_cpus_and_memory_nodes_are_counted() -> None:
    sample = Sample(container(), cpuset=CpusetStats(3, 1))

    assert values("container_spec_cpuset_cpus", sample) == {(): 3}
    assert values("container_spec_cpuset_memory_nodes", sample) == {(): 1}


@pytest.mark.parametrize(("switch", "shown"), [(True, {(): 1}), (False, {(): 0}), (None, {})])
def test_whether_memory_migrates_is_shown_where_it_is_a_choice(
    switch: bool | None,  # noqa: FBT001 - what the kernel says
    shown: dict[tuple[str, ...], float],
) -> None:
    sample = Sample(container(), cpuset=CpusetStats(memory_migrate=switch))

    assert values("container_memory_migrate", sample) == shown


def test_memory_is_shown_by_kind_scope_and_node() -> None:
    numa = NumaStats(
        own=(NumaPages("file", 0, 1),), hierarchical=(NumaPages("file", 0, 2), NumaPages("anon", 1, 3))
    )

    assert values("container_memory_numa_pages", Sample(container(), numa=numa)) == {
        ("file", "container", "0"): 1,
        ("file", "hierarchy", "0"): 2,
        ("anon", "hierarchy", "1"): 3,
    }


@pytest.mark.parametrize(
    ("groups", "part"),
    [(Groups(hugetlb=True), "hugetlb"), (Groups(cpuset=True), "cpuset"), (Groups(memory_numa=True), "numa")],
)
def test_a_group_that_is_on_has_its_files_read_and_by_default_none_is(groups: Groups, part: str) -> None:
    assert part in sampling_plan(Settings(metrics=Metrics(groups=groups))).parts
    assert part not in sampling_plan(Settings()).parts
