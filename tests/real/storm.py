"""A storm of real OOM kills beside a running agent: ``python -m tests.real.storm KILLS OTHERS``.

Each cgroup is made, its only process killed and the cgroup removed, one after the other, as fast as that
goes: nobody has long to look at it. Meanwhile the agent samples others, which live on. Prints JSON.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.oom.kill import OomKill
from cgwatch.storage import DATABASE, Storage
from tests.oom.capture import eat, fork
from tests.real.agent_process import AgentProcess, Page
from tests.real.kills import NO_DOCKER, node_total

LIMIT_BYTES = 8 << 20
SETTLED_SECONDS = 90
"""A kill of which no source told whose it was is settled after 30 s."""
_SETTLE_BEFORE_SECONDS = 1.0


class Told(Struct, frozen=True):
    """What a storm was, and what the agent made of it."""

    killed: int
    """Processes of ours that died of SIGKILL."""
    node: int
    """By how much the node's own counter rose."""
    counted: int
    """By how much the agent's total did."""
    attributed: int
    unattributed: int
    stored: int
    """Kills in the database."""
    right: int
    """Stored kills of our victims that name the cgroup in which the victim was."""
    wrong: int
    """Stored kills that name a cgroup in which their victim was not, or one that another names, too."""
    missing: int
    """Cgroups of ours that no stored kill names."""
    seconds: float
    """How long the storm took."""
    latencies_seconds: tuple[float, ...]
    """From the kill, by the kernel's log, until the agent had found it; of those that the log told."""
    sources: dict[str, int]
    """Stored kills by who told of them first."""

    @property
    def share(self) -> float:
        """Which part (0..1) of our cgroups is named by a kill."""
        return 1 - self.missing / self.killed


class Cgroups:
    """``/cgwtest-storm-<pid>`` in the memory controller's hierarchy, and what is in it."""

    def __init__(self, memory: Hierarchy, others: int) -> None:
        self.path = f"/cgwtest-storm-{os.getpid()}"
        self._top = Path(memory.locate(self.path))
        self._limit = "memory.max" if memory.version > 1 else "memory.limit_in_bytes"
        self._is_v2 = memory.version > 1
        self._others = [self._top / f"{number:064d}" for number in range(others)]

    def __enter__(self) -> Self:
        self._top.mkdir()
        if self._is_v2:
            (self._top / "cgroup.subtree_control").write_text("+memory")
        for other in self._others:
            other.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for place in (*self._others, self._top):
            place.rmdir()

    @property
    def others(self) -> set[str]:
        """The paths of those that live on."""
        return {f"{self.path}/{other.name}" for other in self._others}

    def kill_one(self, number: int) -> tuple[int, str]:
        """Make a cgroup, have a process killed in it, and remove it; give the process's id and the path."""
        cgroup = self._top / f"{number:064x}"
        cgroup.mkdir()
        (cgroup / self._limit).write_text(str(LIMIT_BYTES))
        pid = fork(cgroup, eat)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "it was not killed"
        while True:  # a process leaves its cgroup a moment after it was waited for
            with contextlib.suppress(OSError):
                cgroup.rmdir()
                return pid, f"{self.path}/{cgroup.name}"


@contextlib.contextmanager
def cgroups(others: int) -> Iterator[Cgroups]:
    """Make ``others`` cgroups that live on; they go in the end."""
    memory = hierarchy.find("/proc", None).holder("memory")
    assert memory is not None
    with Cgroups(memory, others) as made:
        yield made


def storm(kills: int, made: Cgroups, folder: Path, interval: str = "1s") -> Told:
    """Let an agent begin, make the kills, and wait until all of them are settled."""
    before = node_total()
    with AgentProcess(NO_DOCKER, interval=interval, state_dir=str(folder)) as agent:
        agent.wait_for(lambda page: all(page.shows(path) for path in made.others))
        time.sleep(_SETTLE_BEFORE_SECONDS)
        began = time.monotonic()
        victims = dict(made.kill_one(1 << 200 | number) for number in range(kills))
        seconds = time.monotonic() - began
        page = agent.wait_for(_is_settled(kills), SETTLED_SECONDS)
        node = node_total() - before
    with Storage.open_reader(str(folder / DATABASE)) as storage:
        stored = [each.kill for each in storage.kills()]
    return Told(
        killed=len(victims),
        node=node,
        counted=int(page.value("cgwatch_oom_node_kills_total")),
        attributed=int(page.value("cgwatch_oom_attributed_total")),
        unattributed=int(page.value("cgwatch_oom_unattributed_total")),
        seconds=seconds,
        **_held_against(stored, victims),
    )


def _is_settled(kills: int) -> Callable[[Page], bool]:
    def is_settled(page: Page) -> bool:
        settled = page.value("cgwatch_oom_attributed_total") + page.value("cgwatch_oom_unattributed_total")
        return page.value("cgwatch_oom_node_kills_total") == settled >= kills

    return is_settled


def _held_against(stored: list[OomKill], victims: dict[int, str]) -> dict[str, Any]:
    named = [kill for kill in stored if kill.attributed and kill.holder and kill.holder.path]
    right = [kill for kill in named if kill.victim and victims.get(kill.victim.pid) == kill.path]
    contradicted = [
        kill for kill in named if kill.victim and victims.get(kill.victim.pid, kill.path) != kill.path
    ]
    ours = set(victims.values())
    paths = [kill.path for kill in named if kill.path in ours]
    sources: dict[str, int] = {}
    for kill in stored:
        first = str(kill.sources[0]) if kill.sources else "none"
        sources[first] = sources.get(first, 0) + kill.count
    return {
        "stored": sum(kill.count for kill in stored),
        "right": len(right),
        "wrong": len(contradicted) + len(paths) - len(set(paths)),
        "missing": len(ours - set(paths)),
        "latencies_seconds": tuple(
            kill.found_seconds - kill.killed_seconds for kill in stored if kill.killed_seconds is not None
        ),
        "sources": sources,
    }


def main(kills: int, others: int) -> None:
    """Run one storm."""
    with cgroups(others) as made, tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        told = storm(kills, made, Path(folder))
    sys.stdout.write(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
