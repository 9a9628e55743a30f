"""Cgroups by the thousand that come and go, in every hierarchy that the agent reads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from cgwatch.cgroup.controllers import CONTROLLERS
from cgwatch.cgroup.hierarchy import Hierarchies

_LEAVE_SECONDS = 10.0
_READ = frozenset[str]().union(*(controller.v1_names for controller in CONTROLLERS))
"""The controllers that are read on v1."""


def burst(number: int, count: int) -> list[str]:
    """Give the paths of one burst, each after the one it lies in.

    A quarter has the same paths in every burst, a quarter is named like containers of Docker, and half is
    nested, four deep, under names of this burst alone.
    """
    paths = []
    for place in range(0, count, 8):
        paths += [f"same-{place}", f"same-{place + 1}"]
        paths += [hashlib.sha256(f"{number}/{place + more}".encode()).hexdigest() for more in range(2)]
        outer = f"burst-{number}-{place}"
        paths += [outer, f"{outer}/a", f"{outer}/a/b", f"{outer}/a/b/c"]
    return paths[:count]


def leaves(paths: list[str]) -> list[str]:
    """Give those in which no other lies."""
    outer = {path.rpartition("/")[0] for path in paths}
    return [path for path in paths if path not in outer]


class Churn:
    """Cgroups of our own below ``/cgwtest-churn-<pid>``; as a context manager they go whatever happens.

    Paths are given without that; ``alive`` has them as the agent shows them.
    """

    def __init__(self, hierarchies: Hierarchies) -> None:
        self.top = f"/cgwtest-churn-{os.getpid()}"
        self.alive: set[str] = set()
        self.made = 0
        """How many cgroups there were so far, whatever their path; one in several hierarchies counts once."""
        unified = hierarchies.unified
        places = [hierarchy for hierarchy in hierarchies.v1 if hierarchy.controllers & _READ]
        places += [unified] if unified else []
        self.roots = tuple(f"{hierarchy.directory}/" for hierarchy in places)
        """Where the hierarchies are."""
        self._tops = [hierarchy.locate(self.top) for hierarchy in places]
        self._unified = unified.locate(self.top) if unified else None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def __enter__(self) -> Self:
        # Whoever ends the tests in good order does not leave the cgroups behind either.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for top in self._tops:
                os.mkdir(top)
                _open_to_processes(top)
        except BaseException:
            self.__exit__()
            raise
        self.alive.add(self.top)
        return self

    def __exit__(self, *_failure: object) -> None:
        asked = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            self.end(list(self._processes))
            for top in self._tops:
                for directory, _, _ in os.walk(top, topdown=False):
                    _remove(directory)
        finally:
            signal.signal(signal.SIGINT, asked)
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def make(self, paths: Iterable[str]) -> None:
        """Make cgroups, each after the one it lies in."""
        for path in paths:
            for top in self._tops:
                directory = f"{top}/{path}"
                if top == self._unified:
                    _delegate(os.path.dirname(directory))
                os.mkdir(directory)
            self.alive.add(f"{self.top}/{path}")
            self.made += 1

    def remove(self, paths: list[str]) -> None:
        """Kill what runs in them, and remove them at once."""
        self.end(paths)
        for path in reversed(paths):
            for top in self._tops:
                _remove(f"{top}/{path}")
            self.alive.discard(f"{self.top}/{path}")

    def make_again(self, paths: Iterable[str]) -> None:
        """Remove cgroups in which nothing lies, and make each of them again at once."""
        for path in paths:
            self.remove([path])
            self.make([path])

    def start(self, path: str) -> None:
        """Start a process in a cgroup; it ends by itself should these tests be killed."""
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._processes[path] = process
        for top in self._tops:
            Path(top, path, "cgroup.procs").write_text(str(process.pid))

    def end(self, paths: Iterable[str]) -> None:
        """Kill the processes of these cgroups and take their exit status."""
        for path in paths:
            if process := self._processes.pop(path, None):
                process.kill()
                with process:  # closes the pipe and waits
                    pass


def _open_to_processes(top: str) -> None:
    """v1's cpuset: without CPUs and memory no process may enter. Those below take over what this one has."""
    inherit = Path(top, "cgroup.clone_children")
    if inherit.exists() and Path(top, "cpuset.cpus").exists():
        for name in ("cpuset.cpus", "cpuset.mems"):
            Path(top, name).write_text(Path(os.path.dirname(top), name).read_text())
        inherit.write_text("1")


def _delegate(directory: str) -> None:
    """v2: let the cgroups below have the controllers that this one has."""
    controllers = Path(directory, "cgroup.controllers").read_text().split()
    Path(directory, "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _remove(directory: str) -> None:
    """Remove a cgroup as soon as the process that was killed has left it."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    while True:
        try:
            os.rmdir(directory)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def open_files(pid: int) -> list[str]:
    """Give where each descriptor of a process leads to."""
    targets = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since the listing
            targets.append(os.readlink(entry.path))
    return targets


def memory_bytes(pid: int, field: str) -> int:
    """Give one of the sizes in ``status`` of a process (proc(5)): ``RssAnon`` or ``VmHWM``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise AssertionError(f"process {pid} has no {field}: it ended")


def cycled(items: list[str], size: int) -> Iterator[list[str]]:
    """Give these again and again, ``size`` of them at a time."""
    while True:
        for start in range(0, len(items), size):
            yield items[start : start + size]
