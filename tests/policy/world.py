"""A node of our own to hold decisions against: it carries out what is to be, and says what came of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cgwatch.cgroup.knob import Value
from cgwatch.policy.decide import Decided, decide
from cgwatch.policy.decision import Decision, Kind
from cgwatch.policy.language import Source, load_policies
from cgwatch.policy.ready import Ready, make_ready
from cgwatch.policy.rules import NO_POLICIES, Mode
from cgwatch.policy.situation import Host, Kill, Moment, Situation
from cgwatch.policy.state import BEGINNING, State
from cgwatch.policy.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30
INTERVAL_SECONDS = 5.0
HOST = Host(memory_total_bytes=64 * GIBIBYTE, cpus=8, devices={"/dev/sda": "8:0"})


def policies(text: str) -> Ready:
    """Make the policies of a file without its first line ready."""
    return make_ready(load_policies([Source("p.yaml", f"apiVersion: cgwatch/v1\n{text}".encode())]))


NOTHING = make_ready(NO_POLICIES)


class Cgroup:
    """One container: its limits, and what it does."""

    def __init__(self, name: str = "web") -> None:
        self.name = name
        self.current: dict[str, Value] = {
            "memory.max": GIBIBYTE,
            "memory.high": math.inf,
            "cpu.max": 100_000,
            "cpu.max.period": 100_000,
            "cpu.weight": 100,
            "pids.max": 1000,
            "cgroup.freeze": 0,
        }
        self.baseline: dict[str, Value] = {}
        self.written: dict[str, Value] = {}
        self.overrides: dict[str, float] = {}
        self.values: dict[str, float] = {"memory.working_set": 100 * MEBIBYTE, "pids.current": 10}
        self.kills: list[Kill] = []
        self.labels: Mapping[str, str] = {}
        self.refuses = False
        """The kernel takes nothing."""

    def situation(self) -> Situation:
        values = dict(self.values)
        limit = self.current["memory.max"]
        values.setdefault("memory.usage", values.get("memory.working_set", 0))
        if isinstance(limit, int) and limit and "memory.working_set" in values:
            values.setdefault("memory.working_set.ratio", values["memory.working_set"] / limit)
            values.setdefault("memory.usage.ratio", values["memory.usage"] / limit)
        return Situation(
            Subject(f"/docker/{self.name}", 7, "container", "docker", name=self.name, labels=self.labels),
            values,
            dict(self.current),
            dict(self.baseline),
            dict(self.written),
            dict(self.overrides),
            tuple(self.kills),
        )

    def take(self, decision: Decision) -> None:
        """Write a limit as the enforcing part does: keep the baseline first, then write and read back."""
        assert decision.to is not None
        if self.refuses:
            return
        self.baseline.setdefault(decision.key, self.current.get(decision.key, math.inf))
        self.current[decision.key] = self.written[decision.key] = decision.to


class World:
    """Some containers, and the time."""

    def __init__(self, ready: Ready, *cgroups: Cgroup, host: Host = HOST) -> None:
        self.ready = ready
        self.cgroups = cgroups or (Cgroup(),)
        self.host = host
        self.seconds = 1_700_000_000.0
        self.state: State = BEGINNING
        self.moments: list[Moment] = []
        self.used: list[Ready] = []
        """Which policies were in force at each."""
        self.all: list[tuple[float, Decision]] = []
        self.notes: list[str] = []

    def tick(self, interval: float = INTERVAL_SECONDS) -> Decided:
        """Let one moment pass, and carry out what is decided."""
        self.seconds += interval
        situations = tuple(cgroup.situation() for cgroup in self.cgroups)
        moment = Moment(self.seconds, situations, self.host, INTERVAL_SECONDS)
        self.moments.append(moment)
        self.used.append(self.ready)
        decided = decide(self.ready, self.state, moment)
        self.state = decided.state
        self.notes += [note.message for note in decided.notes]
        for decision in decided.decisions:
            self.all.append((self.seconds, decision))
            if decision.mode is Mode.ENFORCE and decision.kind in {Kind.WRITE, Kind.RESTORE}:
                self.cgroup(decision.subject.path).take(decision)
        return decided

    def cgroup(self, path: str) -> Cgroup:
        return next(cgroup for cgroup in self.cgroups if f"/docker/{cgroup.name}" == path)

    def run(self, seconds: float, each: Callable[[World], None] | None = None) -> list[Decision]:
        """Let time pass; return what was decided in it."""
        first = len(self.all)
        for _ in range(int(seconds / INTERVAL_SECONDS)):
            if each:
                each(self)
            self.tick()
        return [decision for _, decision in self.all[first:]]


def texts(decisions: Iterable[Decision]) -> list[tuple[str, Value | None]]:
    return [(decision.key or decision.kind, decision.to) for decision in decisions]
