"""What it takes to set a limit and to know that it holds, as rows: by the enforcer, and by the command."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from msgspec import Struct, structs

from bench.agent import environment
from bench.numbers import percentile
from bench.sheet import Sheet
from bench.subtree import Subtree
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.limit_files import holder, inode_of
from cgwatch.change import Actor, ActorKind, Key, Plan, Request, Result, Step, Target, Tree, Via
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import CgwatchError
from cgwatch.limits.enforce import Enforcer
from cgwatch.limits.hand import Hand
from cgwatch.limits.transaction import undone
from cgwatch.limits.wiring import Nobody, open_office, planner
from cgwatch.limits_settings import Limits
from cgwatch.settings import Discovery, Docker, Settings
from cgwatch.storage import DATABASE, Storage

T = TypeVar("T")

_WHAT = "verified writes"
_BENCH = Actor(ActorKind.COMMAND, "bench")
_WISHES: dict[Key, tuple[Value, Value]] = {"memory.max": (64 << 20, 96 << 20), "cpu.max": (50_000, 75_000)}
"""What each limit is set to in turn: a value that is there already is not written."""
_WRITING = "write and read back"
_COMMANDS = 5
_DEADLINE_SECONDS = 10.0


class LimitsError(CgwatchError):
    """A limit was not set, so there is nothing to measure; the message says why."""


class Watch(Nobody):
    """Takes the time of the parts of one transaction, at the seams that the enforcer has."""

    def __init__(self, settings: Settings) -> None:
        self._planner = planner(settings)
        self._began = 0.0
        self._parts: dict[str, float] = {}

    def begin(self) -> None:
        """Begin a transaction."""
        self._parts = {}
        self._began = time.perf_counter()

    def end(self) -> dict[str, float]:
        """Return the seconds of each part; what none of them has is ``the rest``, all of it ``whole``."""
        whole = time.perf_counter() - self._began
        return {**self._parts, "the rest": whole - sum(self._parts.values()), "whole": whole}

    def plan(self, request: Request, tree: Tree, restores: bool, /) -> Plan:  # noqa: FBT001 - as the enforcer calls it
        """Plan as the settings say. What was before is the survey."""
        start = time.perf_counter()
        self._parts["survey"] = start - self._began
        plan = self._planner(request, tree, restores)
        self._parts["plan"] = time.perf_counter() - start
        return plan

    def limit_written(self, _knob: str, _via: str, _result: str, seconds: float, /) -> None:
        """Take how long it took to write and to read back."""
        self._parts[_WRITING] = seconds

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Take the time of one of the record's transactions with the disk."""
        start = time.perf_counter()
        yield
        self._parts["record"] = self._parts.get("record", 0.0) + time.perf_counter() - start


class WatchedStorage(Storage):
    """The agent's storage; ``watch`` takes the time of it."""

    watch: Watch | None = None

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction, as ``Storage`` does."""
        with self.watch.recording() if self.watch else contextlib.nullcontext():
            return super().transact(work)


class Round(Struct, frozen=True):
    """One change of one limit, in seconds."""

    parts: dict[str, float]
    dry_seconds: float
    floor_seconds: float
    """The kernel's files alone: open, write, read."""
    hand_seconds: float
    """A new hand that writes the same files once, and is ended."""
    written_seconds: float
    """Of it: until all files are written, which is what the enforcer waits for before it reads back."""
    steps: int


class Subject(Struct, frozen=True):
    """One cgroup, and all that sets its limits."""

    enforcer: Enforcer
    watch: Watch
    hierarchies: Hierarchies
    target: Target

    @classmethod
    @contextlib.contextmanager
    def open(cls, settings: Settings, hierarchies: Hierarchies, path: str) -> Iterator[Self]:
        """Open what sets the limits of the cgroup ``path``, made as the agent makes it."""
        target = Target(path, inode_of(hierarchies, path), recognise(path))
        watch = Watch(settings)
        with WatchedStorage.open(os.path.join(settings.state_dir, DATABASE)) as storage:
            storage.watch = watch
            office = open_office(settings, storage, observer=watch, planned=watch.plan)
            office.lock.acquire()
            try:
                yield cls(office.enforcer, watch, hierarchies, target)
            finally:
                office.lock.release()

    def round(self, key: Key, value: Value) -> Round:
        """Plan a change, make it, and do with the files alone what it does with them."""
        request = Request(self.target, {key: value}, _BENCH, "bench", via=Via.CGROUPFS)
        start = time.perf_counter()
        steps = self.enforcer.apply(structs.replace(request, dry_run=True)).steps
        dry_seconds = time.perf_counter() - start
        self.watch.begin()
        report = self.enforcer.apply(request)
        parts = self.watch.end()
        for outcome in report.outcomes:
            if outcome.result is not Result.APPLIED:
                raise LimitsError(f"{key} was not set: {outcome.result}; {outcome.message}")
        # In the reverse order, for the kernel refuses memory+swap below memory.
        back = [undone(step, step.undo) for step in reversed(steps) if step.undo is not None]
        floor_seconds = self._plainly(back)
        written_seconds, hand_seconds = self._by_hand(steps)
        return Round(parts, dry_seconds, floor_seconds, hand_seconds, written_seconds, len(steps))

    def _plainly(self, steps: Sequence[Step]) -> float:
        files = [(self._file(step), step.text.encode()) for step in steps]
        start = time.perf_counter()
        for file, raw in files:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
            os.write(descriptor, raw)
            os.pread(descriptor, 4096, 0)
            os.close(descriptor)
        return time.perf_counter() - start

    def _by_hand(self, steps: Sequence[Step]) -> tuple[float, float]:
        files = [(self._file(step), step.text.encode()) for step in steps]
        hand = Hand(_DEADLINE_SECONDS)
        start = time.perf_counter()
        for file, raw in files:
            hand.write(file, raw)
        written = time.perf_counter()
        hand.end()
        return written - start, time.perf_counter() - start

    def _file(self, step: Step) -> str:
        hierarchy = holder(self.hierarchies, step.controller)
        if hierarchy is None:
            raise LimitsError(f"{step.controller} is not mounted")
        return f"{hierarchy.locate(step.path)}/{step.file}"


