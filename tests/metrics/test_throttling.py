"""What a quota above a container withholds: the kernel counts it there alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families import throttling
from cgwatch.metrics.families.throttling import Throttling, throttling_above
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.model import Cgroup, Container, Sample, Snapshot

CONTAINERS: dict[str, Container] = {}


def sample(path: str, cpu: CpuStats | None) -> Sample:
    container = CONTAINERS.setdefault(path, Container(Cgroup(path, 1), recognise(path)))
    return Sample(container, cpu=cpu)


def quota(periods: int = 0, throttled: int = 0, seconds: float = 0.0, **more: Any) -> CpuStats:
    return CpuStats(
        quota_microseconds=50_000,
        periods_total=periods,
        throttled_periods_total=throttled,
        throttled_seconds=seconds,
        **more,
    )


FREE = CpuStats(quota_microseconds=math.inf, periods_total=0, throttled_periods_total=0, throttled_seconds=0)


def page(cpus: dict[str, CpuStats | None], renderer: Renderer | None = None) -> dict[str, dict[str, float]]:
    """Give the values by the last word of the cgroup's path, by name of the family."""
    samples = tuple(sample(path, cpu) for path, cpu in sorted(cpus.items()))
    snapshot = Snapshot(0, 1000.0, 0.0, 0.0, samples, Layout.V2)
    renderer = renderer or Renderer(throttling.FAMILIES)
    found: dict[str, dict[str, float]] = {}
    for line in renderer.render(snapshot, Format.TEXT).splitlines():
        if not line.startswith("#"):
            labels, _, value = line.rpartition(" ")
            name, path = labels.split("{")[0], labels.split('id="')[1].split('"')[0]
            name = name.removeprefix("container_cpu_").removesuffix("_total")
            found.setdefault(name, {})[path.rpartition("/")[2]] = float(value)
    return found


def test_a_container_shows_what_the_quota_of_its_pod_withheld() -> None:
    assert page({"/": None, "/pod": quota(10, 4, 1.5), "/pod/app": quota(9, 1, 0.25), "/other": FREE}) == {
        "ancestor_periods": {"app": 10},
        "ancestor_throttled_periods": {"app": 4},
        "ancestor_throttled_seconds": {"app": 1.5},
    }


def test_quotas_above_one_another_add_up_over_cgroups_without_one() -> None:
    cpus = {"/": FREE, "/a": quota(1, 1, 0.5), "/a/b": None, "/a/b/c": quota(2, 2, 2.0), "/a/b/c/d": FREE}

    assert page(cpus)["ancestor_throttled_seconds"] == {"b": 0.5, "c": 0.5, "d": 2.5}


def test_a_quota_on_the_root_of_a_cgroup_namespace_is_above_all() -> None:
    assert page({"/": quota(7), "/a": FREE})["ancestor_periods"] == {"a": 7}


def test_a_sum_without_one_of_its_numbers_is_not_shown_rather_than_too_low() -> None:
    unread = CpuStats(quota_microseconds=50_000)

    assert page({"/a": quota(5), "/a/b": unread, "/a/b/c": FREE}) == {
        "ancestor_periods": {"b": 5},
        "ancestor_throttled_periods": {"b": 0},
        "ancestor_throttled_seconds": {"b": 0},
    }


def test_the_numbers_are_new_on_each_page_though_the_container_did_not_change() -> None:
    renderer = Renderer(throttling.FAMILIES)

    assert page({"/pod": quota(10), "/pod/app": FREE}, renderer)["ancestor_periods"] == {"app": 10}
    assert page({"/pod": quota(20), "/pod/app": FREE}, renderer)["ancestor_periods"] == {"app": 20}
    assert page({"/pod": FREE, "/pod/app": FREE}, renderer) == {}


def test_what_the_kernel_says_of_the_container_itself_is_shown() -> None:
    cpu = CpuStats(own_throttled_seconds=0.0)

    assert page({"/pod": FREE, "/pod/app": cpu}) == {"local_throttled_seconds": {"app": 0}}


NAMES = st.sampled_from("ab")
PATHS = st.lists(NAMES, max_size=4).map(lambda names: "/" + "/".join(names))
CPUS = st.none() | st.just(FREE) | st.builds(quota, st.integers(0, 9), st.integers(0, 9))


@given(st.dictionaries(PATHS, CPUS))
def test_it_is_the_sum_over_the_ancestors_with_a_quota(cpus: dict[str, CpuStats | None]) -> None:
    for path in list(cpus):  # as on a node, every cgroup has its parents
        names = path.split("/")
        for depth in range(1, len(names)):
            cpus.setdefault("/".join(names[:depth]) or "/", None)
    expected = {}
    for path in cpus:
        above = [
            cpu
            for other, cpu in cpus.items()
            if other != path and f"{path}/".startswith(f"{other.rstrip('/')}/") and cpu and cpu is not FREE
        ]
        if above:
            periods = [cpu.periods_total or 0 for cpu in above]
            throttled = [cpu.throttled_periods_total or 0 for cpu in above]
            expected[path] = Throttling(sum(periods), sum(throttled), 0.0)

    assert throttling_above([sample(path, cpu) for path, cpu in sorted(cpus.items())]) == expected


@pytest.mark.parametrize("name", ["periods", "throttled_periods", "throttled_seconds"])
def test_the_help_says_whose_time_it_is(name: str) -> None:
    (family,) = (each for each in throttling.FAMILIES if each.name == f"container_cpu_ancestor_{name}_total")

    assert "above the container" in family.help
