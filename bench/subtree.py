"""Cgroups of our own, on every hierarchy that the sampler reads; they go when the bench does."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.native import Program
from cgwatch.cgroup.hierarchy import Hierarchies

_CONTROLLERS = ("memory", "cpu", "cpuacct", "blkio", "pids")
_ON_V2 = ("memory", "cpu", "io", "pids")
_QUOTA = {"cpu.cfs_quota_us": "100000", "cpu.max": "100000 100000"}
_LEAVE_SECONDS = 20.0
_DISK_BYTES = 64 << 20
_NO_BOUND = 1 << 40  # bytes each second


class Subtree:
    """``/cgwtest-bench-<pid>`` with containers below it, as Docker's cgroupfs driver names them."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self.path = f"/cgwtest-bench-{os.getpid()}"
        holders = [hierarchies.holder(name) for name in _CONTROLLERS]
        places = dict.fromkeys(
            holder.directory for holder in (*holders, hierarchies.unified) if holder is not None
        )
        self._tops = [Path(place + self.path) for place in places]
        self._blkio = hierarchies.holder("blkio")
        self.ids: list[str] = []

    def make(self, count: int) -> None:
        """Make ``count`` containers; each may use one CPU, so that its quota is accounted."""
        for top in self._tops:
            top.mkdir()
            _enable(top)
        for number in range(count):
            container_id = hashlib.sha256(f"{self.path}/{number}".encode()).hexdigest()
            self.ids.append(container_id)
            for top in self._tops:
                (top / container_id).mkdir()
                for name, text in _QUOTA.items():
                    if (top / container_id / name).exists():
                        (top / container_id / name).write_text(text)

    def procs_files(self, container_id: str) -> list[str]:
        """Return the files that take a process into the container."""
        return [str(top / container_id / "cgroup.procs") for top in self._tops]

    def make_one(self, name: str) -> list[Path]:
        """Make one more cgroup ``name`` and return its directories by hierarchy."""
        places = [top / name for top in self._tops]
        for place in places:
            place.mkdir()
        return places

    def count_disk(self, device: str) -> None:
        """Have the kernel count I/O to ``device``: since 6.9 it does after the first rule on that device."""
        if self._blkio is None:
            return
        numbers = os.stat(device).st_rdev
        rule = f"{os.major(numbers)}:{os.minor(numbers)} {_NO_BOUND}"
        Path(self._blkio.locate(self.path), "blkio.throttle.write_bps_device").write_text(rule)

    def remove(self) -> None:
        """Remove everything, once its processes have gone."""
        deadline = time.monotonic() + _LEAVE_SECONDS
        for top in self._tops:
            if not top.exists():
                continue
            for place in [*(entry for entry in top.iterdir() if entry.is_dir()), top]:
                while True:
                    try:
                        place.rmdir()
                        break
                    except OSError:
                        if time.monotonic() > deadline:
                            raise
                        _end_processes(place)
                        time.sleep(0.02)


def _enable(top: Path) -> None:
    """Cgroup v2: have the containers below ``top`` the controllers that ``top`` has."""
    switch = top / "cgroup.subtree_control"
    if switch.exists():
        here = (top / "cgroup.controllers").read_text().split()
        switch.write_text(" ".join(f"+{name}" for name in _ON_V2 if name in here))


def _end_processes(place: Path) -> None:
    """End what still runs in a cgroup of ours: nobody else is there."""
    for pid in (place / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def subtree(hierarchies: Hierarchies, count: int) -> Iterator[Subtree]:
    """Make the cgroups, and remove them whatever happens in between."""
    made = Subtree(hierarchies)
    try:
        made.make(count)
        yield made
    finally:
        asked = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            made.remove()
        finally:
            signal.signal(signal.SIGINT, asked)


@contextlib.contextmanager
def busy(program: Path, tree: Subtree, burn_microseconds: int, disk: str) -> Iterator[Program]:
    """Put a process at work into each container; each line sent to the program is one burst of it."""
    with Program(str(program), str(burn_microseconds), disk) as running:
        running.tell("\t".join(tree.procs_files(container_id)) for container_id in tree.ids)
        running.ask("")
        yield running


@contextlib.contextmanager
def disk(folder: Path, given: str) -> Iterator[str]:
    """Give the block device that the containers write to: ``given``, or a loop device of our own.

    Empty where there is none to be had.
    """
    if given:
        yield given
        return
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False
    )
    device = done.stdout.strip()
    try:
        yield device
    finally:
        if device:
            subprocess.run(["losetup", "--detach", device], check=False)


def obstacle() -> str | None:
    """Say why no cgroups can be made here; ``None``: they can."""
    if os.geteuid() != 0:
        return "not root: no cgroups of our own, so only those that are there are measured"
    return None
