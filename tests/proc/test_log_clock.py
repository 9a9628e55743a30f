from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.proc.log_clock import LogClock

BOOT = 1_000_000.0
DAY = 86400.0


class Time:
    def __init__(self, up_seconds: float) -> None:
        self.up_seconds = up_seconds
        self.clock = LogClock(lambda: BOOT + self.up_seconds, lambda: self.up_seconds)

    def error_seconds(self, drift_seconds: float) -> float:
        return self.clock.boot_time_seconds() - (BOOT + drift_seconds)


def test_at_first_the_clocks_are_taken_for_the_same() -> None:
    assert Time(DAY).clock.boot_time_seconds() == BOOT


@pytest.mark.parametrize("drift_seconds", [4.0, -4.0])
def test_a_record_that_was_written_now_tells_the_drift(drift_seconds: float) -> None:
    time = Time(100 * DAY)
    time.clock.written_now(int((time.up_seconds - drift_seconds) * 1e6))
    assert time.error_seconds(drift_seconds) == pytest.approx(0, abs=1e-3)


def test_a_reader_that_was_stopped_for_an_hour_does_not_shift_the_clock_by_an_hour() -> None:
    time = Time(10 * DAY)
    time.clock.written_now(int(time.up_seconds * 1e6))
    time.up_seconds += 3600
    time.clock.written_now(int((time.up_seconds - 3600) * 1e6))
    assert time.error_seconds(0) < 4
    time.clock.written_now(int(time.up_seconds * 1e6))
    assert time.error_seconds(0) == pytest.approx(0, abs=1e-3)


@given(
    st.floats(-0.0005, 0.0005),
    st.lists(st.tuples(st.floats(0.01, DAY), st.floats(0, 0.1)), min_size=1, max_size=20),
)
def test_whatever_the_clocks_do_a_time_is_off_by_no_more_than_the_reader_was_late(
    rate: float, wakes: list[tuple[float, float]]
) -> None:
    time = Time(0)
    for pause_seconds, late_seconds in wakes:
        time.up_seconds += pause_seconds + late_seconds
        drift_seconds = rate * time.up_seconds
        time.clock.written_now(round((time.up_seconds - late_seconds - drift_seconds) * 1e6))
        assert -1e-3 <= time.error_seconds(drift_seconds) <= late_seconds + 1e-3


def test_a_drift_that_was_known_before_is_gone_on_with() -> None:
    time = Time(100 * DAY)
    time.clock.written_now(int((time.up_seconds - 4.0) * 1e6))
    again = LogClock(lambda: BOOT + time.up_seconds, lambda: time.up_seconds, time.clock.drift)
    assert again.boot_time_seconds() == time.clock.boot_time_seconds()
