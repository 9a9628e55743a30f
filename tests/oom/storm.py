"""A storm of real OOM kills beside a ledger: ``python -m tests.oom.storm v1|v2 COUNT`` prints its numbers.

Each cgroup is gone as soon as its process is: nobody can read its counters.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import sys
import threading
import time
from pathlib import Path

import msgspec

from cgwatch.discovery.recognise import recognise
from cgwatch.oom import ledger
from cgwatch.oom.dialect import OomLog
from cgwatch.oom.kill import Holder, OomKill
from cgwatch.oom.observation import CgroupCounters, KernelKill, LogLost, Reading
from cgwatch.proc.kmsg import KernelLog, Lost
from cgwatch.proc.vmstat import read_vmstat
from tests.oom.capture import eat, fork

TICK_KILLS = 7
"""So many kills happen between two readings."""


class Node:
    """The memory controller's tree, read as plainly as can be."""

    def __init__(self, version: str) -> None:
        self.is_v2 = version == "v2"
        self.root = Path("/sys/fs/cgroup" if self.is_v2 else "/sys/fs/cgroup/memory")
        self.top = self.root / f"cgwtest-storm-{os.getpid()}"
        self.limit = "memory.max" if self.is_v2 else "memory.limit_in_bytes"

    def read(self) -> Reading:
        counters = []
        for directory, _, _ in os.walk(self.top):
            with contextlib.suppress(OSError):
                counters.append(self._counters(Path(directory)))
        node = read_vmstat().oom_kills_total
        return Reading(time.time(), time.monotonic(), tuple(counters), node, complete=True)

    def _counters(self, directory: Path) -> CgroupCounters:
        path = "/" + str(directory.relative_to(self.root))
        holder = Holder(path, directory.stat().st_ino, recognise(path))
        if not self.is_v2:
            return CgroupCounters(holder, own=_keyed(directory / "memory.oom_control")["oom_kill"])
        own, within = _keyed(directory / "memory.events.local"), _keyed(directory / "memory.events")
        return CgroupCounters(holder, own["oom_kill"], within["oom_kill"], own["oom"])

    def kill_one(self, number: int) -> None:
        cgroup = self.top / f"{number:064x}"
        cgroup.mkdir()
        (cgroup / self.limit).write_text("8M")
        os.waitpid(fork(cgroup, eat), 0)
        while True:  # a process leaves its cgroup a moment after it was waited for
            with contextlib.suppress(OSError):
                cgroup.rmdir()
                return


class Reader(threading.Thread):
    """Reads the log as it is written. Where the kernel held a path back, /proc still has it for a moment."""

    def __init__(self, log: KernelLog, node: Node) -> None:
        super().__init__(daemon=True)
        self._told: queue.SimpleQueue[KernelKill | LogLost] = queue.SimpleQueue()
        self._log = log
        self._node = node
        self._dialect = OomLog(time.time() - time.monotonic())
        self._wake, self._waker = os.pipe()
        self._asked: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._log, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            for said in self._log.read(sys.maxsize):
                if isinstance(said, Lost):
                    self._dialect.forget()
                    self._told.put(LogLost(said.count))
                elif told := self._dialect.take(said):
                    self._told.put(self._located(told.kill))
            if self._wake in ready:
                os.read(self._wake, 1)
                asked = self._asked.get()
                if asked is None:
                    return
                asked.set()

    def _located(self, kill: KernelKill) -> KernelKill:
        if kill.path is None:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{kill.victim.pid}/cgroup").read_text().splitlines():
                    _, controllers, path = line.split(":", 2)
                    if controllers == ("" if self._node.is_v2 else "memory") and path != "/":
                        return msgspec.structs.replace(kill, path=path.removesuffix(" (deleted)"))
        return kill

    def drain(self) -> list[KernelKill | LogLost]:
        """Return all that was logged before this call."""
        read = threading.Event()
        self._asked.put(read)
        os.write(self._waker, b"x")
        assert read.wait(10)
        found = []
        while not self._told.empty():
            found.append(self._told.get())
        return found

    def stop(self) -> None:
        self._asked.put(None)
        os.write(self._waker, b"x")
        self.join(10)
        os.close(self._wake)
        os.close(self._waker)


def main(version: str, count: int) -> None:
    """Make the kills, take readings in between, and print the ledger's numbers as JSON."""
    node = Node(version)
    node.top.mkdir()
    if node.is_v2:
        (node.top / "cgroup.subtree_control").write_text("+memory")
    records: dict[int, OomKill] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(node.top.rmdir)
        log = stack.enter_context(KernelLog(failed=_raise))
        reader = Reader(log, node)
        reader.start()
        stack.callback(reader.stop)
        state, _ = ledger.begin(None, boot_id="boot", seconds=time.time())
        state, _ = ledger.observe(state, node.read())
        before = state.node or 0
        for number in range(count + 2):
            if number < count:
                node.kill_one(number)
            if number % TICK_KILLS and number < count:
                continue
            for said in reader.drain():
                state, kills = ledger.observe(state, said)
                records |= {kill.number: kill for kill in kills}
            state, kills = ledger.observe(state, node.read())
            records |= {kill.number: kill for kill in kills}
    named = [kill.holder.owner.container_id for kill in records.values() if kill.attributed and kill.holder]
    summary = {
        "node": (state.node or 0) - before,
        "records": sum(kill.count for kill in records.values()),
        "attributed": state.attributed,
        "unattributed": state.unattributed,
        "containers": len(set(named)),
        "lost_lines": state.lost_lines,
        "unmatched_lines": state.unmatched_lines,
        "contradicted": state.contradicted,
        "victims": sum(kill.victim is not None for kill in records.values()),
    }
    json.dump(summary, sys.stdout)


def _keyed(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def _raise(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
