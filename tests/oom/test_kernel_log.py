from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.errors import FileMissingError, KernelFileError, MalformedFileError
from cgwatch.oom.dialect import Told
from cgwatch.oom.kernel_log import KillLog, Start
from cgwatch.oom.observation import LogLost, LogPlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

V2 = Hierarchy(2, frozenset({"memory"}), "/sys/fs/cgroup")
V1 = Hierarchy(1, frozenset({"memory"}), "/sys/fs/cgroup/memory")
NOW, UP = 1_000_000.0, 1000.0
INIT = "pid:[4026531836]"


class Machine:
    """A log and a /proc, as plain files."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "kmsg"
        self.log.write_bytes(b"")
        self.proc = folder / "proc"
        self.failures: list[KernelFileError] = []
        self._open: list[KillLog] = []
        self.set_pid_namespace(INIT)

    def set_pid_namespace(self, link: str) -> None:
        place = self.proc / str(os.getpid()) / "ns" / "pid"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(link)

    def put(self, pid: int, cgroup: str) -> None:
        (self.proc / str(pid)).mkdir()
        (self.proc / str(pid) / "cgroup").write_text(cgroup)

    def says(self, sequence: int, text: str, seconds: float = UP) -> None:
        with self.log.open("a") as file:
            file.write(f"3,{sequence},{int(seconds * 1e6)},-;{text}\n")

    def kills(self, sequence: int, pid: int, seconds: float = UP) -> None:
        self.says(
            sequence,
            f"Memory cgroup out of memory: Killed process {pid} (hog) "
            "total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0",
            seconds,
        )

    def open(
        self,
        memory: Hierarchy | None = V2,
        after: LogPlace | None = None,
        seen: Mapping[int, str] | None = None,
    ) -> KillLog:
        log = KillLog(
            Start(str(self.log), after),
            memory=memory,
            proc_root=str(self.proc),
            failed=self.failures.append,
            clock=lambda: NOW,
            monotonic=lambda: UP,
            seen=(seen or {}).get,
        )
        self._open.append(log)
        return log

    def close(self) -> None:
        for log in self._open:
            log.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    try:
        yield machine
    finally:
        machine.close()


def paths(log: KillLog) -> list[str | None]:
    # A plain file gives more than one record at a read, so tests write one line between two of them.
    return [message.kill.path for message in log.read() if isinstance(message, Told)]


def test_a_log_that_is_not_there_is_an_error_with_its_path(machine: Machine) -> None:
    machine.log.unlink()
    with pytest.raises(FileMissingError, match="kmsg"):
        machine.open()


def test_the_cgroup_that_the_kernel_held_back_is_found_while_the_victim_is_still_there(
    machine: Machine,
) -> None:
    machine.put(7, "0::/pod/a (deleted)\n")
    log = machine.open()
    machine.kills(1, pid=7)
    assert paths(log) == ["/pod/a"]
    machine.kills(2, pid=8)
    assert paths(log) == [None]
    assert machine.failures == []


def test_on_v1_it_is_that_of_the_memory_controller(machine: Machine) -> None:
    machine.put(7, "4:cpu:/other\n3:memory,hugetlb:/pod/a\n0::/unified\n")
    log = machine.open(V1)
    machine.kills(1, pid=7)
    assert paths(log) == ["/pod/a"]


def test_where_a_dead_victim_was_seen_is_believed_and_where_it_still_is_even_more(machine: Machine) -> None:
    machine.put(7, "3:memory:/\n")
    machine.put(8, "3:memory:/pod/b\n")
    log = machine.open(V1, seen={7: "/pod/a", 8: "/pod/a", 9: "/pod/c"})
    found = []
    for pid in (7, 8, 9, 10):
        machine.kills(pid, pid=pid)
        found += paths(log)
    assert found == ["/pod/a", "/pod/b", "/pod/c", None]


@pytest.mark.parametrize("cgroup", ["/", "/../../outside", "/.."])
def test_a_cgroup_that_says_nothing_is_not_taken(machine: Machine, cgroup: str) -> None:
    machine.put(7, f"0::{cgroup}\n")
    log = machine.open()
    machine.kills(1, pid=7)
    assert paths(log) == [None]


def test_a_process_file_that_is_wrong_is_a_counted_failure(machine: Machine) -> None:
    machine.put(7, "nonsense\n")
    log = machine.open()
    machine.kills(1, pid=7)
    assert paths(log) == [None]
    assert [type(failure) for failure in machine.failures] == [MalformedFileError]


def test_in_another_pid_namespace_no_process_is_taken_for_the_victim(machine: Machine) -> None:
    machine.put(7, "0::/pod/a\n")
    machine.set_pid_namespace("pid:[4026532000]")
    log = machine.open()
    machine.kills(1, pid=7)
    assert paths(log) == [None]


def test_of_what_was_logged_before_the_start_no_process_is_asked_for(machine: Machine) -> None:
    machine.put(7, "0::/pod/a\n")
    machine.kills(2, pid=7)
    log = machine.open(after=LogPlace(1))
    assert paths(log) == [None]
    machine.kills(3, pid=7)
    assert paths(log) == ["/pod/a"]


def test_lost_records_are_told_and_the_place_in_the_log_is_known(machine: Machine) -> None:
    log = machine.open()
    assert log.place is None
    machine.says(1, "one")
    assert log.read() == []
    machine.says(5, "five")
    assert log.read() == [LogLost(3)]
    assert log.place is not None
    assert log.place.sequence == 5


def test_a_kill_has_its_time_though_the_logs_clock_has_drifted(machine: Machine) -> None:
    log = machine.open()
    machine.says(1, "just now", seconds=UP - 0.5)
    log.read()
    machine.kills(2, pid=7, seconds=UP - 0.5)
    (told,) = log.read()
    assert isinstance(told, Told)
    assert told.kill.seconds == pytest.approx(NOW)


def test_what_was_logged_long_ago_has_the_time_that_it_had_by_the_drift_of_then(machine: Machine) -> None:
    log = machine.open()
    machine.says(1, "just now", seconds=UP - 0.5)
    log.read()
    before = log.place
    machine.log.write_bytes(b"")  # as a plain file it would be one record
    machine.kills(2, pid=7, seconds=UP - 0.4)

    machine.put(7, "0::/pod/another/process\n")
    (told,) = (again := machine.open(after=before)).catch_up()
    assert isinstance(told, Told)
    assert told.kill.path is None
    assert told.kill.seconds == pytest.approx(NOW + 0.1)
    assert again.place is not None
    assert again.place.sequence == 1


def test_the_place_is_before_a_kill_of_which_not_all_was_told(machine: Machine) -> None:
    log = machine.open()
    for sequence, text in (
        (5, "other"),
        (6, "hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"),
        (7, "memory: usage 1kB, limit 1kB, failcnt 36"),
    ):
        machine.says(sequence, text)
        log.read()
    assert log.place is not None
    assert log.place.sequence == 5
    machine.kills(8, pid=7)
    log.read()
    assert log.place.sequence == 5  # members of its group may follow
    machine.says(9, "other", seconds=UP + 11)
    log.read()
    assert log.place.sequence == 9
