"""The whole agent: what one sample of one cgroup costs in a running process, scrapes included."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench.agent import Agent, ticks
from bench.beat import beat_of_agent
from bench.client import GZIP, Client, value
from bench.native import NativeError, Program
from bench.window import Window, watch

_TICKS = 3  # settings are read at each of the first ones


class Whole(Struct, frozen=True):
    """CPU time of the agent's process in a window, in microseconds for one sample of one cgroup."""

    sampling_microseconds: float
    """Its main thread: ticks."""
    scraping_microseconds: float
    """All others: the HTTP server, rendering, compressing."""
    floor_microseconds: float
    """The C loop over the same files, halfway between the ticks, by the same clock and as a mean, too."""
    core_ratio: float
    """Share of one core."""
    cgroups: int
    cgroups_before: int
    ticks: int
    scrapes: int

    @property
    def microseconds(self) -> float:
        """Of the whole process."""
        return self.sampling_microseconds + self.scraping_microseconds


class Floor:
    """The C loop with the sampler's files; notes what each round took."""

    def __init__(self, reader: Program, cgroups: int) -> None:
        self._reader = reader
        self._cgroups = cgroups
        self._sequence = 0
        self.microseconds: list[float] = []

    def __call__(self) -> None:
        """Read every file once; a round with failures (a cgroup went) does not count."""
        self._sequence += 1
        nanoseconds, _reads, failures = map(int, self._reader.ask(f"read {self._sequence}").split())
        if not failures:
            self.microseconds.append(nanoseconds / 1000 / self._cgroups)


def measure(
    folder: Path, interval_seconds: float, seconds: float, floor: Floor, work: Callable[[], object]
) -> Whole:
    """Run an agent and the C loop in turn over the same cgroups."""
    with Agent(folder, interval_seconds=interval_seconds) as agent:
        agent.wait_for_page()
        agent.wait_for_ticks(_TICKS)
        beat = beat_of_agent(agent.port, interval_seconds)
        with Client(agent.port) as client:
            beat.wait(0.25)
            before = client.scrape(GZIP).page
            window = watch(agent.pid, client, beat, seconds, work=work, floor=floor)
            after = client.scrape(GZIP).page
    if not floor.microseconds:
        raise NativeError("cgroups came and went in every round: wait until the machine is quieter")
    return whole(before, after, window, statistics.mean(floor.microseconds))


def whole(before: bytes, after: bytes, window: Window, floor_microseconds: float) -> Whole:
    """Put the numbers together: pages from the tick before the window and from its last one."""
    cgroups = value(after, b"cgwatch_cgroups") or 0
    number = ticks(after) - ticks(before)
    samples = cgroups * number
    return Whole(
        sampling_microseconds=window.spent.main / samples * 1e6,
        scraping_microseconds=window.spent.others / samples * 1e6,
        floor_microseconds=floor_microseconds,
        core_ratio=window.spent.total / window.seconds,
        cgroups=int(cgroups),
        cgroups_before=int(value(before, b"cgwatch_cgroups") or 0),
        ticks=number,
        scrapes=window.scrapes,
    )
