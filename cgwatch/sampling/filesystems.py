"""The node's file systems, asked off the sampler's thread: a disk that dies may never answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from cgwatch.errors import KernelFileError
from cgwatch.proc.filesystems import Filesystem, Mount, local_filesystems, measure, read_mount_table

INTERVAL_SECONDS = 60.0
"""A file system fills in minutes; cAdvisor looks at its own as often, and asking wakes disks that sleep."""
KEPT_INTERVALS = 3
"""For how many a file system that does not answer shows what it said last."""
FIRST_WAIT_SECONDS = 0.25
"""How long the first sample waits, so that it has what every healthy disk says at once."""

Measure: TypeAlias = Callable[[str, str, tuple[Mount, ...]], Filesystem | None]
_Answer: TypeAlias = tuple[str, Filesystem | None, KernelFileError | None]


class FilesystemReader:
    """Asks every file system once an interval; one that hangs costs its own numbers, and one thread."""

    def __init__(
        self,
        proc_root: str,
        *,
        monotonic: Callable[[], float],
        failed: Callable[[KernelFileError], None],
        measure: Measure = measure,
    ) -> None:
        self._proc_root = proc_root
        self._monotonic = monotonic
        self._failed = failed
        self._measure = measure
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._asked_seconds: float | None = None
        self._known: dict[str, tuple[float, Filesystem]] = {}

    def begin_tick(self) -> None:
        """Take what was answered, and ask again when it is time; never blocks but at first."""
        now = self._monotonic()
        if self._asked_seconds is None:
            self._asked_seconds = now
            self._ask()
            for worker in self._workers:
                worker.join(FIRST_WAIT_SECONDS)
        elif now - self._asked_seconds >= INTERVAL_SECONDS:
            self._asked_seconds = now
            self._ask()
        self._take(now)

    def latest(self) -> tuple[Filesystem, ...]:
        """Return what is known of each file system that is mounted."""
        return tuple(said for _, said in self._known.values())

    def _ask(self) -> None:
        try:
            table = read_mount_table(self._proc_root)
        except KernelFileError as fault:
            self._failed(fault)
            return
        wanted = local_filesystems(table)
        self._known = {device: self._known[device] for device in wanted if device in self._known}
        self._workers = [worker for worker in self._workers if worker.is_alive()]
        hanging = {worker.asking for worker in self._workers}
        rest = {device: mounts for device, mounts in wanted.items() if device not in hanging}
        worker = _Worker(self._measure, table.directory, rest, self._answers)
        self._workers.append(worker)
        worker.start()

    def _take(self, now: float) -> None:
        while not self._answers.empty():
            device, said, fault = self._answers.get()
            if fault is not None:
                self._failed(fault)
            elif said is not None:
                self._known[device] = now, said
            else:
                self._known.pop(device, None)
        oldest = now - KEPT_INTERVALS * INTERVAL_SECONDS
        self._known = {device: known for device, known in sorted(self._known.items()) if known[0] > oldest}


class _Worker(threading.Thread):
    """Asks some file systems one after the other, and ends."""

    def __init__(
        self,
        measure: Measure,
        directory: str,
        wanted: Mapping[str, tuple[Mount, ...]],
        answers: queue.SimpleQueue[_Answer],
    ) -> None:
        super().__init__(name="filesystems", daemon=True)
        self._measure = measure
        self._directory = directory
        self._wanted = wanted
        self._answers = answers
        self.asking: str | None = None

    def run(self) -> None:
        """Ask; the sampler reports what failed."""
        for device, mounts in self._wanted.items():
            self.asking = device
            try:
                answer: _Answer = device, self._measure(self._directory, device, mounts), None
            except KernelFileError as fault:
                answer = device, None, fault
            self._answers.put(answer)
