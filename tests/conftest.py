"""Real cgroups for tests, under one name for each test run, removed whatever happens."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.needs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

V1_ROOT = Path("/sys/fs/cgroup")
_numbers = itertools.count()


def require_root_v1() -> None:
    """Go on where a test may make cgroups in v1 hierarchies; else skip, or fail where that is required."""
    require(_v1_missing())


def _v1_missing() -> str | None:
    if os.geteuid() != 0:
        return "needs root to make cgroups"
    if not (V1_ROOT / "memory" / "cgroup.procs").exists():
        return "needs the cgroup v1 hierarchies at /sys/fs/cgroup"
    return None


class V1Cgroups:
    """Real cgroups below ``/<name>`` in v1 hierarchies; ``name`` is another one for each test."""

    def __init__(self) -> None:
        self.name = f"cgwtest-{os.getpid()}-{next(_numbers)}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def make(self, below: str = "", controller: str = "memory") -> Path:
        """Make ``/<name>/<below>`` in one hierarchy."""
        path = self.path(below, controller)
        path.mkdir(parents=True)
        return path

    def path(self, below: str = "", controller: str = "memory") -> Path:
        """Return the directory of ``/<name>/<below>``."""
        return V1_ROOT / controller / self.name / below

    def start(self, *cgroups: Path, command: tuple[str, ...] = ("cat",)) -> subprocess.Popen[bytes]:
        """Start a process in cgroups of different hierarchies; ``cat`` ends when its stdin is closed."""
        move = " && ".join(f"echo $$ > {path}/cgroup.procs" for path in cgroups)
        process = subprocess.Popen(
            ["sh", "-c", f'{move} && echo ready && exec "$@"', "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one of our processes and take its exit status."""
        process.send_signal(signal.SIGKILL)
        with process:  # closes the pipes and waits
            pass

    def remove(self, directory: Path) -> None:
        """Remove a cgroup as soon as the processes that were ended have left it."""
        remove_cgroup(directory)

    def close(self) -> None:
        """End the processes and remove every cgroup of this name."""
        for process in self._processes:
            self.end(process)
        for root in V1_ROOT.glob(f"*/{self.name}"):
            for directory, _, _ in os.walk(root, topdown=False):
                remove_cgroup(Path(directory))


def remove_cgroup(directory: Path) -> None:
    """Remove one cgroup as soon as the processes that were ended have left it."""
    # A process that was waited for leaves its cgroup a moment later.
    deadline_seconds = time.monotonic() + 10
    while directory.exists():
        with contextlib.suppress(OSError):
            directory.rmdir()
            return
        assert time.monotonic() < deadline_seconds, f"{directory} cannot be removed"
        time.sleep(0.01)


@pytest.fixture
def v1_cgroups() -> Iterator[V1Cgroups]:
    """Give the means to make real v1 cgroups."""
    require_root_v1()
    cgroups = V1Cgroups()
    try:
        yield cgroups
    finally:
        cgroups.close()
