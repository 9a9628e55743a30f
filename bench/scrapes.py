"""How long a scrape of an exporter takes over HTTP on the loopback, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bench.agent import Agent
from bench.beat import Beat, beat_of_agent
from bench.client import GZIP, PLAIN, Client, Scrape
from bench.numbers import percentile
from bench.window import Threads, threads

_TICKS = 3
_SCRAPE = 0.5  # of an interval: the tick is over, and what the containers do is not yet to begin
_WORK = 0.6
_LAST = 0.9


class Scrapes(Struct, frozen=True):
    """Some scrapes of one kind."""

    number: int
    lines: int
    sent_bytes: int
    p50_seconds: float
    p99_seconds: float
    """Of fewer than a hundred scrapes: the longest."""
    cpu_microseconds_per_line: float
    """CPU time of the threads that serve scrapes."""


def summary(scrapes: list[Scrape], spent: Threads) -> Scrapes:
    """Put some scrapes together with what all of them cost."""
    seconds = [scrape.seconds for scrape in scrapes]
    lines = sum(scrape.lines for scrape in scrapes)
    return Scrapes(
        number=len(scrapes),
        lines=lines // len(scrapes),
        sent_bytes=sum(scrape.sent_bytes for scrape in scrapes) // len(scrapes),
        p50_seconds=percentile(seconds, 0.5),
        p99_seconds=percentile(seconds, 0.99),
        cpu_microseconds_per_line=spent.others / lines * 1e6,
    )


def fresh(
    pid: int, client: Client, beat: Beat, headers: dict[str, str], number: int, work: Callable[[], object]
) -> Scrapes:
    """Scrape once after each tick: the page is rendered anew."""
    found = []
    spent = Threads(0.0, 0.0)
    for _ in range(number):
        beat.wait(_WORK)
        work()
        beat.wait(_SCRAPE)
        before = threads(pid)
        found.append(client.scrape(headers))
        spent += threads(pid) - before
    return summary(found, spent)


def again(pid: int, client: Client, beat: Beat, headers: dict[str, str], number: int) -> Scrapes:
    """Scrape again and again between two ticks: the page is there."""
    found: list[Scrape] = []
    spent = Threads(0.0, 0.0)
    while len(found) < number:
        beat.wait(_SCRAPE)
        client.scrape(headers)  # renders
        before = threads(pid)
        while len(found) < number and beat.since_tick() < _LAST:
            found.append(client.scrape(headers))
        spent += threads(pid) - before
    return summary(found, spent)


KINDS = {"plain": PLAIN, "gzip": GZIP}


def measure(
    folder: Path, interval_seconds: float, number: int, work: Callable[[], object]
) -> dict[str, Scrapes]:
    """Measure an agent: ``plain`` and ``gzip``, of a new snapshot and (``again``) of the same one."""
    with Agent(folder, interval_seconds=interval_seconds) as agent:
        agent.wait_for_page()
        agent.wait_for_ticks(_TICKS)
        beat = beat_of_agent(agent.port, interval_seconds)
        found = {}
        with Client(agent.port) as client:
            for name, headers in KINDS.items():
                found[name] = fresh(agent.pid, client, beat, headers, number, work)
                found[f"{name}, again"] = again(agent.pid, client, beat, headers, number)
        return found
