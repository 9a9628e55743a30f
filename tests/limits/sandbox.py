"""Real cgroups to limit, on whatever version this kernel has, and an office that limits them."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.limit_files import holder, inode_of
from cgwatch.change import Actor, ActorKind, Request, Target
from cgwatch.discovery.recognise import recognise
from cgwatch.limits.wiring import Office, open_office
from cgwatch.limits_settings import Limits
from cgwatch.settings import Discovery, Docker, Settings
from cgwatch.storage import DATABASE, Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cgwatch.cgroup.knobs import Value
    from cgwatch.change import Plan, Tree
    from cgwatch.oom.observation import LimitWrite

MEBIBYTE = 1 << 20
SOMEBODY = Actor(ActorKind.COMMAND, "somebody", 1000)
CONTROLLERS = ("memory", "pids", "cpu")
_numbers = itertools.count()


class Sandbox:
    """Cgroups below ``/cgwtest-...``, with memory, pids and cpu."""

    def __init__(self) -> None:
        self.root = f"/cgwtest-limits-{os.getpid()}-{next(_numbers)}"
        self.hierarchies = hierarchy.find("/proc", None)
        found = (holder(self.hierarchies, name) for name in CONTROLLERS)
        self._places = list(dict.fromkeys(each for each in found if each))
        self.version = self._places[0].version
        self.make(self.root)

    def make(self, path: str) -> Target:
        """Make a cgroup with all of the controllers."""
        for place in self._places:
            directory = Path(place.locate(path))
            directory.mkdir()
            if place.version == 2 and path == self.root:
                (directory / "cgroup.subtree_control").write_text(
                    " ".join(f"+{name}" for name in CONTROLLERS)
                )
        return self.target(path)

    def target(self, path: str) -> Target:
        """Return a cgroup as it is now."""
        return Target(path, inode_of(self.hierarchies, path), recognise(path))

    def remove(self, path: str) -> None:
        """Remove a cgroup and all below it."""
        for place in self._places:
            for directory, _, _ in os.walk(place.locate(path), topdown=False):
                os.rmdir(directory)

    def file(self, path: str, controller: str, v2: str, v1: str) -> Path:
        """Return a kernel file of a cgroup, by its name on either version."""
        place = holder(self.hierarchies, controller)
        assert place is not None
        return Path(place.locate(path)) / (v2 if place.version == 2 else v1)

    def memory(self, path: str) -> Path:
        """Return the file of a cgroup's limit of memory."""
        return self.file(path, "memory", "memory.max", "memory.limit_in_bytes")

    def pids(self, path: str) -> Path:
        """Return the file of a cgroup's limit of tasks."""
        return self.file(path, "pids", "pids.max", "pids.max")

    @property
    def unlimited(self) -> str:
        """What the kernel prints for no limit on memory."""
        return "max\n" if self.version == 2 else "9223372036854771712\n"


class Told:
    """Takes down what an enforcer tells."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.writes: list[LimitWrite] = []

    def limit_written(self, knob: str, via: str, result: str, _seconds: float, /) -> None:
        self.counts[f"{knob} {via} {result}"] += 1

    def limit_conflicted(self, knob: str, /) -> None:
        self.counts[f"{knob} conflict"] += 1

    def limit_restored(self, knob: str, /) -> None:
        self.counts[f"{knob} restored"] += 1

    def limit_drifted(self, knob: str, /) -> None:
        self.counts[f"{knob} drift"] += 1


class Bench:
    """An office that writes real limits, by a clock that can be put forward."""

    def __init__(
        self,
        state_dir: Path,
        limits: Limits | None = None,
        *,
        lock: Path | None = None,
        docker_url: str | None = None,
        patience_seconds: float = 10.0,
    ) -> None:
        """Without ``docker_url`` nothing is ever said to a Docker daemon.

        ``patience_seconds``: how long to wait for the lock; a killed process' last write may have to end.
        """
        self.patience_seconds = patience_seconds
        self.state_dir = state_dir
        self.settings = Settings(
            state_dir=str(state_dir),
            limits=structs.replace(
                limits or Limits(), verify_after_seconds=0.02, lock=str(lock or state_dir / "limits.lock")
            ),
            discovery=Discovery(Docker(enabled=docker_url is not None, socket=docker_url or "unix:///none")),
        )
        self.ahead_seconds = 0.0
        self.told = Told()
        self._storage: Storage | None = None
        self.office = self.open()

    def now(self) -> float:
        return time.time() + self.ahead_seconds

    def open(self, planned: Callable[[Request, Tree, bool], Plan] | None = None) -> Office:
        """Open an office as another process would, after the one before it ended."""
        self.close()
        self._storage = Storage.open(str(self.state_dir / DATABASE))
        self.office = open_office(
            self.settings,
            self._storage,
            observer=self.told,
            told=self.told.writes.append,
            clock=self.now,
            planned=planned,
        )
        deadline = time.monotonic() + self.patience_seconds
        while not self.office.lock.acquire():
            if time.monotonic() > deadline:
                self._storage.close()
                raise AssertionError("somebody else has the lock")
            time.sleep(0.002)
        return self.office

    def close(self) -> None:
        if self._storage is not None:
            self.office.lock.release()
            self._storage.close()
            self._storage = None

    def results(self) -> list[tuple[str, str, str]]:
        """Return the audit log, the oldest first: who, which limit, what became of it."""
        return [
            (str(entry.actor.kind), entry.change.key, str(entry.outcome.result) if entry.outcome else "open")
            for entry in reversed(self.office.records.changes())
        ]


def wish(target: Target, for_seconds: float | None = None, **wanted: Value) -> Request:
    """Return a request; ``memory_max`` stands for ``memory.max``."""
    values = {key.replace("_", "."): value for key, value in wanted.items()}
    return Request(target, values, SOMEBODY, "a test", for_seconds)
