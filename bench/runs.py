"""All measurements at one number of cgroups, as rows of the table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from msgspec import Struct

from bench import native, process, rendering, sampling, subtree
from bench.process import MEBIBYTE
from bench.sampling import Burst
from bench.table import Row
from cgwatch.agent import open_sampler
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.errors import KernelFileError
from cgwatch.metrics import families
from cgwatch.metrics.labels import CadvisorScheme
from cgwatch.metrics.render import Renderer
from cgwatch.sampling.sampler import Sampler
from cgwatch.settings import Settings
from tests.real import dockerd

_SETTINGS_TICKS = 6  # at 5 s the sampler reads a cgroup's settings on every sixth tick

# Cgroup v1 keeps the list behind cgroup.procs for a second after a read: who reads sooner sees the old one.
_BURST_SECONDS = 1.1


class Plan(Struct, frozen=True):
    """How thoroughly to measure."""

    rounds: int
    starts: int
    cpu_seconds: float
    burn_microseconds: int
    """CPU time of each container in each burst."""
    profile: bool


class Bench(Struct):
    """One run: a folder for what it makes, and the rows so far."""

    folder: Path
    plan: Plan
    rows: list[Row] = []

    def run(self, hierarchies: Hierarchies, count: int) -> None:
        """Measure everything with ``count`` cgroups of our own."""
        with subtree.subtree(hierarchies, count) as tree:
            with _sampler() as sampler:
                sampler.sample(0)
                rendering.describe(sampler, tree.ids)
                self._sampling(sampler, "idle", _idle)
            with subtree.loop_disk(self.folder) as disk:
                if disk:
                    tree.count_disk(disk)
                program = native.compiled("busy", self.folder)
                with subtree.busy(program, tree, self.plan.burn_microseconds, disk) as running:
                    with _sampler() as sampler:
                        sampler.sample(0)
                        rendering.describe(sampler, tree.ids)
                        self._sampling(sampler, "busy", _paced(lambda: running.ask("work")))
                        self._rendering(sampler, lambda: running.ask("work"))
                    self._process(tree, count, lambda: running.ask("work"))

    def run_as_it_is(self) -> None:
        """Measure what can be measured with the cgroups that are there."""
        with _sampler() as sampler:
            count = len(sampler.sample(0).samples)
            self._sampling(sampler, "idle", _idle)
            self._rendering(sampler, _idle)
        self._process(None, count, _idle)

    def _row(self, what: str, count: int, measured: float, unit: str, **aim: float) -> None:
        self.rows.append(Row(what, count, measured, unit, **aim))
        click.echo("  ".join(self.rows[-1].cells()), err=True)

    def _sampling(self, sampler: Sampler, name: str, burst: Burst) -> None:
        with native.Program(str(native.compiled("preads", self.folder)), str(_SETTINGS_TICKS)) as reader:
            found = sampling.measure(sampler, reader, burst, self.plan.rounds)
        count = found.cgroups
        self._row(f"sampling, {name}: CPU against a C loop", count, found.ratio, "x", at_most=1.6)
        least = found.python_least_microseconds / found.c_least_microseconds
        self._row(f"sampling, {name}: the same, best rounds", count, least, "x")
        self._row(f"sampling, {name}: cgwatch", count, found.python_microseconds, "us/cgroup")
        self._row(f"sampling, {name}: C loop", count, found.c_microseconds, "us/cgroup")
        self._row(f"sampling, {name}: files", count, found.files_per_cgroup, "/cgroup")
        self._row(f"sampling, {name}: files with a new text", count, found.changed_ratio * 100, "%")
        if found.discarded:
            self._row(f"sampling, {name}: rounds in which cgroups came or went", count, found.discarded, "")
        if self.plan.profile:
            if burst is not _idle:
                seldom = ", ".join(sorted(found.unchanged))
                click.echo(f"files that changed in less than half of the bursts: {seldom}", err=True)
            for phase, microseconds in sampling.phases(sampler, burst).items():
                self._row(f"sampling, {name}: phase {phase}", count, microseconds, "us/cgroup")

    def _rendering(self, sampler: Sampler, burst: Burst) -> None:
        renderer = Renderer(
            families.enabled(Settings().metrics.groups.enabled()),
            scheme=CadvisorScheme(("com.docker.compose.*",)),
        )
        found = rendering.measure(sampler, renderer, burst, self.plan.rounds)
        count = len(list(sampler.followed))
        speedup = found.client_microseconds_per_line / found.microseconds_per_line
        self._row("rendering: faster than prometheus_client", count, speedup, "x", at_least=10)
        speedup = found.exporter_microseconds_per_line / found.microseconds_per_line
        self._row("rendering: the same, families made at each scrape", count, speedup, "x")
        self._row("rendering: cgwatch", count, found.microseconds_per_line, "us/line")
        self._row("rendering: prometheus_client", count, found.client_microseconds_per_line, "us/line")
        self._row("rendering: lines", count, found.lines, "")
        self._row("rendering: page", count, found.page_bytes / MEBIBYTE, "MiB")

    def _process(self, tree: subtree.Subtree | None, count: int, burst: Burst) -> None:
        self._memory(tree, count, "without Docker", None)
        reason = dockerd.docker_available()
        if reason is None:
            with dockerd.Dockerd() as docker:
                self._memory(tree, count, "with Docker", docker.url)
        else:
            click.echo(f"memory with Docker is not measured: {reason}", err=True)
        median, least = process.start_seconds(self.folder, self.plan.starts)
        self._row("start to first page", count, median, "s", at_most=1)
        self._row("start to first page, best", count, least, "s")
        ratio = process.cpu_ratio(self.folder, self.plan.cpu_seconds, burst)
        self._row("agent: CPU at 5 s, a scrape every 15 s", count, ratio * 100, "% of a core")

    def _memory(self, tree: subtree.Subtree | None, count: int, name: str, docker: str | None) -> None:
        found = process.memory(self.folder, tree, docker)
        resident = found.resident_bytes / MEBIBYTE
        self._row(f"agent {name}: resident memory", count, resident, "MiB", at_most=60)
        self._row(f"agent {name}: proportional share", count, found.proportional_bytes / MEBIBYTE, "MiB")
        if found.kernel_bytes is not None and found.charged_bytes is not None:
            self._row(f"agent {name}: kernel memory", count, found.kernel_bytes / MEBIBYTE, "MiB")
            self._row(f"agent {name}: all that is charged", count, found.charged_bytes / MEBIBYTE, "MiB")


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


@contextmanager
def _sampler() -> Iterator[Sampler]:
    failures: list[KernelFileError] = []
    sampler, _ = open_sampler(Settings(), failures.append)
    try:
        yield sampler
    finally:
        sampler.close()
        for failure in failures[:10]:
            click.echo(f"not readable: {failure}", err=True)


def noise() -> str:
    """Say what else the machine does: its load decides how far the numbers are to be trusted."""
    return f"{os.cpu_count()} CPUs, load {' '.join(f'{load:.1f}' for load in os.getloadavg())}"
