"""Who joins which cgroup, as this machine's kernel tells it (cgroup v1)."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from cgwatch.cgroup.arrivals import Arrivals
from cgwatch.cgroup.hierarchy import Hierarchy
from tests.conftest import V1_ROOT, V1Cgroups
from tests.oom.hogs import open_descriptors

MEMORY = Hierarchy(1, frozenset({"memory"}), str(V1_ROOT / "memory"))


@pytest.fixture
def arrivals() -> Iterator[Arrivals]:
    before = open_descriptors()
    arrivals = Arrivals(MEMORY)
    yield arrivals
    arrivals.close()
    assert open_descriptors() == before


def awaited(arrivals: Arrivals) -> list[tuple[str, list[int]]]:
    """Take what is told, once something is."""
    with select.epoll() as epoll:
        epoll.register(arrivals, select.EPOLLIN)
        assert epoll.poll(30), "nothing was told"
    return arrivals.take()


@pytest.mark.real
def test_a_process_that_joins_a_new_cgroup_is_told_of_at_once(
    arrivals: Arrivals, v1_cgroups: V1Cgroups
) -> None:
    top = v1_cgroups.make()
    arrivals.follow([f"/{v1_cgroups.name}"])
    new = v1_cgroups.make("new")
    assert awaited(arrivals) == [], "nobody is in it yet"
    process = v1_cgroups.start(new)

    assert awaited(arrivals) == [(f"/{v1_cgroups.name}/new", [process.pid])]
    other = v1_cgroups.start(top)
    assert awaited(arrivals) == [(f"/{v1_cgroups.name}", [other.pid])]


@pytest.mark.real
def test_what_was_made_and_joined_before_anyone_looked_is_found(
    arrivals: Arrivals, v1_cgroups: V1Cgroups
) -> None:
    v1_cgroups.make()
    arrivals.follow([f"/{v1_cgroups.name}"])
    below = v1_cgroups.make("new/below")
    process = v1_cgroups.start(below)

    assert awaited(arrivals) == [(f"/{v1_cgroups.name}/new/below", [process.pid])]


@pytest.mark.real
def test_a_cgroup_that_is_gone_is_forgotten_and_one_of_its_name_is_another(
    arrivals: Arrivals, v1_cgroups: V1Cgroups
) -> None:
    v1_cgroups.make()
    arrivals.follow([f"/{v1_cgroups.name}"])
    for _ in range(2):
        place = v1_cgroups.make("again")
        process = v1_cgroups.start(place)
        assert awaited(arrivals) == [(f"/{v1_cgroups.name}/again", [process.pid])]
        v1_cgroups.end(process)
        v1_cgroups.remove(place)
    assert arrivals.take() == []
    assert set(arrivals._watches) == {f"/{v1_cgroups.name}"}


@pytest.mark.real
def test_a_cgroup_that_is_not_there_is_passed_over(arrivals: Arrivals, v1_cgroups: V1Cgroups) -> None:
    arrivals.follow([f"/{v1_cgroups.name}/never"])
    assert arrivals.take() == []
