"""What a daemon leaves behind, and how to take it away: its processes, its mounts, its cgroups."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def cgroup_mounts() -> list[Path]:
    """Give the mount point of every cgroup hierarchy that this process sees."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        if right.split()[0] in ("cgroup", "cgroup2"):
            mounts.append(Path(left.split()[4]))
    return mounts


def missing_cgroups(path: str) -> list[Path]:
    """Give the directories of cgroup ``path`` that no hierarchy has yet: who makes them may remove them."""
    places = (mount / path.lstrip("/") for mount in cgroup_mounts())
    return [place for place in places if not place.exists()]


def remove_cgroups(places: Iterable[Path]) -> None:
    """Remove those of the cgroups that hold neither a process nor a cgroup any more."""
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            _remove_cgroup(place)


def end_containers(identities: Iterable[str]) -> None:
    """Kill what still runs in the cgroups that are named after these containers, and remove them."""
    names = [f"*{identity}*" for identity in identities]
    places = [place for mount in cgroup_mounts() for name in names for place in mount.rglob(name)]
    for pid in _processes_in(places):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _processes_in(places), 10)
    remove_cgroups(places)


def _processes_in(places: Iterable[Path]) -> set[int]:
    return {int(pid) for place in places for pid in (place / "cgroup.procs").read_text().split()}


def _remove_cgroup(place: Path) -> None:
    try:
        place.rmdir()
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise


def daemons_naming(text: str) -> list[int]:
    """Give the dockerd, containerd and shims with ``text`` in their command line, a path of our own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                name = Path(line.split("\0")[0]).name
                if name.startswith(("dockerd", "containerd")) and text in line:
                    found.append(int(entry.name))
    return found


def end_daemons_naming(text: str, deadline_seconds: float = 20) -> None:
    """End them by their ids: first asked, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in daemons_naming(text):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if wait_until(lambda: not daemons_naming(text), deadline_seconds / 2):
            return


def thread_states(pid: int) -> list[str]:
    """Give the state letter of each thread of a process (proc(5), ``stat``)."""
    states = []
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.append(path.read_text().rpartition(")")[2].split()[0])
    return states


def unmount_below(folder: Path) -> None:
    """Unmount everything below ``folder``, the innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], check=False)


def wait_until(condition: Callable[[], bool], deadline_seconds: float) -> bool:
    """Look every 20 ms until ``condition`` holds; False when it does not by the deadline."""
    deadline = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