def measure(
    folder: Path, sheet: Sheet, hierarchies: Hierarchies, tree: Subtree, rounds: int, count: int
) -> None:
    """Set one cgroup's limits ``rounds`` times each, beside ``count`` others; then ask the command line."""
    state = folder / "limits"
    settings = Settings(
        state_dir=str(state),
        limits=Limits(
            verify_after_seconds=0.0, deadline_seconds=_DEADLINE_SECONDS, lock=str(state / "limits.lock")
        ),
        discovery=Discovery(Docker(enabled=False)),
    )
    places = tree.make_one("limits")
    path = f"{tree.path}/limits"
    try:
        with Subject.open(settings, hierarchies, path) as subject:
            for key, values in _WISHES.items():
                for value in values:  # the first ones make the tables' pages, and compile
                    subject.round(key, value)
                found = [subject.round(key, values[number % 2]) for number in range(rounds)]
                add(sheet, key, found, count)
        seconds = statistics.median(_commands(folder, settings, path))
        what = "cgwatch set-limit --dry-run, without an agent: a process"
        sheet.add(what, count, seconds * 1000, "ms", headline=True)
    finally:
        for place in places:
            place.rmdir()


def add(sheet: Sheet, key: Key, found: Sequence[Round], count: int) -> None:
    """Write down what the rounds of one limit took."""
    name = f"{_WHAT}, {key}"
    whole = [each.parts["whole"] for each in found]
    sheet.add(f"{name}: transactions each second", count, len(found) / sum(whole), "/s", headline=True)
    for what, seconds in (("one", whole), ("a plan alone", [each.dry_seconds for each in found])):
        for ratio, rank in ((0.5, "p50"), (0.99, "p99")):
            sheet.add(f"{name}: {what}, {rank}", count, percentile(seconds, ratio) * 1000, "ms")
    floor = statistics.median(each.floor_seconds for each in found)
    sheet.add(f"{name}: the same files, plainly", count, floor * 1000, "ms")
    sheet.add(f"{name}: one against that", count, statistics.median(whole) / floor, "times")
    sheet.add(f"{name}: files written", count, statistics.median(each.steps for each in found))
    for part in found[0].parts:
        if part != "whole":
            seconds_of_it = statistics.median(each.parts[part] for each in found)
            sheet.add(f"{name}: part {part}", count, seconds_of_it * 1000, "ms")
    for what, of_them in (
        ("a hand alone, until all is written", [each.written_seconds for each in found]),
        ("a hand alone, until it has ended", [each.hand_seconds for each in found]),
        # The enforcer has no seam between the two: so this is what the hand alone leaves of both.
        ("read back, twice", [each.parts[_WRITING] - each.written_seconds for each in found]),
    ):
        sheet.add(f"{name}: {what}", count, statistics.median(of_them) * 1000, "ms")


def _commands(folder: Path, settings: Settings, path: str) -> list[float]:
    """Return how long the command takes as a process, without an agent, in seconds."""
    variables = {
        **environment(folder, f"unix://{folder}/no-docker.sock"),
        "CGWATCH_STATE_DIR": settings.state_dir,
        "CGWATCH_LIMITS_LOCK": settings.limits.lock,
    }
    command = [sys.executable, "-m", "cgwatch", "set-limit", path, "--memory", "128m", "--dry-run"]
    took = []
    for number in range(_COMMANDS + 1):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise LimitsError(f"{' '.join(command[1:])} failed: {done.stderr.strip()}")
        if number:  # the first one compiles
            took.append(seconds)
    return took
