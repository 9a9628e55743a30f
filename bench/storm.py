"""How a running agent does in a storm of OOM kills, as rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.numbers import percentile
from bench.sheet import Sheet
from tests.real.storm import Told, cgroups, storm

_WHAT = "OOM kills in cgroups that are gone at once"


def measure(folder: Path, sheet: Sheet, kills: int, count: int) -> None:
    """Make a storm beside an agent that samples ``count`` cgroups, which are there already."""
    with cgroups(0) as made, tempfile.TemporaryDirectory(dir=folder) as state:
        add(sheet, storm(kills, made, Path(state)), count)


def add(sheet: Sheet, told: Told, count: int) -> None:
    """Write down what a storm was, and what the agent made of it."""
    sheet.add(f"{_WHAT}: killed", count, told.killed)
    sheet.add(f"{_WHAT}: killed each second", count, told.killed / told.seconds)
    lost = abs(told.node - told.counted) + abs(told.counted - told.attributed - told.unattributed)
    sheet.add(f"{_WHAT}: lost or counted twice", count, lost, at_most=0)
    sheet.add(f"{_WHAT}: attributed", count, told.share * 100, "%", at_least=99)
    sheet.add(f"{_WHAT}: attributed to a wrong one", count, told.wrong, at_most=0)
    for ratio, name in ((0.5, "p50"), (0.99, "p99")):
        seconds = percentile(told.latencies_seconds, ratio)
        sheet.add(f"{_WHAT}: from the kill until it is found, {name}", count, seconds * 1000, "ms")
