"""All measurements at one number of cgroups."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench import limits, native, rendering, storm, subtree
from bench.clock import Clock
from bench.inside import Inside, open_for_bench
from bench.numbers import slope
from bench.outside import RESIDENT, Outside
from bench.sampling import Burst
from bench.sheet import Sheet
from cgwatch.cgroup.hierarchy import Hierarchies

# Cgroup v1 keeps the list behind cgroup.procs for a second after a read: who reads sooner sees the old one.
_BURST_SECONDS = 1.1

_FIRST_TICKS = 3  # these read every setting, and take longer than any other

_BURN_MICROSECONDS = 2000
_BURN_TOGETHER = 500_000  # on two cores a burst of any number of containers is over in half a second


class Plan(Struct, frozen=True):
    """What to measure, and how thoroughly."""

    rounds: int
    starts: int
    seconds: float
    kills: int
    """Of a storm."""
    profile: bool
    parts: frozenset[str]
    """Of ``PARTS``."""
    cadvisor: Path | None
    intervals: tuple[float, ...]
    """For the comparison with cAdvisor, in seconds."""
    disk: str


PARTS = ("sampling", "rendering", "memory", "whole", "scrapes", "storm", "limits", "cadvisor")


class Bench(Struct, frozen=True):
    """One run: a folder for what it makes, and what it found so far."""

    folder: Path
    plan: Plan
    sheet: Sheet
    clock: Clock

    def run(self, hierarchies: Hierarchies, count: int) -> None:
        """Measure with ``count`` cgroups of our own, first idle, then with a process at work in each."""
        with subtree.subtree(hierarchies, count) as tree:
            outside = self._in_process(count, tree, "idle", _idle)
            self._if("whole", lambda: outside.whole("idle", _idle))
            self._if("storm", lambda: storm.measure(self.folder, self.sheet, self.plan.kills, count))
            self._if("limits", lambda: self._limits(hierarchies, tree, count))
            burn = min(_BURN_MICROSECONDS, _BURN_TOGETHER // count)
            program = native.compiled("busy", self.folder)
            with (
                subtree.disk(self.folder, self.plan.disk) as disk,
                subtree.busy(program, tree, burn, disk) as running,
            ):
                if disk:
                    tree.count_disk(disk)
                self._busy(count, tree, lambda: running.ask("work"))

    def run_as_it_is(self) -> None:
        """Measure what can be measured with the cgroups that are there."""
        with open_for_bench() as sampler:
            count = len(sampler.sample(0).samples)
        outside = self._in_process(count, None, "idle", _idle)
        self._if("memory", outside.memory_and_start)
        self._if("whole", lambda: outside.whole("idle", _idle))
        self._if("scrapes", lambda: outside.scrapes(self.plan.rounds, _idle))

    def _busy(self, count: int, tree: subtree.Subtree, work: Burst) -> None:
        plan = self.plan
        outside = self._in_process(count, tree, "busy", work)
        self._if("memory", outside.memory_and_start)
        self._if("whole", lambda: outside.whole("busy", work))
        self._if("scrapes", lambda: outside.scrapes(plan.rounds, work))
        if plan.cadvisor and "cadvisor" in plan.parts:
            for interval_seconds in plan.intervals:
                outside.versus(plan.cadvisor, interval_seconds, plan.rounds, work)

    def _limits(self, hierarchies: Hierarchies, tree: subtree.Subtree, count: int) -> None:
        limits.measure(self.folder, self.sheet, hierarchies, tree, self.plan.rounds, count)

    def _if(self, part: str, measure: Callable[[], None]) -> None:
        if part in self.plan.parts:
            measure()

    def _in_process(self, count: int, tree: subtree.Subtree | None, name: str, work: Burst) -> Outside:
        """Measure the parts in this process; return what measures running agents on the same cgroups."""
        plan = self.plan
        inside = Inside(self.folder, self.sheet, self.clock, plan.rounds, plan.profile, count)
        burst = work if work is _idle else _paced(work)
        with open_for_bench() as sampler:
            sampler.sample(0)
            if tree is not None:
                rendering.describe(sampler, tree.ids)
            for sequence in range(1, _FIRST_TICKS):
                sampler.sample(sequence)
            start = time.perf_counter()
            sampler.sample(_FIRST_TICKS)
            tick_seconds = time.perf_counter() - start
            self._if("sampling", lambda: inside.sampling(sampler, name, burst))
            if name == "busy" or tree is None:
                self._if("rendering", lambda: inside.rendering(sampler, work))
        return Outside(inside, plan.seconds, plan.starts, tick_seconds, tree)

    def growth(self) -> None:
        """Say how memory grows from one number of cgroups to the next, once all have been measured."""
        for what in dict.fromkeys(row.what for row in self.sheet.rows if row.what.endswith(RESIDENT)):
            points = self.sheet.points(what)
            mebibytes = slope(points)
            if mebibytes is not None:
                name = f"{what}, for each further cgroup"
                self.sheet.add(name, int(max(points)[0]), mebibytes * 1024, "KiB", headline=True)


def _idle() -> None:
    """Idle containers do nothing between two rounds."""


def _paced(burst: Burst) -> Burst:
    last = time.monotonic()

    def paced() -> None:
        nonlocal last
        time.sleep(max(0.0, last + _BURST_SECONDS - time.monotonic()))
        burst()
        last = time.monotonic()

    return paced


def noise() -> str:
    """Say what else the machine does: its load decides how far the numbers are to be trusted."""
    return f"{os.cpu_count()} CPUs, load {' '.join(f'{load:.1f}' for load in os.getloadavg())}"
