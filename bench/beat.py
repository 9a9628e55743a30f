"""The moments at which an exporter under measurement is left alone, given work, and scraped."""

from __future__ import annotations

import math
import time

from bench.client import Client, value


class Beat:
    """The moments of a schedule: one tick each ``interval_seconds``, one of them at ``tick_seconds``."""

    def __init__(self, tick_seconds: float, interval_seconds: float) -> None:
        self._tick_seconds = tick_seconds
        self.interval_seconds = interval_seconds

    def since_tick(self) -> float:
        """Return which part (0..1) of the time from one tick to the next has gone by."""
        return (time.time() - self._tick_seconds) / self.interval_seconds % 1

    def wait(self, part: float) -> None:
        """Wait until that part of the time from one tick to the next has gone by."""
        time.sleep((part - self.since_tick()) % 1 * self.interval_seconds)


def beat_of_agent(port: int, interval_seconds: float) -> Beat:
    """Return the schedule of a running agent, as its page tells it."""
    with Client(port) as client:
        last = value(client.scrape().page, b"cgwatch_last_sample_timestamp_seconds")
    return Beat(last or time.time(), interval_seconds)


def interval_for(tick_seconds: float, least_seconds: float) -> float:
    """Return a whole number of seconds that leaves room for scrapes and work beside ticks of that length."""
    return max(least_seconds, math.ceil(4 * tick_seconds))
