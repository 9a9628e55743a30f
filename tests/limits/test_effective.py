"""What really bounds a cgroup, and whose limit it is."""

from __future__ import annotations

import math

import pytest

from cgwatch.cgroup.knob import Value
from cgwatch.change import CgroupState, Node, Tree
from cgwatch.limits.effective import effective

NODE = Node(4096, cpus=frozenset(range(8)), memory_nodes=frozenset({0}))


def tree(version: int, **values: dict[str, Value]) -> Tree:
    """Make a tree of ``/``, ``/a``, ``/a/b`` and so on, by the last letter of each."""
    paths = {"root": "/", "a": "/a", "b": "/a/b", "c": "/a/b/c"}
    names = ("memory", "cpu", "cpuset", "pids", "freezer")
    return Tree(
        NODE,
        dict.fromkeys(names, version),
        {paths[name]: CgroupState(paths[name], 1, limits) for name, limits in values.items()},
    )


def test_the_least_limit_of_all_above_holds_and_the_lowest_of_equals_is_named() -> None:
    found = tree(2, root={}, a={"memory.max": 5}, b={"memory.max": 9}, c={"memory.max": math.inf})
    assert effective(found, "/a/b/c", "memory.max") == (5, "/a")
    assert effective(found, "/a", "memory.max") == (5, "/a")
    equal = tree(2, a={"memory.max": 5}, b={"memory.max": 5})
    assert effective(equal, "/a/b", "memory.max") == (5, "/a/b")
    unlimited = tree(2, a={"memory.max": math.inf}, b={"memory.max": math.inf})
    assert effective(unlimited, "/a/b", "memory.max") == (math.inf, "/a/b")


def test_what_the_cgroup_does_not_offer_bounds_nothing() -> None:
    assert effective(tree(2, a={"memory.max": 5}, b={}), "/a/b", "memory.max") == (None, None)


def test_a_quota_is_brought_to_the_cgroups_own_period() -> None:
    half: dict[str, Value] = {"cpu.max": 50_000, "cpu.max.period": 100_000}
    found = tree(
        2,
        a=half,
        b={"cpu.max": 30_000, "cpu.max.period": 20_000},
        c={"cpu.max": math.inf, "cpu.max.period": 10_000},
    )
    assert effective(found, "/a/b", "cpu.max") == (10_000, "/a")
    assert effective(found, "/a/b/c", "cpu.max") == (5_000, "/a")
    same = tree(2, a=half, b={"cpu.max": 10_000, "cpu.max.period": 20_000})
    assert effective(same, "/a/b", "cpu.max") == (10_000, "/a/b")


@pytest.mark.parametrize(
    ("above", "own", "result"),
    [
        ("0-3", "2-5", ("2-3", "/a/b")),
        ("0-3", "", ("0-3", "/a")),
        ("0-3", "6", ("0-3", "/a")),
        ("", "1", ("1", "/a/b")),
        ("", "", ("0-7", "/a")),
        ("0-3", "0-3", ("0-3", "/a/b")),
    ],
)
def test_cpus_are_what_is_left_of_those_above(above: str, own: str, result: tuple[str, str]) -> None:
    found = tree(2, a={"cpuset.cpus": above}, b={"cpuset.cpus": own})
    assert effective(found, "/a/b", "cpuset.cpus") == result


def test_an_empty_list_of_v1_is_empty() -> None:
    found = tree(1, root={"cpuset.cpus": "0-7"}, a={"cpuset.cpus": "0-3"}, b={"cpuset.cpus": ""})
    assert effective(found, "/a/b", "cpuset.cpus") == ("", "/a/b")


def test_a_cgroup_is_frozen_if_one_above_it_is() -> None:
    found = tree(2, a={"cgroup.freeze": 1}, b={"cgroup.freeze": 0})
    assert effective(found, "/a/b", "cgroup.freeze") == (1, "/a")


def test_a_weight_is_its_own() -> None:
    found = tree(2, a={"cpu.weight": 1}, b={"cpu.weight": 100})
    assert effective(found, "/a/b", "cpu.weight") == (100, "/a/b")
