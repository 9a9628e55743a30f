"""cgwatch beside a real cAdvisor: the same cgroups, the same interval, the same work, one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench.agent import Agent, ticks
from bench.beat import Beat, beat_of_agent
from bench.client import GZIP, Client, samples
from bench.numbers import parts, percentile
from bench.said import TIMED, families_of, lines_of, moments, rate
from bench.window import Threads, Window, threads, watch
from tests.compare.cadvisor import Cadvisor, CadvisorError
from tests.compare.process import resident_bytes

_SETTLE_SECONDS = 5.0
_FIND_SECONDS = 180.0
_FIRST_TICKS = 3
_SCRAPE, _WORK = 0.5, 0.75  # parts of an interval

# cAdvisor waits one to two intervals from one sample to the next, 1.5 on average (-jitter_factor).
_NOMINAL_INTERVALS = 1.5


class Binary(Cadvisor):
    """cAdvisor with no runtime to ask; it says the port that it listens on."""

    @property
    def port(self) -> int:
        """The port of its page."""
        port: int = self._port
        return port


class Side(Struct, frozen=True):
    """One of the two."""

    cgroups: float
    """That it samples."""
    samples_a_second: float
    """Of each cgroup."""
    seconds: float
    cpu_seconds: float
    """Of the window: user and system, a scrape every 15 s."""
    scrape_cpu_seconds: float
    """Of one scrape, compressed, of a new sample."""
    lines: int
    p50_seconds: float
    p99_seconds: float
    resident_bytes: int
    families: dict[str, int]
    """Names of what it says of a container, and how many series each has there."""

    @property
    def microseconds(self) -> float:
        """CPU time of the process for one sample of one cgroup."""
        return self.cpu_seconds / (self.cgroups * self.samples_a_second * self.seconds) * 1e6

    @property
    def microseconds_per_line(self) -> float:
        """CPU time of a scrape for one of its lines."""
        return self.scrape_cpu_seconds / self.lines * 1e6


class Task(Struct, frozen=True):
    """What both have to do."""

    folder: Path
    interval_seconds: float
    seconds: float
    scrapes: int
    path: str
    """The cgroup of ours that holds the containers."""
    ids: list[str]
    work: Callable[[], object]


def cgwatch(task: Task) -> Side:
    """Measure an agent; the work is done before each of its ticks."""
    with Agent(task.folder, interval_seconds=task.interval_seconds) as agent:
        agent.wait_for_page()
        agent.wait_for_ticks(_FIRST_TICKS)
        with Client(agent.port) as client:
            beat = beat_of_agent(agent.port, task.interval_seconds)
            found = _measure(agent.pid, client, beat, task)
    first, *_, last = found.scrapes
    samples_a_second = (last.ticks - first.ticks) / (last.seconds - first.seconds)
    # Its main thread samples, and all that the others do is answering.
    return _side(found, samples_a_second, found.spent.others / len(found.scrapes), task)


def cadvisor(task: Task, binary: Path) -> Side:
    """Measure cAdvisor with its defaults, but for an interval that does not grow while nothing changes."""
    with (
        Binary(
            binary.absolute(),
            task.folder,
            f"unix://{task.folder}/no-docker.sock",
            interval=f"{task.interval_seconds:g}s",
            everything=False,
        ) as theirs,
        Client(theirs.port) as client,
    ):
        _wait_for_all(client, task)
        found = _measure(theirs.pid, client, Beat(time.time(), task.interval_seconds), task)
    window = found.window
    _, scrape_cpu_seconds = parts(
        (window.spent.total, window.seconds, window.scrapes),
        (found.spent.total, found.seconds, len(found.scrapes)),
    )
    return _side(found, _rate(found, task), scrape_cpu_seconds, task)


class _Seen(Struct, frozen=True):
    """What is kept of a page of megabytes."""

    seconds: float
    """When it was asked for."""
    took_seconds: float
    cgroups: int
    ticks: int
    times: bytes
    """The lines of one family; cAdvisor's say when each cgroup was sampled."""


class _Measured(Struct, frozen=True):
    window: Window
    scrapes: list[_Seen]
    """One at each interval."""
    spent: Threads
    """While these were made."""
    seconds: float
    resident_bytes: int
    page: bytes


def _measure(pid: int, client: Client, beat: Beat, task: Task) -> _Measured:
    window = watch(pid, client, beat, task.seconds, work=task.work)
    resident = resident_bytes(pid)
    scrapes = []
    page = b""
    beat.wait(_SCRAPE)
    start, before = time.monotonic(), threads(pid)
    for _ in range(task.scrapes):
        beat.wait(_WORK)
        task.work()
        beat.wait(_SCRAPE)
        asked = time.monotonic()
        scrape = client.scrape(GZIP)
        page = scrape.page
        cgroups = page.count(b"\ncontainer_last_seen{")
        scrapes.append(_Seen(asked, scrape.seconds, cgroups, ticks(page), lines_of(page, TIMED)))
    return _Measured(window, scrapes, threads(pid) - before, time.monotonic() - start, resident, page)


def _side(found: _Measured, samples_a_second: float, scrape_cpu_seconds: float, task: Task) -> Side:
    window, page = found.window, found.page
    took = [seen.took_seconds for seen in found.scrapes]
    return Side(
        cgroups=statistics.mean(seen.cgroups for seen in found.scrapes),
        samples_a_second=samples_a_second,
        seconds=window.seconds,
        cpu_seconds=window.spent.total,
        scrape_cpu_seconds=scrape_cpu_seconds,
        lines=samples(page),
        p50_seconds=percentile(took, 0.5),
        p99_seconds=percentile(took, 0.99),
        resident_bytes=found.resident_bytes,
        families=families_of(page, f"{task.path}/{task.ids[0]}"),
    )


def _wait_for_all(client: Client, task: Task) -> None:
    deadline = time.monotonic() + _FIND_SECONDS
    while client.scrape().page.count(f'container_last_seen{{id="{task.path}/'.encode()) < len(task.ids):
        if time.monotonic() > deadline:
            raise CadvisorError(f"cAdvisor does not show all cgroups after {_FIND_SECONDS:g} s")
        time.sleep(1)
    time.sleep(_SETTLE_SECONDS)


def _rate(found: _Measured, task: Task) -> float:
    """Samples of a cgroup in a second: between pages that came often enough to see each sample."""
    seen = [(each.seconds, moments(each.times, task.path)) for each in found.scrapes]
    return rate(seen, task.interval_seconds) or 1 / (_NOMINAL_INTERVALS * task.interval_seconds)
