"""Pressure of the whole node: time in which its tasks waited for a resource, whoever they belong to."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from cgwatch.metrics.families.base import Family, Part, Type
from cgwatch.metrics.families.machine import LABELS, of_the_machine
from cgwatch.metrics.text import label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cgwatch.cgroup.formats import PressureLine
    from cgwatch.metrics.families.base import Row
    from cgwatch.model import Snapshot

_ABSENT = "without pressure stall information (CONFIG_PSI, not psi=0)"
_READS = ("machine_pressure",)
_WINDOWS = (("10s", "avg10_ratio"), ("60s", "avg60_ratio"), ("300s", "avg300_ratio"))


def _line(resource: str, line: str) -> Callable[[Snapshot], PressureLine | None]:
    def get(snapshot: Snapshot) -> PressureLine | None:
        pressure = getattr(snapshot.pressure, resource, None)
        found: PressureLine | None = getattr(pressure, line, None)
        return found

    return get


def _total(resource: str, line: str, suffix: str, help_text: str, absent: str) -> Family:
    get = _line(resource, line)

    def rows(snapshot: Snapshot) -> Iterable[Row]:
        found = get(snapshot)
        return [("", found.total_seconds)] if found else []

    return Family(
        f"machine_pressure_{resource}_{suffix}_seconds_total",
        Type.COUNTER,
        f"{help_text}, in seconds.",
        "pressure",
        Part.SNAPSHOT,
        f"/proc/pressure/{resource} {line} total",
        rows=of_the_machine(rows),
        labels=LABELS,
        reads=_READS,
        absent=absent,
    )


def _average(resource: str, line: str, suffix: str, help_text: str, absent: str) -> Family:
    get = _line(resource, line)
    windows = [(label("window", window), attrgetter(field)) for window, field in _WINDOWS]

    def rows(snapshot: Snapshot) -> Iterable[Row]:
        found = get(snapshot)
        return [(window, average(found)) for window, average in windows] if found else []

    return Family(
        f"machine_pressure_{resource}_{suffix}_ratio",
        Type.GAUGE,
        f"{help_text}, as a part of the last 10, 60 and 300 seconds.",
        "pressure_average",
        Part.SNAPSHOT,
        f"/proc/pressure/{resource} {line} avg10, avg60, avg300",
        rows=of_the_machine(rows),
        labels=(*LABELS, "window"),
        reads=_READS,
        absent=absent,
    )


_WAITING = "Time in which at least one task of the node waited for {}"
_STALLED = "Time in which all tasks of the node waited for {} at once"
# There is no CPU stalled: a node whose tasks all wait while none has a CPU cannot be, and the kernel prints
# zeros (Documentation/accounting/psi.rst). Interrupts stall whoever has the CPU, so they know "full" alone.
_ROWS = (
    ("cpu", "some", "waiting", _WAITING.format("CPU time"), _ABSENT),
    ("memory", "some", "waiting", _WAITING.format("memory"), _ABSENT),
    ("memory", "full", "stalled", _STALLED.format("memory"), _ABSENT),
    ("io", "some", "waiting", _WAITING.format("block I/O"), _ABSENT),
    ("io", "full", "stalled", _STALLED.format("block I/O"), _ABSENT),
    (
        "irq",
        "full",
        "stalled",
        "Time in which tasks of the node were held up by interrupts",
        f"{_ABSENT}; before kernel 6.1; without CONFIG_IRQ_TIME_ACCOUNTING",
    ),
)
FAMILIES = tuple(make(*row) for make in (_total, _average) for row in _ROWS)
