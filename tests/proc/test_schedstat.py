from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, KernelFileError, MalformedFileError
from cgwatch.proc import schedstat
from cgwatch.proc.reading import parsed
from cgwatch.proc.schedstat import Process, Schedstat, Schedstats, SchedTotals

STAT = "%d (sh) S 1 1 1 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n"


def unexpected(error: KernelFileError) -> None:
    raise error


def write_process(proc: Path, pid: int, start_ticks: int, counters: str) -> None:
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "stat").write_text(STAT % (pid, start_ticks))
    (proc / str(pid) / "schedstat").write_text(counters)


def seen(*rows: tuple[int, int, Schedstat], unread: frozenset[int] = frozenset()) -> Schedstats:
    return Schedstats({Process(pid, start): counters for pid, start, counters in rows}, unread)


def test_nanoseconds_of_the_kernel_are_seconds() -> None:
    counters = schedstat.parse_schedstat(b"1060132 3856230 4\n")
    assert counters == Schedstat(run_seconds=0.001060132, runqueue_seconds=0.00385623, run_periods_total=4)


def test_a_kernel_that_does_not_count_prints_zeros() -> None:
    assert schedstat.parse_schedstat(b"0 0 0\n") == Schedstat(0.0, 0.0, 0)


@pytest.mark.parametrize("data", [b"", b"1 2\n", b"1 2 3 4\n", b"1 -2 3\n", b"1 2 x\n"])
def test_what_is_not_three_counters_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not three counters|is not a number"):
        schedstat.parse_schedstat(data)


@given(st.binary() | st.lists(st.binary(min_size=1), min_size=3, max_size=3).map(b" ".join))
def test_any_bytes_give_counters_or_an_error_with_the_path(data: bytes) -> None:
    try:
        counters = parsed("/proc/7/schedstat", data, schedstat.parse_schedstat)
    except MalformedFileError as error:
        assert error.path == "/proc/7/schedstat"  # noqa: PT017 - not raising is as good
    else:
        assert min(counters.run_seconds, counters.runqueue_seconds, counters.run_periods_total) >= 0


def test_processes_are_told_apart_by_their_start(tmp_path: Path) -> None:
    write_process(tmp_path, 7, 100, "1000000000 2000000000 3\n")
    write_process(tmp_path, 8, 200, "4000000000 0 5\n")
    assert schedstat.read_schedstats(str(tmp_path), [7, 8], failed=unexpected) == seen(
        (7, 100, Schedstat(1.0, 2.0, 3)), (8, 200, Schedstat(4.0, 0.0, 5))
    )


def test_a_process_that_ends_before_or_amid_the_read_is_left_out(tmp_path: Path) -> None:
    write_process(tmp_path, 7, 100, "0 0 0\n")
    (tmp_path / "7" / "schedstat").unlink()
    assert schedstat.read_schedstats(str(tmp_path), [7, 8], failed=unexpected) == seen()


def test_a_process_that_cannot_be_read_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    write_process(tmp_path, 7, 100, "lots\n")
    write_process(tmp_path, 8, 200, "0 0 5\n")
    failures: list[KernelFileError] = []
    found = schedstat.read_schedstats(str(tmp_path), [7, 8], failed=failures.append)
    assert found == seen((8, 200, Schedstat(0.0, 0.0, 5)), unread=frozenset({7}))
    assert [(type(error), error.path) for error in failures] == [
        (MalformedFileError, f"{tmp_path}/7/schedstat")
    ]


def test_a_kernel_without_the_file_is_said_for_one_process(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/schedstat"):
        schedstat.read_schedstat(str(tmp_path), 7)


def test_what_an_ended_process_had_stays_in_the_sum() -> None:
    totals = SchedTotals().after(seen((7, 100, Schedstat(1.0, 2.0, 3)), (8, 200, Schedstat(10.0, 20.0, 30))))
    assert totals.total == Schedstat(11.0, 22.0, 33)
    totals = totals.after(seen((8, 200, Schedstat(15.0, 25.0, 35))))
    assert totals.total == Schedstat(16.0, 27.0, 38)
    assert list(totals.counted) == [Process(8, 200)]


def test_a_pid_that_comes_again_is_another_process() -> None:
    totals = SchedTotals().after(seen((7, 100, Schedstat(5.0, 5.0, 5))))
    totals = totals.after(seen((7, 900, Schedstat(6.0, 6.0, 6))))
    assert totals.total == Schedstat(11.0, 11.0, 11)


def test_a_process_that_could_not_be_read_once_counts_once() -> None:
    totals = SchedTotals().after(seen((7, 100, Schedstat(5.0, 5.0, 5))))
    totals = totals.after(seen(unread=frozenset({7})))
    assert totals.total == Schedstat(5.0, 5.0, 5)
    assert totals.after(seen((7, 100, Schedstat(6.0, 6.0, 6)))).total == Schedstat(6.0, 6.0, 6)


def test_a_thread_that_took_the_leaders_place_adds_its_own_counters() -> None:
    totals = SchedTotals().after(seen((7, 100, Schedstat(5.0, 5.0, 5))))
    assert totals.after(seen((7, 100, Schedstat(1.0, 9.0, 2)))).total == Schedstat(6.0, 14.0, 7)


COUNTERS = st.builds(
    Schedstat, st.integers(0, 1000).map(float), st.integers(0, 1000).map(float), st.integers(0, 1000)
)
TICKS = st.lists(
    st.builds(
        Schedstats,
        st.dictionaries(st.builds(Process, st.integers(1, 4), st.integers(1, 2)), COUNTERS),
        st.frozensets(st.integers(1, 4)),
    )
)


@given(TICKS)
def test_the_sum_never_goes_down(ticks: list[Schedstats]) -> None:
    totals = SchedTotals()
    for tick in ticks:
        before, totals = totals.total, totals.after(tick)
        assert totals.total.run_seconds >= before.run_seconds
        assert totals.total.runqueue_seconds >= before.runqueue_seconds
        assert totals.total.run_periods_total >= before.run_periods_total


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=5)))
def test_the_sum_is_what_every_process_had_at_its_last(lives: list[list[int]]) -> None:
    # Each life is one process: what it ran between one tick and the next; it is gone after its last.
    totals = SchedTotals()
    for tick in range(6):
        now = [
            (pid, pid, Schedstat(0.0, 0.0, sum(life[: tick + 1])))
            for pid, life in enumerate(lives)
            if tick < len(life)
        ]
        totals = totals.after(seen(*now))
    assert totals.total.run_periods_total == sum(map(sum, lives))
    assert not totals.counted


def test_a_real_process_that_is_killed_stays_in_the_sum() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        totals = SchedTotals().after(
            schedstat.read_schedstats("/proc", [process.pid, os.getpid()], failed=unexpected)
        )
        assert {running.pid for running in totals.counted} == {process.pid, os.getpid()}
        assert totals.total.run_seconds > 0
        process.send_signal(signal.SIGKILL)
    after = totals.after(schedstat.read_schedstats("/proc", [process.pid, os.getpid()], failed=unexpected))
    assert {running.pid for running in after.counted} == {os.getpid()}
    assert after.total.run_seconds > totals.total.run_seconds
    assert after.total.run_periods_total >= totals.total.run_periods_total
