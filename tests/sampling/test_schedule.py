from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.sampling.schedule import Schedule

INTERVALS = st.floats(0.1, 3600)
STARTS = st.floats(0, 10_000_000)


def test_the_first_tick_is_due_at_once() -> None:
    assert Schedule(5, 100).deadline_seconds == 100


def test_ticks_that_are_done_in_time_are_all_kept() -> None:
    schedule = Schedule(5, 100)
    for sequence in range(1000):
        assert schedule.sequence == sequence
        assert schedule.advance(schedule.deadline_seconds + 4.9) == 0


@given(INTERVALS, STARTS, st.integers(1, 100_000))
def test_the_nth_tick_is_n_intervals_after_the_start_however_many_came_before(
    interval_seconds: float, start_seconds: float, sequence: int
) -> None:
    schedule = Schedule(interval_seconds, start_seconds)
    schedule.sequence = sequence - 1
    schedule.advance(schedule.deadline_seconds)
    assert schedule.deadline_seconds == start_seconds + schedule.sequence * interval_seconds
    assert schedule.sequence == sequence


def test_ticks_that_were_run_over_are_skipped_and_counted() -> None:
    schedule = Schedule(5, 100)
    assert schedule.advance(100.1) == 0
    assert schedule.advance(118) == 2  # 110 and 115 went by while the tick of 105 ran
    assert schedule.deadline_seconds == 120
    assert schedule.sequence == 4


def test_a_tick_that_ends_just_at_a_deadline_has_missed_it() -> None:
    schedule = Schedule(5, 100)
    assert schedule.advance(105) == 1
    assert schedule.deadline_seconds == 110


@given(INTERVALS, STARTS, st.lists(st.floats(0, 100), max_size=50))
def test_the_next_deadline_is_never_in_the_past_and_no_tick_is_lost(
    interval_seconds: float, start_seconds: float, intervals_taken: list[float]
) -> None:
    schedule = Schedule(interval_seconds, start_seconds)
    now_seconds = start_seconds
    ticks, missed = 0, 0
    for taken in intervals_taken:
        now_seconds = max(now_seconds, schedule.deadline_seconds) + taken * interval_seconds
        ticks += 1
        missed += schedule.advance(now_seconds)
        rounding = math.ulp(now_seconds) * 4
        assert now_seconds - rounding <= schedule.deadline_seconds
        assert schedule.deadline_seconds <= now_seconds + interval_seconds + rounding
    assert schedule.sequence == ticks + missed


@given(INTERVALS, STARTS, st.floats(-1000, 0))
def test_a_clock_that_went_back_costs_no_tick(
    interval_seconds: float, start_seconds: float, back_seconds: float
) -> None:
    schedule = Schedule(interval_seconds, start_seconds)
    assert schedule.advance(start_seconds + back_seconds) == 0
    assert schedule.sequence == 1
