from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.memory import MemoryStat, MemoryStats
from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Sample, Snapshot
from cgwatch.oom.history import KEPT_SECONDS, MOST_CGROUPS, RECENT, SPACING_SECONDS, History, Point
from cgwatch.oom.observation import spelled

PATH = "/docker/" + "a" * 64


def sample(path: str = PATH, usage_bytes: int | None = 0, *, inode: int = 7, **more: int) -> Sample:
    limit_bytes = more.pop("limit_bytes", None)
    kernel_bytes, swap_bytes = more.pop("kernel_bytes", None), more.pop("swap_bytes", None)
    memory = MemoryStats(
        usage_bytes=usage_bytes,
        limit_bytes=limit_bytes,
        kernel_usage_bytes=kernel_bytes,
        swap_usage_bytes=swap_bytes,
        stat=MemoryStat(**more),
    )
    return Sample(Container(Cgroup(path, inode), recognise(path)), memory=memory)


def snapshot(seconds: float, *samples: Sample) -> Snapshot:
    return Snapshot(0, seconds, seconds, 0.0, samples, Layout.V2)


def kept(*snapshots: Snapshot) -> History:
    history = History()
    for each in snapshots:
        history.take(each)
    return history


def times(points: Sequence[Point]) -> list[float]:
    return [point.seconds for point in points]


def test_a_point_is_what_the_kernel_said_and_none_where_it_said_nothing() -> None:
    full = sample(usage_bytes=100, anon_bytes=60, file_bytes=30, shmem_bytes=10, kernel_bytes=9, swap_bytes=3)

    history = kept(snapshot(1.0, full), snapshot(2.0, sample(usage_bytes=2**50)))

    assert history.points(PATH) == (Point(1.0, 100, 60, 30, 10, 9, 3), Point(2.0, 2**50))


def test_of_a_cgroup_that_nobody_knows_there_is_nothing() -> None:
    assert kept(snapshot(1.0, sample())).points("/other") == ()
    assert History().points(PATH) == ()


def test_the_last_ticks_are_all_kept_and_of_older_ones_one_in_six_seconds() -> None:
    history = kept(*(snapshot(float(second), sample(usage_bytes=second)) for second in range(1000)))

    seconds = times(history.points(PATH))

    assert seconds[-RECENT:] == [float(second) for second in range(1000 - RECENT, 1000)]
    assert {after - before for before, after in pairwise(seconds[:-RECENT])} == {SPACING_SECONDS}
    assert KEPT_SECONDS - SPACING_SECONDS <= seconds[-1] - seconds[0] <= KEPT_SECONDS


def test_nothing_later_than_the_moment_is_shown() -> None:
    history = kept(*(snapshot(float(second), sample()) for second in range(5)))

    assert times(history.points(PATH, until_seconds=2.0)) == [0.0, 1.0, 2.0]


def test_a_cgroup_that_had_the_same_path_before_is_another_one() -> None:
    history = kept(
        snapshot(1.0, sample(usage_bytes=5, inode=1)),
        snapshot(2.0, sample(usage_bytes=6, inode=2)),
        snapshot(3.0, sample(usage_bytes=7, inode=2)),
    )

    assert times(history.points(PATH)) == [2.0, 3.0]
    assert times(history.points(PATH, until_seconds=1.0)) == [1.0]


def test_a_cgroup_that_went_a_moment_ago_is_found_and_one_that_went_long_ago_is_not() -> None:
    gone = [snapshot(float(second), sample("/other")) for second in (2, 3, 4, 5)]

    assert times(kept(snapshot(1.0, sample()), *gone[:3]).points(PATH)) == [1.0]
    assert kept(snapshot(1.0, sample()), *gone).points(PATH) == ()


def test_cgroups_that_come_and_go_do_not_mix_up_the_others() -> None:
    history = History()
    for second in range(1, 9):
        others = [sample(f"/other-{number}", 1000 + number) for number in range(second % 3)]
        history.take(snapshot(float(second), *others, sample(usage_bytes=second)))

    assert [point.usage_bytes for point in history.points(PATH)] == list(range(1, 9))


def test_the_root_and_what_has_no_memory_controller_take_no_room() -> None:
    bare = Sample(Container(Cgroup("/bare", 1), recognise("/bare")))

    history = kept(snapshot(1.0, sample("/", 5), bare, sample()))

    assert history.points("/") == history.points("/bare") == ()
    assert len(history.points(PATH)) == 1


def test_of_too_many_cgroups_containers_and_what_has_a_limit_come_first() -> None:
    plain = [sample(f"/plain-{number}") for number in range(MOST_CGROUPS)]

    history = kept(snapshot(1.0, *plain, sample("/limited", limit_bytes=5), sample()))

    assert len(history.points("/limited")) == len(history.points(PATH)) == 1
    assert len(history.points("/plain-0")) == 1
    assert history.points(f"/plain-{MOST_CGROUPS - 1}") == ()


def test_a_path_that_is_no_utf_8_is_found_as_the_ledger_spells_it() -> None:
    path = "/odd-\udcff\\name"

    assert len(kept(snapshot(1.0, sample(path))).points(spelled(path))) == 1


@pytest.mark.parametrize("jump_seconds", [-10_000.0, 10_000.0])
def test_a_clock_that_jumps_costs_history_and_no_memory(jump_seconds: float) -> None:
    history = kept(*(snapshot(20_000.0 + second, sample()) for second in range(100)))
    for second in range(1000):
        history.take(snapshot(20_000.0 + jump_seconds + second, sample()))

    assert len(history._frames) < 100  # what it holds is not to be seen from outside
    assert times(history.points(PATH))[-1] == 20_000.0 + jump_seconds + 999


@given(st.lists(st.floats(0.01, 400), max_size=200))
def test_whatever_the_ticks_the_points_are_in_order_few_and_not_old(steps: list[float]) -> None:
    history, seconds = History(), 0.0
    for step in steps:
        seconds += step
        history.take(snapshot(seconds, sample()))

    found = times(history.points(PATH))

    assert found == sorted(found)
    assert len(found) <= RECENT + KEPT_SECONDS / SPACING_SECONDS + 2
    assert found[-1:] == ([seconds] if steps else [])
    assert all(each >= seconds - KEPT_SECONDS for each in found)
