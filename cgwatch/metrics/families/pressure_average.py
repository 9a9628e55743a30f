"""Averages of the time that tasks waited for a resource, as the kernel makes them."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.metrics.families.pressure import ABSENT, WORDS
from cgwatch.model import Snapshot


def _average(resource: str, line: str, suffix: str, help_text: str) -> Family:
    get_pressure, get_line = attrgetter(resource), attrgetter(line)

    def rows(stats: PressureStats, _snapshot: Snapshot) -> Iterable[Row]:
        pressure: Pressure | None = get_pressure(stats)
        found: PressureLine | None = get_line(pressure) if pressure else None
        if found is None:
            return ()
        return (
            ('window="10s"', found.avg10_ratio),
            ('window="60s"', found.avg60_ratio),
            ('window="300s"', found.avg300_ratio),
        )

    return Family(
        f"container_pressure_{resource}_{suffix}_ratio",
        Type.GAUGE,
        help_text,
        "pressure_average",
        Part.PRESSURE,
        f"{resource}.pressure {line} avg10, avg60, avg300",
        rows=rows,
        labels=("window",),
        absent=ABSENT,
    )


FAMILIES = tuple(
    family
    for resource, words in WORDS.items()
    for family in (
        _average(
            resource, "some", "waiting", f"Share of the time in which at least one task waited for {words}."
        ),
        _average(
            resource, "full", "stalled", f"Share of the time in which all tasks waited for {words} at once."
        ),
    )
)
