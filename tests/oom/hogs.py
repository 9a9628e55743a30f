"""Real OOM kills in cgroups of our own, on whichever version this machine has."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.oom.watching import Watched
from tests.conftest import require_root_v1
from tests.real.needs import require
from tests.real.uml import run_in_uml, uml_available

if TYPE_CHECKING:
    from cgwatch.cgroup.events import Notifier

IN_UML = "CGWATCH_TEST_IN_UML"
MEGABYTE = 1 << 20
_numbers = itertools.count()


def run_on_v2(
    module: str, *, skipped: int | None = None, memory: str = "256M", deadline_seconds: float = 120
) -> None:
    """Run the tests of a module once more, on cgroup v2 in User Mode Linux; ``skipped``: so many of them."""
    require(uml_available())
    options = ("-q", "-p", "no:cacheprovider", f"--timeout={deadline_seconds}")
    done = run_in_uml(
        [sys.executable, "-m", "pytest", *options, module],
        environment={IN_UML: "1"},
        memory=memory,
        deadline_seconds=deadline_seconds,
    )
    assert done.status == 0, done.output
    assert " passed" in done.output
    if skipped is not None:
        assert f" passed, {skipped} skipped in " in done.output.splitlines()[-1], done.output


class Hogs:
    """Cgroups below ``/<name>`` in the memory controller's hierarchy, and processes that are killed there."""

    def __init__(self) -> None:
        if IN_UML not in os.environ:
            require_root_v1()
        memory = hierarchy.find("/proc", None).holder("memory")
        assert memory is not None
        self.hierarchy: Hierarchy = memory
        self.is_v2 = memory.version > 1
        self.top = f"/cgwtest-hogs-{os.getpid()}-{next(_numbers)}"
        self._open(self.top)

    def make(self, below: str, limit_bytes: int | None = None) -> str:
        """Make ``<top>/<below>``, whose parent is there, and return its path."""
        path = f"{self.top}/{below}"
        self._open(path)
        if limit_bytes is not None:
            name = "memory.max" if self.is_v2 else "memory.limit_in_bytes"
            (self.directory(path) / name).write_text(str(limit_bytes))
        return path

    def _open(self, path: str) -> None:
        directory = self.directory(path)
        if self.is_v2 and directory.parent != Path(self.hierarchy.directory):
            (directory.parent / "cgroup.subtree_control").write_text("+memory")
        directory.mkdir()

    def directory(self, path: str) -> Path:
        return Path(self.hierarchy.locate(path))

    def watched(self, path: str, *, is_container: bool = True) -> Watched:
        return Watched(self.directory(path).stat().st_ino, is_container)

    def kill_in(self, path: str) -> int:
        """Have one process killed in a cgroup, and give its pid."""
        hog = subprocess.Popen(
            [
                *("sh", "-c", 'echo $$ > "$1/cgroup.procs" && exec "$2" -S -c "x = b\'x\' * (64 << 20)"'),
                *("sh", str(self.directory(path)), sys.executable),
            ]
        )
        assert hog.wait(60) == -signal.SIGKILL
        return hog.pid

    def remove(self, path: str) -> None:
        directory = self.directory(path)
        # A process that was waited for leaves its cgroup a moment later.
        deadline_seconds = time.monotonic() + 10
        while directory.exists():
            with contextlib.suppress(OSError):
                directory.rmdir()
                return
            assert time.monotonic() < deadline_seconds, f"{directory} cannot be removed"
            time.sleep(0.01)

    def close(self) -> None:
        root = self.hierarchy.directory
        for directory, _, _ in os.walk(self.directory(self.top), topdown=False):
            self.remove(directory.removeprefix(root))


def awaited(notifier: Notifier, *paths: str) -> set[str]:
    """Take what is told until all of ``paths`` were, and return it."""
    poll = select.poll()
    poll.register(notifier, select.POLLIN)
    told: set[str] = set()
    deadline_seconds = time.monotonic() + 30
    while not told.issuperset(paths):
        remaining_seconds = deadline_seconds - time.monotonic()
        assert remaining_seconds > 0, f"told only of {told}"
        poll.poll(remaining_seconds * 1000)
        told |= notifier.take()
    return told


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
