"""File systems that answer, that fail, and that hang."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cgwatch.errors import ReadFailedError
from cgwatch.proc.filesystems import Filesystem
from cgwatch.sampling import filesystems
from cgwatch.sampling.filesystems import INTERVAL_SECONDS, KEPT_INTERVALS, FilesystemReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cgwatch.errors import KernelFileError
    from cgwatch.proc.filesystems import Mount

A, B, C = "/dev/a", "/dev/b", "/dev/c"
PATIENCE_SECONDS = 15


class Disks:
    """File systems that answer with what they are told to, and only when they are told to."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc
        self.now = 100.0
        self.failures: list[KernelFileError] = []
        self.used = {A: 1, B: 2, C: 3}
        self.hanging: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self._changed = threading.Condition()
        (proc / "self").mkdir(parents=True)
        self.mount(A, B, C)
        self.reader = FilesystemReader(
            str(proc), monotonic=lambda: self.now, failed=self.failures.append, measure=self.measure
        )

    def mount(self, *devices: str) -> None:
        lines = [f"{n} 1 8:{n} / {d} rw - ext4 {d} rw\n" for n, d in enumerate(devices, start=2)]
        (self.proc / "self/mountinfo").write_text("".join(lines))

    def measure(self, _directory: str, device: str, _mounts: tuple[Mount, ...]) -> Filesystem | None:
        with self._changed:
            self.asked.append(device)
            self._changed.notify_all()
        if device in self.hanging:
            self.hanging[device].wait(PATIENCE_SECONDS)
        free = self.used[device]
        if free < 0:
            raise ReadFailedError(device, "Input/output error", 5)
        return Filesystem(device, 10, free, free, None, None) if free else None

    def wait_until_asked(self, *devices: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: set(devices) <= set(self.asked), PATIENCE_SECONDS)

    def tick(self, seconds: float = 0.0) -> dict[str, int]:
        """Let time pass; give what is known after the tick."""
        self.now += seconds
        self.reader.begin_tick()
        return self.known()

    def tick_and_settle(self, seconds: float) -> dict[str, int]:
        """The same, when whatever answers has answered."""
        self.asked.clear()
        self.tick(seconds)
        for worker in threading.enumerate():
            if worker.name == "filesystems" and not self.hanging:
                worker.join(PATIENCE_SECONDS)
        return self.tick()

    def known(self) -> dict[str, int]:
        return {said.device: said.free_bytes for said in self.reader.latest()}


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disks]:
    made = Disks(tmp_path)
    monkeypatch.setattr(filesystems, "FIRST_WAIT_SECONDS", PATIENCE_SECONDS)
    yield made
    for held in made.hanging.values():
        held.set()


def hang(disks: Disks, monkeypatch: pytest.MonkeyPatch, *devices: str) -> None:
    disks.hanging = {device: threading.Event() for device in devices}
    monkeypatch.setattr(filesystems, "FIRST_WAIT_SECONDS", 0.0)


def test_the_first_tick_knows_what_every_healthy_disk_says(disks: Disks) -> None:
    assert disks.tick() == {A: 1, B: 2, C: 3}


def test_disks_are_asked_once_an_interval(disks: Disks) -> None:
    disks.tick()
    disks.used[A] = 7
    assert disks.tick_and_settle(INTERVAL_SECONDS - 1) == {A: 1, B: 2, C: 3}
    assert disks.asked == []
    assert disks.tick_and_settle(1) == {A: 7, B: 2, C: 3}
    assert disks.asked == [A, B, C]


def test_a_disk_that_hangs_holds_up_neither_a_tick_nor_the_other_disks(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(disks, monkeypatch, A)
    assert disks.tick() == {}
    disks.wait_until_asked(A)
    assert disks.asked == [A]
    # The next round leaves it alone, and the one that waits for it behind.
    disks.tick(INTERVAL_SECONDS)
    disks.wait_until_asked(B, C)
    disks.asked.clear()
    known = disks.tick(INTERVAL_SECONDS)
    assert {B: 2}.items() <= known.items()
    disks.wait_until_asked(B, C)
    assert A not in disks.asked


def test_there_is_one_thread_for_each_disk_that_hangs_however_long(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(disks, monkeypatch, A, B)
    for first_asked in (A, B, C, C, C):
        disks.asked.clear()
        disks.tick(INTERVAL_SECONDS)
        disks.wait_until_asked(first_asked)
    hanging = [worker for worker in threading.enumerate() if worker.name == "filesystems"]
    assert len([worker for worker in hanging if getattr(worker, "asking", None) in (A, B)]) == 2


def test_what_a_disk_said_last_is_shown_for_a_few_intervals_and_not_for_ever(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks.tick()
    hang(disks, monkeypatch, A)
    for passed in range(1, KEPT_INTERVALS):
        assert A in disks.tick(INTERVAL_SECONDS), passed
    assert A not in disks.tick(INTERVAL_SECONDS)


def test_a_disk_that_recovers_is_shown_again(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    hang(disks, monkeypatch, A)
    disks.tick()
    disks.wait_until_asked(A)
    disks.hanging.pop(A).set()
    assert disks.tick_and_settle(0) == {A: 1, B: 2, C: 3}


def test_a_disk_that_fails_is_reported_from_the_samplers_thread_and_costs_no_other(disks: Disks) -> None:
    disks.used[B] = -1
    assert disks.tick() == {A: 1, C: 3}
    assert [failure.path for failure in disks.failures] == [B]


def test_what_is_unmounted_is_not_shown_any_more(disks: Disks) -> None:
    disks.tick()
    disks.mount(A)
    disks.used[A] = 0  # covered by another mount
    assert disks.tick_and_settle(INTERVAL_SECONDS) == {}


def test_without_a_mount_table_nothing_is_asked_and_it_is_a_failure(disks: Disks) -> None:
    (disks.proc / "self/mountinfo").unlink()
    assert disks.tick() == {}
    assert [failure.path for failure in disks.failures] == [f"{disks.proc}/self/mountinfo"]
