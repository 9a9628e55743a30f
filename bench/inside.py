"""Measurements of cgwatch's parts in this process, as rows: the sampler, the renderer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from msgspec import Struct, structs

from bench import native, rendering, sampling
from bench.clock import Clock
from bench.process import MEBIBYTE
from bench.sampling import Burst
from bench.sheet import Sheet
from cgwatch.assembly import make_renderer, open_sampler
from cgwatch.errors import KernelFileError
from cgwatch.sampling.sampler import Sampler
from cgwatch.settings import Settings

_SETTINGS = Settings()


class Inside(Struct, frozen=True):
    """Where and how to measure, and where to write it down."""

    folder: Path
    sheet: Sheet
    clock: Clock
    rounds: int
    profile: bool
    count: int
    """Cgroups of ours: what the rows stand under."""

    def sampling(self, sampler: Sampler, name: str, burst: Burst) -> None:
        """Sample in turn with the C loop."""
        with self.reader(_SETTINGS.sampling.interval_seconds, self.clock.name) as reader:
            found = sampling.measure(sampler, reader, burst, self.rounds, self.clock)
        add, count = self.sheet.add, self.count
        add(
            f"sampling {name} cgroups, CPU against a C loop that reads every file",
            count,
            found.ratio,
            "times",
            at_most=1.6,
        )
        least = found.python_least_microseconds / found.c_least_microseconds
        add(f"sampling, {name}: the same, best rounds", count, least, "times")
        add(f"sampling, {name}: cgwatch", count, found.python_microseconds, "us/cgroup")
        add(f"sampling, {name}: C loop", count, found.c_microseconds, "us/cgroup")
        add(f"sampling, {name}: cgroups", count, found.cgroups)
        add(f"sampling, {name}: files", count, found.files_per_cgroup, "/cgroup")
        add(f"sampling, {name}: files with a new text", count, found.changed_ratio * 100, "%")
        if found.discarded:
            add(f"sampling, {name}: rounds in which cgroups came or went", count, found.discarded)
        if self.profile:
            seldom = ", ".join(sorted(found.unchanged))
            self.sheet.note(f"{name}: files that changed in less than half of the bursts: {seldom}")
            for phase, microseconds in sampling.phases(sampler, burst, self.clock).items():
                add(f"sampling, {name}: phase {phase}", count, microseconds, "us/cgroup")

    def rendering(self, sampler: Sampler, burst: Burst) -> None:
        """Render in turn with prometheus_client."""
        labels = structs.replace(_SETTINGS.metrics, container_labels=("com.docker.compose.*",))
        renderer = make_renderer(structs.replace(_SETTINGS, metrics=labels))
        found = rendering.measure(sampler, renderer, burst, self.rounds, self.clock)
        add, count = self.sheet.add, self.count
        speedup = found.client_microseconds_per_line / found.microseconds_per_line
        add("writing the page, against prometheus_client", count, speedup, "times faster", at_least=10)
        speedup = found.exporter_microseconds_per_line / found.microseconds_per_line
        add("writing the page, the same, families made at each scrape", count, speedup, "times faster")
        add("rendering: cgwatch", count, found.microseconds_per_line, "us/line")
        add("rendering: prometheus_client", count, found.client_microseconds_per_line, "us/line")
        add("rendering: lines", count, found.lines)
        add("rendering: page", count, found.page_bytes / MEBIBYTE, "MiB")

    def reader(self, interval_seconds: float, clock: str) -> native.Program:
        """Return the C loop, which reads settings as often as the sampler does at this interval."""
        turns = max(1, round(_SETTINGS.sampling.settings_seconds / interval_seconds))
        return native.Program(str(native.compiled("preads", self.folder)), str(turns), clock)


@contextmanager
def open_for_bench() -> Iterator[Sampler]:
    """Give a sampler with the default settings; what it cannot read is said at the end."""
    failures: list[KernelFileError] = []
    sampler, _ = open_sampler(_SETTINGS, failures.append)
    try:
        yield sampler
    finally:
        sampler.close()
        for failure in failures[:10]:
            click.echo(f"not readable: {failure}", err=True)
