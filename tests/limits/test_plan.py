"""What a plan does and does not do, case by case; test_plan_properties.py says what holds for all."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from cgwatch.change import Actor, ActorKind, CgroupState, Change, Node, Plan, Tree
from cgwatch.limits.guards import Guards
from cgwatch.limits.plan import plan
from tests.limits.errno_model import PAGE, Kernel
from tests.limits.wishes import MEGABYTE, request_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cgwatch.cgroup.knob import Value

PATH = "/above/target"


def kernel_of(version: int) -> Kernel:
    kernel = Kernel(version)
    for path in ("/above", PATH):
        kernel.make(path)
        kernel.write(path, "cpuset.cpus", "0-3")
        kernel.write(path, "cpuset.mems", "0")
    return kernel


def planned(
    kernel: Kernel | Tree,
    wishes: Mapping[str, Value],
    *,
    force: bool = False,
    guards: Guards | None = None,
    path: str = PATH,
) -> Plan:
    tree = kernel.tree() if isinstance(kernel, Kernel) else kernel
    return plan(request_of(path, wishes, force=force), tree, guards=guards or Guards())


def texts(made: Plan) -> list[str]:
    assert not made.refusals
    return [f"{step.file}={step.text}" for step in made.steps]


def refused(made: Plan) -> str:
    assert not made.steps
    (refusal,) = made.refusals
    return refusal.message


def test_what_is_so_already_is_no_change() -> None:
    made = planned(kernel_of(2), {"memory.max": math.inf, "pids.max": 100})
    assert [change.key for change in made.unchanged] == ["memory.max"]
    assert [change.key for change in made.changes] == ["pids.max"]
    assert texts(made) == ["pids.max=100"]


def test_memory_is_rounded_down_to_pages_and_says_so() -> None:
    made = planned(kernel_of(2), {"memory.max": 10_000_001})
    assert made.changes == (
        Change("memory.max", math.inf, 10_000_001, 9_998_336, "rounded down to pages of 4KiB"),
    )


@pytest.mark.parametrize(
    ("key", "asked", "to", "note"),
    [
        ("cpu.max", 5, 1000, "the kernel's least is 1ms"),
        ("cpu.max.period", 5_000_000, 1_000_000, "the kernel's most is 1s"),
        ("pids.max", 5_000_000, 4_194_304, "the kernel's most is 4194304"),
        ("memory.max", 2**63 - 1, math.inf, "the kernel takes that much for no limit"),
        ("cpu.weight", 0, 1, "the kernel's least is 1"),
        ("io.max.riops[254:0]", 2**40, 2**32 - 2, "the kernel's most is 4294967294"),
    ],
)
def test_numbers_are_brought_into_the_kernels_range_with_a_note(
    key: str, asked: Value, to: Value, note: str
) -> None:
    kernel = kernel_of(2)
    kernel.write(PATH, "pids.max", "100")
    kernel.write(PATH, "memory.max", str(64 * MEGABYTE))
    (change,) = (*planned(kernel, {key: asked}).changes,)
    assert (change.asked, change.to, change.note) == (asked, to, note)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("memory.max", math.nan, "not a number"),
        ("memory.max", -1, "is negative"),
        ("memory.max", -math.inf, "is negative"),
        ("memory.max", 0.5, "not a whole number of bytes"),
        ("memory.max", 2.0**64, "more than the kernel counts"),
        ("memory.max", "512m", "is not a number"),
        ("cpu.weight", math.inf, "cannot be without limit"),
        ("cpu.idle", 2, "neither 0 nor 1"),
        ("cpuset.cpus", 3, "is not a list"),
        ("cpuset.cpus", "x", "is not a list"),
        ("cpuset.cpus", "0-5", "this machine has no CPU 4-5 online, only 0-3"),
        ("cpuset.mems", "1", "this machine has no memory node 1 online, only 0"),
        ("memory.maxx", 5, "is it memory.max"),
        ("cpu.shares", 5, "cgroup v2 has cpu.weight instead"),
        ("hugetlb.2MB.max", 5, "no hugetlb controller"),
        ("io.weight", 5, "it takes the io.cost controller"),
    ],
)
def test_what_no_kernel_could_mean_is_refused(key: str, value: Value, words: str) -> None:
    assert words in refused(planned(kernel_of(2), {key: value}))


def test_with_one_refusal_nothing_at_all_is_done() -> None:
    made = planned(kernel_of(2), {"pids.max": 5, "memory.max": -1})
    assert not made.steps
    assert [refusal.key for refusal in made.refusals] == ["memory.max"]


def test_memory_and_swap_of_v1_are_lowered_and_raised_in_the_kernels_order() -> None:
    kernel = kernel_of(1)
    lower = planned(kernel, {"memory.max": 64 * MEGABYTE, "memory.swap.max": 16 * MEGABYTE})
    assert texts(lower) == [
        f"memory.limit_in_bytes={64 * MEGABYTE}",
        f"memory.memsw.limit_in_bytes={80 * MEGABYTE}",
    ]
    for step in lower.steps:
        kernel.write(step.path, step.file, step.text)
    assert texts(planned(kernel, {"memory.max": 128 * MEGABYTE})) == [
        f"memory.memsw.limit_in_bytes={144 * MEGABYTE}",
        f"memory.limit_in_bytes={128 * MEGABYTE}",
    ]


def test_without_a_limit_of_memory_v1_has_none_of_swap() -> None:
    kernel = kernel_of(1)
    kernel.write(PATH, "memory.limit_in_bytes", str(64 * MEGABYTE))
    kernel.write(PATH, "memory.memsw.limit_in_bytes", str(80 * MEGABYTE))
    made = planned(kernel, {"memory.max": math.inf})
    swap = next(change for change in made.changes if change.key == "memory.swap.max")
    assert (swap.before, swap.to) == (16 * MEGABYTE, math.inf)
    assert "memory and swap together" in swap.note
    assert texts(made) == ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"]
    assert "limit memory.max as well" in refused(
        planned(kernel, {"memory.max": math.inf, "memory.swap.max": 0})
    )


def test_a_burst_comes_down_before_the_quota_and_goes_up_after_it() -> None:
    kernel = kernel_of(2)
    raised = planned(kernel, {"cpu.max": 50_000, "cpu.max.burst": 40_000})
    assert texts(raised) == ["cpu.max=50000 100000", "cpu.max.burst=40000"]
    for step in raised.steps:
        kernel.write(step.path, step.file, step.text)
    made = planned(kernel, {"cpu.max": 20_000})
    assert texts(made) == ["cpu.max.burst=20000", "cpu.max=20000 100000"]
    assert "a burst is at most the quota, 20ms" in {change.note for change in made.changes}


def test_a_period_alone_says_what_becomes_of_the_cpus() -> None:
    kernel = kernel_of(2)
    kernel.write(PATH, "cpu.max", "50000 100000")
    made = planned(kernel, {"cpu.max.period": 25_000})
    assert texts(made) == ["cpu.max=50000 25000"]
    assert made.warnings == ("cpu.max stays 50ms, which is 2 CPUs for the new period",)


def test_an_idle_cgroup_gets_its_weight_back() -> None:
    kernel = kernel_of(2)
    kernel.write(PATH, "cpu.weight", "300")
    made = planned(kernel, {"cpu.idle": 1})
    assert Change("cpu.weight", 300, 0, 0, "an idle cgroup has no weight") in made.changes
    shown = kernel.shown()
    for step in made.steps:
        kernel.write(step.path, step.file, step.text)
    assert "set cpu.idle=0 as well" in refused(planned(kernel, {"cpu.weight": 5}))
    for step in reversed(made.steps):
        assert step.undo is not None
        kernel.write(step.path, step.file, step.undo)
    assert kernel.shown() == shown


def with_usage(version: int, *, anon: int = 0, cache: int = 0, swap_free: int = 0) -> Kernel:
    kernel = kernel_of(version)
    kernel.swap_free = swap_free
    kernel.cgroups[PATH].anon, kernel.cgroups[PATH].cache = anon, cache
    return kernel


@pytest.mark.parametrize("version", [1, 2])
def test_memory_that_is_in_use_is_not_cut_and_the_numbers_are_told(version: int) -> None:
    kernel = with_usage(version, anon=100 * MEGABYTE, cache=20 * MEGABYTE, swap_free=5 * MEGABYTE)
    message = refused(planned(kernel, {"memory.max": 50 * MEGABYTE}))
    assert "120MiB are in use; 20MiB of it can be reclaimed and 5MiB can go to swap" in message
    assert "104.5MiB is the least, not 50MiB" in message
    assert ("the kernel kills" if version > 1 else "kills nobody") in message
    assert planned(kernel, {"memory.max": 50 * MEGABYTE}, force=True).steps


def test_swap_that_a_cgroup_above_has_used_up_is_no_way_out() -> None:
    kernel = with_usage(2, anon=100 * MEGABYTE, swap_free=1 << 40)
    assert planned(kernel, {"memory.max": 50 * MEGABYTE}).steps
    kernel.write("/above", "memory.swap.max", "0")
    assert "0B can go to swap" in refused(planned(kernel, {"memory.max": 50 * MEGABYTE}))


def test_v2_reclaims_before_it_lowers_and_puts_high_back() -> None:
    kernel = with_usage(2, cache=100 * MEGABYTE)
    kernel.write(PATH, "memory.high", str(500 * MEGABYTE))
    made = planned(kernel, {"memory.max": 50 * MEGABYTE})
    assert texts(made) == [
        f"memory.high={50 * MEGABYTE}",
        f"memory.max={50 * MEGABYTE}",
        f"memory.high={500 * MEGABYTE}",
    ]
    assert [step.waits_for for step in made.steps] == ["usage", "", ""]
    assert [step.keys for step in made.steps] == [(), ("memory.max",), ()]
    assert texts(planned(kernel, {"memory.max": 50 * MEGABYTE}, force=True)) == [
        f"memory.max={50 * MEGABYTE}"
    ]
    assert texts(planned(kernel, {"memory.max": 200 * MEGABYTE})) == [f"memory.max={200 * MEGABYTE}"]


def test_v1_leaves_it_to_the_kernel_to_reclaim_or_to_refuse() -> None:
    kernel = with_usage(1, cache=100 * MEGABYTE)
    assert texts(planned(kernel, {"memory.max": 50 * MEGABYTE})) == [f"memory.limit_in_bytes={50 * MEGABYTE}"]


def test_v1_does_not_cut_memory_and_swap_below_what_both_hold() -> None:
    kernel = with_usage(1, anon=100 * MEGABYTE)
    kernel.write(PATH, "memory.limit_in_bytes", str(200 * MEGABYTE))
    kernel.cgroups[PATH].swap = 50 * MEGABYTE
    message = refused(planned(kernel, {"memory.max": 120 * MEGABYTE, "memory.swap.max": 10 * MEGABYTE}))
    assert "150MiB that cannot be reclaimed, and 130MiB would be left" in message


def test_memory_has_a_floor() -> None:
    assert "less than 6MiB" in refused(planned(kernel_of(2), {"memory.max": PAGE}))
    assert planned(kernel_of(2), {"memory.max": PAGE}, force=True).steps


def test_tasks_that_are_there_stay_unless_forced() -> None:
    kernel = kernel_of(2)
    kernel.cgroups[PATH].tasks = 20
    assert "20 processes and threads are there" in refused(planned(kernel, {"pids.max": 19}))
    assert planned(kernel, {"pids.max": 20}).steps
    assert planned(kernel, {"pids.max": 19}, force=True).steps
    assert "nothing can start" in refused(planned(kernel_of(2), {"pids.max": 0}))


def test_huge_pages_in_use_are_not_taken_away_not_even_by_force() -> None:
    state = CgroupState(PATH, 1, {"hugetlb.2MB.max": math.inf}, used={"hugetlb.2MB.max": 8 * MEGABYTE})
    tree = Tree(Node(PAGE), {"hugetlb": 2}, {PATH: state})
    for force in (False, True):
        made = planned(tree, {"hugetlb.2MB.max": 4 * MEGABYTE}, force=force)
        assert "8MiB of these pages are in use" in refused(made)
    assert texts(planned(tree, {"hugetlb.2MB.max": 9 * MEGABYTE})) == [f"hugetlb.2MB.max={8 * MEGABYTE}"]


def test_the_node_keeps_its_reserve() -> None:
    guards = Guards(memory_reserve_bytes=1 << 39, cpu_reserve=1)
    made = planned(kernel_of(2), {"memory.max": (1 << 40) - 1, "cpu.max": 400_000}, guards=guards)
    assert {change.key: change.to for change in made.changes} == {"memory.max": 1 << 39, "cpu.max": 300_000}
    assert {change.note for change in made.changes} == {
        "the node keeps 512GiB for itself",
        "the node keeps 1 CPUs for itself",
    }
    kernel = kernel_of(2)
    kernel.write(PATH, "memory.max", str(64 * MEGABYTE))
    unlimited = planned(kernel, {"memory.max": math.inf}, guards=guards)
    assert unlimited.warnings == ("memory.max: without a limit the node does not keep 512GiB",)


def test_what_was_there_before_comes_back_whatever_the_floors_and_the_reserve() -> None:
    guards = Guards(memory_reserve_bytes=1 << 39)
    kernel = kernel_of(2)
    kernel.write(PATH, "memory.max", str(64 * MEGABYTE))
    for value in ((1 << 40) - PAGE, PAGE):
        request = request_of(PATH, {"memory.max": value, "pids.max": 0})
        made = plan(request, kernel.tree(), guards=guards, restores=True)
        assert {change.key: change.to for change in made.changes} == {"memory.max": value, "pids.max": 0}
        ended = structs.replace(request, actor=Actor(ActorKind.EXPIRY, ""))
        assert plan(ended, kernel.tree(), guards=guards).steps == made.steps
    in_use = with_usage(2, anon=100 * MEGABYTE).tree()
    request = request_of(PATH, {"memory.max": 20 * MEGABYTE})
    assert plan(request, in_use, restores=True).refusals


def test_a_limit_above_what_bounds_it_is_told() -> None:
    kernel = kernel_of(2)
    kernel.write(PATH, "memory.max", str(64 * MEGABYTE))
    made = planned(kernel, {"memory.high": 80 * MEGABYTE})
    assert made.warnings == ("memory.high is 80MiB, above memory.max of 64MiB: more has no use",)
    kernel.write(PATH, "memory.low", str(32 * MEGABYTE))
    lowered = planned(kernel, {"memory.max": 16 * MEGABYTE})
    assert lowered.warnings == ("memory.low is 32MiB, above memory.max of 16MiB: more has no use",)


def test_high_below_what_cannot_be_reclaimed_is_told() -> None:
    made = planned(with_usage(2, anon=100 * MEGABYTE), {"memory.high": 50 * MEGABYTE})
    assert "100MiB cannot be reclaimed, so above 50MiB the processes are slowed down" in made.warnings[0]


def test_what_a_cgroup_above_does_not_let_take_effect_is_told() -> None:
    kernel = kernel_of(2)
    kernel.write("/above", "memory.max", str(64 * MEGABYTE))
    made = planned(kernel, {"memory.max": 128 * MEGABYTE, "pids.max": 5})
    assert made.warnings == ("memory.max: /above above it allows 64MiB only",)


def test_v1_names_the_cgroup_above_that_would_refuse() -> None:
    kernel = kernel_of(1)
    kernel.write(PATH, "cpuset.cpus", "0")
    kernel.write("/above", "cpu.cfs_quota_us", "50000")
    kernel.write("/above", "cpuset.cpus", "0-1")
    message = refused(planned(kernel, {"cpu.max": 30_000, "cpu.max.period": 20_000}))
    assert "/above above it has 50ms for each 100ms" in message
    assert "at most 10ms here" in message
    assert "/above above it has 0-1" in refused(planned(kernel, {"cpuset.cpus": "1-2"}))
    assert "no empty list" not in refused(planned(kernel, {"cpuset.cpus": "2"}))


def test_v1_takes_no_empty_cpuset_where_there_are_processes() -> None:
    kernel = kernel_of(1)
    kernel.cgroups[PATH].tasks = 1
    assert "takes no empty list" in refused(planned(kernel, {"cpuset.cpus": ""}))
    assert planned(kernel_of(1), {"cpuset.cpus": ""}).steps
    assert planned(kernel_of(2), {"cpuset.cpus": ""}).steps


def test_v1_lowers_what_is_below_first_and_says_so() -> None:
    kernel = kernel_of(1)
    made = planned(kernel, {"cpuset.cpus": "2-3"}, path="/above")
    assert [(step.path, step.text) for step in made.steps] == [(PATH, "2-3"), ("/above", "2-3")]
    assert made.warnings == (f"cgroup v1 lets nobody below have more, so these change as well: {PATH}",)
    kernel.write(PATH, "cpu.cfs_quota_us", "50000")
    kernel.write(PATH, "cpu.cfs_burst_us", "50000")
    lowered = planned(kernel, {"cpu.max": 20_000}, path="/above")
    assert [(step.path, step.file, step.text) for step in lowered.steps] == [
        (PATH, "cpu.cfs_burst_us", "20000"),
        (PATH, "cpu.cfs_quota_us", "20000"),
        ("/above", "cpu.cfs_quota_us", "20000"),
    ]


def test_v1_cannot_lower_what_is_below_past_the_kernels_least() -> None:
    kernel = kernel_of(1)
    kernel.write(PATH, "cpu.cfs_period_us", "1000")
    kernel.write(PATH, "cpu.cfs_quota_us", "1000")
    message = refused(planned(kernel, {"cpu.max": 50_000}, path="/above"))
    assert f"{PATH} below it has a period of 1ms" in message


def test_a_cpuset_that_moves_is_the_old_and_the_new_one_for_a_moment() -> None:
    kernel = kernel_of(1)
    kernel.write(PATH, "cpuset.cpus", "0")
    kernel.write("/above", "cpuset.cpus", "0-1")
    made = planned(kernel, {"cpuset.cpus": "2-3"}, path="/above")
    assert [(step.path, step.text, step.undo) for step in made.steps] == [
        ("/above", "0-3", "0-1"),
        (PATH, "2-3", "0"),
        ("/above", "2-3", "0-3"),
    ]


def test_a_cpuset_below_gets_what_the_one_above_it_gets_where_nothing_is_left_of_its_own() -> None:
    kernel = kernel_of(1)
    kernel.make(f"{PATH}/deep")
    kernel.write(PATH, "cpuset.cpus", "0-1")
    kernel.write(f"{PATH}/deep", "cpuset.cpus", "0")
    made = planned(kernel, {"cpuset.cpus": "1-2"}, path="/above")
    for step in made.steps:
        kernel.write(step.path, step.file, step.text)
    found = {path: state.values["cpuset.cpus"] for path, state in kernel.tree().cgroups.items()}
    assert found == {"/": "0-3", "/above": "1-2", PATH: "1", f"{PATH}/deep": "1"}


def test_freezing_comes_last_and_thawing_first() -> None:
    kernel = kernel_of(2)
    made = planned(kernel, {"cgroup.freeze": 1, "pids.max": 5})
    assert [(step.file, step.waits_for) for step in made.steps] == [
        ("pids.max", ""),
        ("cgroup.freeze", "frozen"),
    ]
    for step in made.steps:
        kernel.write(step.path, step.file, step.text)
    assert texts(planned(kernel, {"cgroup.freeze": 0, "pids.max": 6})) == ["cgroup.freeze=0", "pids.max=6"]
