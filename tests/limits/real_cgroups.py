"""Real cgroups in every hierarchy that has limits: v1 natively, v2 in QEMU."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.limit_files import holder, read_limits, versions
from cgwatch.limits.survey import read_tree
from cgwatch.proc.diskstats import read_diskstats
from tests.conftest import remove_cgroup, require_root_v1
from tests.real.needs import require
from tests.real.qemu import qemu_available, run_in_qemu

if TYPE_CHECKING:
    from cgwatch.cgroup.hierarchy import Hierarchies
    from cgwatch.cgroup.knob import Value
    from cgwatch.change import Tree

MACHINE = "CGWATCH_TEST_MACHINE"
"""Set inside a machine; without it the tests are on this machine's own v1."""
MEGABYTE = 1 << 20
_numbers = itertools.count()
_HOLD = """
import mmap, os, sys
anonymous, cached, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
memory = mmap.mmap(-1, anonymous) if anonymous else None
for offset in range(0, anonymous, 4096):
    memory[offset] = 1
if cached:
    with open(path, "wb") as file:
        for _ in range(cached >> 20):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass
print("ready", flush=True)
sys.stdin.read()
"""


def run_in_qemu_machine(*modules: str) -> None:
    """Run the tests of modules once more, on cgroup v2 in a whole Debian kernel."""
    require(qemu_available())
    done = run_in_qemu(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=500", *modules],
        environment={MACHINE: "qemu"} | ({"CI": "true"} if "CI" in os.environ else {}),
        disk_megabytes=512,
        deadline_seconds=580,
    )
    assert done.status == 0, done.output
    assert " passed" in done.output


class RealCgroups:
    """Cgroups below ``/<top>``, in every hierarchy that has limits."""

    def __init__(self) -> None:
        if MACHINE not in os.environ:
            require_root_v1()
        self.hierarchies: Hierarchies = hierarchy.find("/proc", None)
        self.versions = versions(self.hierarchies)
        self.version = self.versions["memory"]
        self.top = f"/cgwtest-limits-{os.getpid()}-{next(_numbers)}"
        self.device = next(
            f"{disk.major}:{disk.minor}"
            for disk in read_diskstats()
            if not disk.name.startswith(("loop", "ram"))
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self.make("")

    def has(self, controller: str) -> bool:
        """Whether the version that the memory is of has a controller as well."""
        return self.versions.get(controller) == self.version

    def directory(self, below: str, controller: str = "memory") -> Path:
        found = holder(self.hierarchies, controller)
        assert found is not None
        return Path(found.locate(self.top + below))

    def make(self, below: str) -> str:
        """Make ``<top><below>``, whose parent is there, and return its path."""
        for each in dict.fromkeys(self.directory(below, name) for name in self.versions if self.has(name)):
            each.mkdir()
        if self.version == 1:
            for name in ("cpuset.cpus", "cpuset.mems"):
                above = self.directory(below, "cpuset").parent / name
                (self.directory(below, "cpuset") / name).write_text(above.read_text())
        elif below:
            offered = (self.directory(below).parent / "cgroup.controllers").read_text().split()
            text = " ".join(f"+{name}" for name in offered)
            (self.directory(below).parent / "cgroup.subtree_control").write_text(text)
        return self.top + below

    def tree(self, path: str) -> Tree:
        return read_tree(self.hierarchies, path)

    def values(self, path: str) -> dict[str, Value]:
        read = read_limits(self.hierarchies, path, devices=(self.device,))
        assert not read.failures
        return dict(read.values)

    def start(
        self,
        below: str,
        *,
        anonymous: int = 0,
        cached: int = 0,
        file: str = "",
        controllers: tuple[str, ...] = ("memory",),
    ) -> subprocess.Popen[bytes]:
        """Start a process there that holds memory, and page cache of ``file``; it ends when killed."""
        procs = [str(self.directory(below, name) / "cgroup.procs") for name in controllers]
        script = 'for procs in $1; do echo $$ > "$procs"; done; shift; exec "$@"'
        process = subprocess.Popen(
            [
                *("sh", "-c", script, "sh", " ".join(dict.fromkeys(procs))),
                *(sys.executable, "-S", "-c", _HOLD, str(anonymous), str(cached), file),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            with process:
                pass
        for name in self.versions:
            if self.has(name) and self.directory("", name).exists():
                for directory, _, _ in os.walk(self.directory("", name), topdown=False):
                    remove_cgroup(Path(directory))
