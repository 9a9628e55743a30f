from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, KernelFileError, MalformedFileError
from cgwatch.proc import states
from cgwatch.proc.reading import parsed
from cgwatch.proc.states import TaskStat, TaskStates, load_average

STAT = "%d (%s) %s 1 1 1 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 %d 0 90534 0 0\n"


def unexpected(error: KernelFileError) -> None:
    raise error


def write_task(directory: Path, state: str, threads: int = 1) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "stat").write_text(STAT % (int(directory.name), "sh", state, threads))


def write_process(proc: Path, pid: int, *thread_states: str) -> None:
    write_task(proc / str(pid), thread_states[0], len(thread_states))
    for tid, state in enumerate(thread_states, start=pid):
        write_task(proc / str(pid) / "task" / str(tid), state, len(thread_states))


@pytest.mark.parametrize(
    ("letter", "state"),
    [
        ("R", "running"),
        ("S", "sleeping"),
        ("I", "sleeping"),
        ("D", "uninterruptible"),
        ("T", "stopped"),
        ("t", "stopped"),
        ("Z", ""),
        ("X", ""),
    ],
)
def test_every_state_of_the_kernel_has_one_of_cadvisors_words_or_none(letter: str, state: str) -> None:
    assert states.parse_task_stat((STAT % (7, "sh", letter, 3)).encode()) == TaskStat(state, 3)


def test_a_command_with_parentheses_and_spaces_hides_nothing() -> None:
    assert states.parse_task_stat((STAT % (7, ") D 1 (", "S", 1)).encode()) == TaskStat("sleeping", 1)


@pytest.mark.parametrize(
    "data", [b"", b"7 (sh) R 1\n", b"7 sh R" + b" 1" * 40, (STAT % (7, "sh", "Q", 1)).encode()]
)
def test_what_is_no_stat_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"no field 20|not a state of a task"):
        states.parse_task_stat(data)


@given(
    st.binary()
    | st.builds(
        lambda state, rest: b"7 (sh) " + state + b" " + b" ".join(rest),
        st.sampled_from(b"R S D T t Z X I Q".split()),
        st.lists(st.binary(min_size=1, max_size=3), min_size=16, max_size=20),
    )
)
def test_any_bytes_give_a_state_or_an_error_with_the_path(data: bytes) -> None:
    try:
        stat = parsed("/proc/7/stat", data, states.parse_task_stat)
    except MalformedFileError as error:
        assert error.path == "/proc/7/stat"  # noqa: PT017 - not raising is as good
    else:
        assert stat.state in {"", "sleeping", "running", "stopped", "uninterruptible"}


def test_every_thread_counts_and_zombies_do_not(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "S")
    write_process(tmp_path, 20, "S", "R", "D", "R")
    write_process(tmp_path, 30, "Z")
    write_process(tmp_path, 40, "T")
    assert states.read_task_states(str(tmp_path), [10, 20, 30, 40], failed=unexpected) == TaskStates(
        sleeping=2, running=2, stopped=1, uninterruptible=1
    )


def test_the_threads_of_a_leader_that_has_ended_still_count(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "Z", "R")
    assert states.read_task_states(str(tmp_path), [10], failed=unexpected) == TaskStates(running=1)


def test_what_ends_amid_the_read_is_left_out(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "S", "R")
    (tmp_path / "10" / "task" / "11" / "stat").unlink()
    write_task(tmp_path / "20", "S", threads=2)
    assert states.read_task_states(str(tmp_path), [10, 20, 30], failed=unexpected) == TaskStates(sleeping=1)


def test_a_task_that_cannot_be_read_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    write_process(tmp_path, 10, "S")
    write_process(tmp_path, 20, "Q")
    failures: list[KernelFileError] = []
    found = states.read_task_states(str(tmp_path), [20, 10], failed=failures.append)
    assert found == TaskStates(sleeping=1)
    assert [(type(error), error.path) for error in failures] == [(MalformedFileError, f"{tmp_path}/20/stat")]


@pytest.mark.parametrize("most_tasks", [5, 4, 3, 0])
def test_no_more_tasks_are_looked_at_than_allowed(tmp_path: Path, most_tasks: int) -> None:
    write_process(tmp_path, 10, "R")
    write_process(tmp_path, 20, "R", "R", "R")
    found = states.read_task_states(str(tmp_path), [10, 20], most_tasks=most_tasks, failed=unexpected)
    assert found == TaskStates(running=min(most_tasks, 4), is_cut=most_tasks < 4)


def test_a_missing_task_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="/7/stat"):
        states.read_task_stat(f"{tmp_path}/7/stat")


def test_a_process_that_waits_for_input_sleeps_and_one_that_was_stopped_is_stopped() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert states.read_task_states("/proc", [process.pid], failed=unexpected) == TaskStates(stopped=1)
        process.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        process.kill()


def test_a_zombie_is_no_task() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert states.read_task_states("/proc", [process.pid], failed=unexpected) == TaskStates()


THREADED = """
import threading
end = threading.Event()
threads = [threading.Thread(target=end.wait) for _ in range(3)]
for thread in threads: thread.start()
print("ready", flush=True)
input()
end.set()
"""


def test_all_threads_of_a_real_process_are_counted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", THREADED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = states.read_task_states("/proc", [process.pid], failed=unexpected)
        process.stdin.write(b"\n")
        process.stdin.close()
    assert found.sleeping + found.running + found.uninterruptible == 4


def test_the_reader_itself_runs() -> None:
    assert states.read_task_stat("/proc/self/stat").state == "running"


def test_the_load_begins_with_the_first_count() -> None:
    assert load_average(None, 3, 1.0) == 3.0


def test_the_load_forgets_by_a_factor_of_e_in_ten_seconds() -> None:
    assert load_average(8.0, 0, 10.0) == pytest.approx(8.0 / math.e)
    assert load_average(0.0, 8, 10.0) == pytest.approx(8.0 - 8.0 / math.e)


def test_the_load_of_a_clock_that_stands_still_stays() -> None:
    assert load_average(2.5, 100, 0.0) == 2.5


@given(st.floats(0, 1e6), st.integers(0, 10**6), st.floats(0, 1e6))
def test_the_load_lies_between_the_last_one_and_the_count(
    previous: float, tasks: int, elapsed_seconds: float
) -> None:
    load = load_average(previous, tasks, elapsed_seconds)
    assert min(previous, tasks) - 1e-9 <= load <= max(previous, tasks) + 1e-9


@given(st.floats(0, 1e3), st.integers(0, 1000), st.floats(0.01, 60))
def test_two_short_intervals_decay_as_one_long_one(
    previous: float, tasks: int, elapsed_seconds: float
) -> None:
    twice = load_average(load_average(previous, tasks, elapsed_seconds), tasks, elapsed_seconds)
    assert twice == pytest.approx(load_average(previous, tasks, 2 * elapsed_seconds), abs=1e-9)


def test_states_of_several_cgroups_are_added_up_and_what_was_cut_in_one_is_cut_in_the_sum() -> None:
    one, two = TaskStates(1, 2, 3, 4), TaskStates(10, 20, 30, 40, is_cut=True)
    assert states.add_states([one]) == one
    assert states.add_states([one, two]) == TaskStates(11, 22, 33, 44, is_cut=True)
