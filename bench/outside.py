"""Measurements of running agents, as rows: memory, start, CPU time, scrapes; and cAdvisor beside them."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from bench import process, scrapes, versus, whole
from bench.beat import interval_for
from bench.inside import Inside, open_for_bench
from bench.process import MEBIBYTE
from bench.said import compared
from bench.sampling import Burst, hand_over
from bench.sheet import Sheet
from bench.subtree import Subtree
from tests.real import dockerd

_SAME = 0.05  # of the cgroups may come or go while one number is measured

RESIDENT = "resident memory"
"""How the names of rows end that grow with the cgroups."""


class Outside(Struct, frozen=True):
    """Where and how to measure, and where to write it down."""

    inside: Inside
    seconds: float
    """Of each window of CPU time."""
    starts: int
    tick_seconds: float
    """How long the sampler takes: schedules leave room for it."""
    tree: Subtree | None

    @property
    def sheet(self) -> Sheet:
        """Where it is written down."""
        return self.inside.sheet

    @property
    def is_real(self) -> bool:
        """Whether times mean anything: in an emulated kernel only their ratios do."""
        return self.inside.clock.name == "cpu"

    @property
    def count(self) -> int:
        """What the rows stand under."""
        return self.inside.count

    @property
    def folder(self) -> Path:
        """For what the agents write."""
        return self.inside.folder

    def memory_and_start(self) -> None:
        """Measure new agents."""
        self._memory("", None)
        reason = "it takes too long there" if dockerd.inside_uml() else dockerd.docker_available()
        if reason is None:
            with dockerd.Dockerd() as docker:
                self._memory("with Docker, ", docker.url)
        else:
            self.sheet.note(f"memory with Docker is not measured: {reason}")
        median, least = process.start_seconds(self.folder, self.starts)
        self.sheet.add(
            "from start to the first page", self.count, median, "s", at_most=1 if self.is_real else None
        )
        self.sheet.add("from start to the first page, best", self.count, least, "s")

    def _memory(self, name: str, docker: str | None) -> None:
        interval = interval_for(self.tick_seconds, 1)
        found = process.memory(self.folder, self.tree, docker, interval)
        add, count = self.sheet.add, self.count
        add(f"{name}{RESIDENT}", count, found.resident_bytes / MEBIBYTE, "MiB", at_most=60)
        add(f"{name}memory: proportional share", count, found.proportional_bytes / MEBIBYTE, "MiB")
        if found.kernel_bytes is not None:
            add(f"{name}memory: kernel's, charged", count, found.kernel_bytes / MEBIBYTE, "MiB")
        if found.charged_bytes is not None:
            add(f"{name}memory: all that is charged", count, found.charged_bytes / MEBIBYTE, "MiB")

    def whole(self, name: str, work: Burst) -> None:
        """Measure an agent at its default interval, or a longer one that leaves room for the ticks."""
        interval = interval_for(self.tick_seconds, 5)
        with self.inside.reader(interval, "cpu") as reader:
            with open_for_bench() as sampler:
                for sequence in range(3):
                    sampler.sample(sequence)
                # Of ours alone: others may go while an agent runs, and then the round does not count.
                ours = hand_over(sampler, reader, self.tree.path if self.tree else "/")
            floor = whole.Floor(reader, len(ours))
            found = whole.measure(self.folder, interval, self.seconds, floor, work)
        if abs(found.cgroups - found.cgroups_before) > self.count * _SAME:
            self.sheet.note(
                f"NOT TO BE TRUSTED: from {found.cgroups_before} to {found.cgroups} cgroups meanwhile"
            )
        add, count = self.sheet.add, self.count
        ratio = found.microseconds / found.floor_microseconds
        add(
            f"whole agent, {name} cgroups, CPU of a sample against the C loop",
            count,
            ratio,
            "times",
            at_most=3,
        )
        add(f"whole agent, {name}: sampling", count, found.sampling_microseconds, "us/cgroup-sample")
        add(f"whole agent, {name}: serving scrapes", count, found.scraping_microseconds, "us/cgroup-sample")
        add(f"whole agent, {name}: C loop", count, found.floor_microseconds, "us/cgroup-sample")
        what = "nothing changes" if name == "idle" else "all containers work"
        share = found.core_ratio * 100
        add(
            f"CPU when {what}, every {interval:g} s, scraped every 15 s",
            count,
            share,
            "% of a core",
            headline=True,
        )
        add(f"whole agent, {name}: cgroups", count, found.cgroups)
        add(f"whole agent, {name}: ticks", count, found.ticks)
        add(f"whole agent, {name}: scrapes", count, found.scrapes)

    def scrapes(self, number: int, work: Burst) -> None:
        """Scrape an agent over HTTP."""
        interval = interval_for(self.tick_seconds, 1)
        for kind, found in scrapes.measure(self.folder, interval, number, work).items():
            at_most = 1.0 if self.is_real and "again" not in kind else None
            add, count = self.sheet.add, self.count
            what = f"scrape, {kind}"
            add(f"{what}: CPU of a sample", count, found.cpu_microseconds_per_line, "us", at_most=at_most)
            add(f"{what}: p50", count, found.p50_seconds * 1000, "ms", headline=True)
            add(f"{what}: p99", count, found.p99_seconds * 1000, "ms", headline=True)
            add(f"{what}: sent", count, found.sent_bytes / MEBIBYTE, "MiB")
            add(f"{what}: samples", count, found.lines)
            add(f"{what}: scrapes", count, found.number)

    def versus(self, cadvisor: Path, interval_seconds: float, scrapes: int, work: Burst) -> None:
        """Measure both on the same cgroups."""
        if self.tree is None:
            return
        task = versus.Task(
            self.folder, interval_seconds, self.seconds, scrapes, self.tree.path, self.tree.ids, work
        )
        sides = {"cgwatch": versus.cgwatch(task), "cAdvisor": versus.cadvisor(task, cadvisor)}
        every = f"every {interval_seconds:g} s"
        ours, theirs = sides.values()
        add, count = self.sheet.add, self.count
        less = theirs.microseconds / ours.microseconds
        add(f"whole agent {every}, CPU of a sample against cAdvisor", count, less, "times less", at_least=10)
        if min(ours.scrape_cpu_seconds, theirs.scrape_cpu_seconds) > 0:
            less = theirs.microseconds_per_line / ours.microseconds_per_line
            what = f"scrape {every}, gzip, CPU of a sample against cAdvisor"
            add(what, count, less, "times less", at_least=10)
        else:
            self.sheet.note("NOT MEASURED: what a scrape costs, as the machine did too much else")
        if abs(ours.cgroups - theirs.cgroups) > self.count * _SAME:
            self.sheet.note(f"NOT TO BE TRUSTED: {ours.cgroups:.0f} and {theirs.cgroups:.0f} cgroups")
        for name, side in sides.items():
            add(f"{name} {every}: CPU", count, side.microseconds, "us/cgroup-sample")
            add(
                f"{name} {every}: CPU",
                count,
                side.cpu_seconds / side.seconds * 100,
                "% of a core",
                headline=True,
            )
            add(f"{name} {every}: cgroups", count, side.cgroups)
            add(f"{name} {every}: samples of a cgroup", count, side.samples_a_second, "/s")
            add(f"{name} {every}: CPU of a scrape", count, side.scrape_cpu_seconds * 1000, "ms")
            add(f"{name} {every}: CPU of a scraped sample", count, side.microseconds_per_line, "us")
            add(f"{name} {every}: samples of a scrape", count, side.lines)
            add(f"{name} {every}: scrape p50", count, side.p50_seconds * 1000, "ms", headline=True)
            add(f"{name} {every}: scrape p99", count, side.p99_seconds * 1000, "ms", headline=True)
            add(f"{name} {every}: {RESIDENT}", count, side.resident_bytes / MEBIBYTE, "MiB", headline=True)
        self.sheet.note(compared(ours.families, theirs.families))
