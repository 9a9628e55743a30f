"""Time that tasks waited for a resource."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from cgwatch.cgroup.formats import Pressure
from cgwatch.metrics.families.base import Family, Number, Part, Type

ABSENT = "without pressure stall information (v1 alone, psi=0); CPU stalled before kernel 5.13"


def _pressure(resource: str, line: str, suffix: str, help_text: str, absent: str = ABSENT) -> Family:
    get_pressure, get_line = attrgetter(resource), attrgetter(line)

    def value(stats: Any) -> Number | None:  # noqa: ANN401 - the part of a sample
        pressure: Pressure | None = get_pressure(stats)
        found = get_line(pressure) if pressure else None
        return found.total_seconds if found else None

    return Family(
        f"container_pressure_{resource}_{suffix}_seconds_total",
        Type.COUNTER,
        help_text,
        "pressure",
        Part.PRESSURE,
        f"{resource}.pressure {line} total",
        value=value,
        absent=absent,
    )


WORDS = {"cpu": "CPU time", "memory": "memory", "io": "block I/O"}
FAMILIES = (
    *(
        family
        for resource, words in WORDS.items()
        for family in (
            _pressure(
                resource,
                "some",
                "waiting",
                f"Time in which at least one task waited for {words}, in seconds.",
            ),
            _pressure(
                resource,
                "full",
                "stalled",
                f"Time in which all tasks waited for {words} at once, in seconds.",
            ),
        )
    ),
    _pressure(
        "irq",
        "full",
        "stalled",
        "Time in which all tasks waited for interrupts to be handled, in seconds.",
        "without pressure stall information (v1 alone, psi=0); before kernel 6.1; without accounting of"
        " interrupts (CONFIG_IRQ_TIME_ACCOUNTING)",
    ),
)
