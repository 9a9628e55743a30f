"""What a running exporter costs while it samples and is scraped now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench.beat import Beat
from bench.client import GZIP, Client

SCRAPE_SECONDS = 15.0
"""Prometheus' usual interval."""

_LEAST_TICKS = 5

_SCRAPE, _FLOOR, _WORK = 0.25, 0.5, 0.75  # parts of an interval: all far from the ticks


class Threads(Struct, frozen=True):
    """CPU seconds so far, user and system."""

    main: float
    """Of the thread that cgwatch samples with."""
    others: float

    @property
    def total(self) -> float:
        """Of the process."""
        return self.main + self.others

    def __add__(self, more: Threads) -> Threads:
        return Threads(self.main + more.main, self.others + more.others)

    def __sub__(self, before: Threads) -> Threads:
        return Threads(self.main - before.main, self.others - before.others)


def threads(pid: int) -> Threads:
    """Read the time that each thread ran (/proc/PID/task/TID/schedstat, in nanoseconds)."""
    main = others = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            spent = int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # it ended meanwhile
            continue
        if int(task.name) == pid:
            main += spent
        else:
            others += spent
    return Threads(main / 1e9, others / 1e9)


class Window(Struct, frozen=True):
    """What was spent in some seconds."""

    seconds: float
    spent: Threads
    scrapes: int


def watch(
    pid: int,
    client: Client,
    beat: Beat,
    seconds: float,
    *,
    work: Callable[[], object],
    floor: Callable[[], object] | None = None,
) -> Window:
    """Watch for about ``seconds`` (five ticks at least): scraped every 15 s, ``work`` done before each tick.

    ``floor`` is called halfway between two ticks, also with work done as long before it.
    """
    intervals = max(_LEAST_TICKS, round(seconds / beat.interval_seconds))
    between = max(1, round(SCRAPE_SECONDS / beat.interval_seconds))
    scrapes = 0
    beat.wait(_FLOOR)
    start, before = time.monotonic(), threads(pid)
    for number in range(intervals):
        beat.wait(_WORK)
        work()
        beat.wait(_SCRAPE)
        # In the middle of the time between two scrapes, so that a short window has its share, too.
        if number % between == between // 2:
            client.scrape(GZIP)
            scrapes += 1
        if floor:
            work()
        beat.wait(_FLOOR)
        if floor:
            floor()
    return Window(time.monotonic() - start, threads(pid) - before, scrapes)
