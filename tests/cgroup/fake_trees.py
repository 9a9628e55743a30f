"""Trees of plain files that look like a node's: captured ones to copy, and small ones with chosen numbers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler

if TYPE_CHECKING:
    from cgwatch.errors import KernelFileError
    from cgwatch.model import Sample, Snapshot

TREES = Path(__file__).resolve().parents[1] / "trees"

V2_ROOT = {
    "cgroup.controllers": "cpu io memory pids\n",
    "cgroup.procs": "1\n2\n",
    "cgroup.stat": "nr_dying_descendants 0\n",  # and how many there are is not known
    "cpu.stat": "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n",
    "io.stat": "",
    "memory.stat": "anon 100\nfile 200\n",
}
V2 = {
    "cgroup.controllers": "cpu io memory pids\n",
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.procs": "",
    "cgroup.stat": "nr_descendants 0\nnr_dying_descendants 0\n",
    "cpu.max": "50000 100000\n",
    "cpu.max.burst": "0\n",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
    "cpu.weight": "100\n",
    "cpu.idle": "0\n",
    "cpu.stat.local": "throttled_usec 0\n",
    "io.stat": "8:0 rbytes=1024 wbytes=2048 rios=1 wios=2 dbytes=0 dios=0\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.max": "max\n",
    "memory.high": "max\n",
    "memory.low": "0\n",
    "memory.min": "0\n",
    "memory.oom.group": "0\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n",
    "memory.events.local": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n",
    "memory.stat": "anon 1000\nfile 2000\ninactive_file 500\npgfault 10\npgmajfault 1\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "pids.peak": "4\n",
    "pids.events": "max 0\n",
}
V1: dict[str, dict[str, str]] = {
    "memory": {
        "memory.usage_in_bytes": "4096\n",
        "memory.max_usage_in_bytes": "8192\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.soft_limit_in_bytes": "9223372036854771712\n",
        "memory.failcnt": "0\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
        "memory.stat": "cache 1\ntotal_cache 2000\ntotal_rss 1000\ntotal_inactive_file 500\n",
    },
    "cpu": {"cpu.shares": "1024\n", "cpu.idle": "0\n"},
    "cpuacct": {
        "cpuacct.usage": "1500000000\n",
        "cpuacct.usage_percpu": "1000000000 500000000\n",
        "cpuacct.stat": "user 100\nsystem 50\n",
    },
    "blkio": {},
    "pids": {"pids.current": "3\n", "pids.max": "max\n", "pids.peak": "4\n", "pids.events": "max 0\n"},
}

PROC = {
    "meminfo": "MemTotal: 1024 kB\nMemFree: 512 kB\n",
    "stat": "cpu 0\ncpu0 0\nbtime 1700000000\n",
    "cpuinfo": "processor : 0\n",
    "diskstats": "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n",
    "sys/kernel/osrelease": "6.18.0-test\n",
    "sys/kernel/random/boot_id": "00000000-0000-0000-0000-000000000000\n",
    "self/mountinfo": "",
}


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


class Node:
    """A node made of plain files, and a sampler of it.

    Its files are opened at each read unless ``budget`` is given: a plain file that was removed still answers
    through a descriptor, which no kernel file does.
    """

    def __init__(self, directory: Path, *, budget: int = 0, interval_seconds: float = 5.0) -> None:
        self.cgroup = directory / "cgroup"
        self.proc = directory / "proc"
        self.cgroup.mkdir(parents=True)
        write(self.proc, PROC)
        self.failures: list[KernelFileError] = []
        self.now_seconds = 1000.0
        self.descriptors = Descriptors(budget)
        self._interval_seconds = interval_seconds
        self._sampler: Sampler | None = None
        self._ticks = 0

    @property
    def sampler(self) -> Sampler:
        if self._sampler is None:
            self._sampler = Sampler(
                hierarchy.find(str(self.proc), str(self.cgroup)),
                proc_root=str(self.proc),
                descriptors=self.descriptors,
                plan=Plan(interval_seconds=self._interval_seconds),
                clock=lambda: self.now_seconds,
                monotonic=lambda: self.now_seconds,
                failed=self.failures.append,
            )
        return self._sampler

    def v2(self, path: str, *, without: tuple[str, ...] = (), **changed: str) -> Path:
        """Make the cgroup ``path``; ``changed`` are texts of files, their dots written as ``__``."""
        files = V2_ROOT if path == "/" else V2
        texts = {**files, **{name.replace("__", "."): text for name, text in changed.items()}}
        directory = self.cgroup / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        write(
            directory, {name: text for name, text in texts.items() if not name.startswith(without or ("\0",))}
        )
        return directory

    def v1(self, path: str, *controllers: str, procs: str = "") -> dict[str, Path]:
        """Make the cgroup ``path`` in some hierarchies, by default in all."""
        places = {}
        for controller in controllers or tuple(V1):
            places[controller] = self.cgroup / controller / path.lstrip("/")
            write(places[controller], {**V1[controller], "cgroup.procs": procs})
        return places

    def process(self, pid: int, network_namespace: int | None, *, receive_bytes: int = 0) -> None:
        """Make a process with one interface, ``eth0``."""
        zeros = " ".join(["0"] * 15)
        write(
            self.proc / str(pid),
            {
                "net/dev": "Inter-| Receive | Transmit\n"
                " face |bytes packets errs drop fifo frame compressed multicast"
                "|bytes packets errs drop fifo colls carrier compressed\n"
                f"  eth0: {receive_bytes} {zeros}\n"
            },
        )
        (self.proc / str(pid) / "ns").mkdir()
        if network_namespace is not None:
            (self.proc / str(pid) / "ns" / "net").symlink_to(f"net:[{network_namespace}]")

    def tick(self) -> Snapshot:
        snapshot = self.sampler.sample(self._ticks)
        self._ticks += 1
        return snapshot

    def samples(self) -> dict[str, Sample]:
        """Tick, and return the samples by path."""
        return {sample.container.cgroup.path: sample for sample in self.tick().samples}

    def close(self) -> None:
        if self._sampler:
            self._sampler.close()


def copy_captured(name: str, directory: Path) -> tuple[str, str]:
    """Copy a captured tree; return its cgroup root and its proc root."""
    shutil.copytree(TREES / name, directory / name, symlinks=True)
    return os.fspath(directory / name / "cgroup"), os.fspath(directory / name / "proc")
