"""An agent's memory, and the time to its first page."""

from __future__ import annotations

import statistics
from pathlib import Path

from msgspec import Struct

from bench.agent import Agent
from bench.client import GZIP, Client
from bench.subtree import Subtree

MEBIBYTE = 1 << 20

_TICKS = 5


class Memory(Struct, frozen=True):
    """Of an agent after some ticks and scrapes, in bytes."""

    resident_bytes: int
    proportional_bytes: int
    kernel_bytes: int | None
    """Kernel memory charged to its cgroup: open files, page tables, sockets."""
    charged_bytes: int | None
    """All memory charged to its cgroup."""


def memory(folder: Path, tree: Subtree | None, docker: str | None, interval_seconds: float) -> Memory:
    """Measure a new agent after five ticks, and a scrape of each kind."""
    places = tree.make_one("agent-with-docker" if docker else "agent") if tree else []
    own = next((place for place in places if _charged(place) is not None), None)
    with Agent(folder, interval_seconds=interval_seconds, docker=docker, join=own) as agent:
        agent.wait_for_page()
        with Client(agent.port) as client:
            client.scrape(GZIP)
            if docker:
                agent.wait_for(lambda page: b'cgwatch_runtime_up{runtime="docker"} 1.0' in page)
            agent.wait_for_ticks(_TICKS)
            client.scrape(GZIP)
        resident, proportional = agent.memory()
        return Memory(
            resident,
            proportional,
            _kernel(own) if own else None,
            _charged(own) if own else None,
        )


def _charged(place: Path) -> int | None:
    for name in ("memory.current", "memory.usage_in_bytes"):  # v2, v1
        if (place / name).exists():
            return int((place / name).read_text())
    return None


def _kernel(place: Path) -> int | None:
    v1 = place / "memory.kmem.usage_in_bytes"
    if v1.exists():
        return int(v1.read_text())
    words = (place / "memory.stat").read_text().split()
    return next(
        (int(number) for key, number in zip(words[::2], words[1::2], strict=True) if key == "kernel"), None
    )


def start_seconds(folder: Path, times: int) -> tuple[float, float]:
    """Return the median and the least time from a process's start to its first whole page."""
    took = []
    for number in range(times + 1):
        with Agent(folder, interval_seconds=5) as agent:
            seconds = agent.wait_for_page()
        if number:  # the first one compiles
            took.append(seconds)
    return statistics.median(took), min(took)
