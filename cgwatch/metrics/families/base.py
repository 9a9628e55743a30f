"""What a row of the catalogue says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from msgspec import Struct

from cgwatch.model import Snapshot

Number = int | float
Row = tuple[str, Number | None]
"""Encoded labels beyond the container's own (may be empty), and the value."""


class Type(StrEnum):
    """Metric types of the exposition formats."""

    COUNTER = "counter"
    GAUGE = "gauge"


class Part(StrEnum):
    """What a family's function is given: a part of each sample that has it, or the snapshot once."""

    SAMPLE = "sample"
    MEMORY = "memory"
    CPU = "cpu"
    IO = "io"
    PIDS = "pids"
    PRESSURE = "pressure"
    CORE = "core"
    CPUSET = "cpuset"
    HUGETLB = "hugetlb"
    NUMA = "numa"
    NETWORK = "network"
    TASKS = "detail.tasks"
    SCHED = "detail.sched"
    OPEN_FILES = "detail.open_files"
    LIMITS = "detail.limits"
    TCP = "detail.tcp"
    UDP = "detail.udp"
    TCP_COUNTERS = "detail.tcp_counters"
    DESCRIPTION = "container.description"
    """What a runtime said; of containers that do not run (``Snapshot.stopped``), too."""
    SNAPSHOT = "snapshot"


class Family(Struct, frozen=True):
    """One row of the catalogue."""

    name: str
    type: Type
    help: str
    group: str
    """What switches it on and off in the configuration; empty: it is always there."""
    part: Part
    source: str
    """Where the value comes from: cgroup v2 file and key, then v1 where it differs."""
    value: Callable[[Any], Number | None] | None = None
    """One series for each container: the value, from the part."""
    rows: Callable[[Any, Snapshot], Iterable[Row]] | None = None
    """Several series for each container, or series that need more than the part.

    Its text is kept for as long as the part is the same object (of ``Part.SAMPLE``: every field of it), and
    the snapshot's devices, machine and formulas are equal. What needs anything else of the snapshot is
    ``volatile``; the root's is never kept."""
    labels: tuple[str, ...] = ()
    """Labels beyond the container's own."""
    reads: tuple[str, ...] = ()
    """What has to be read for it besides its part, by the names of ``sampling.plan``."""
    volatile: bool = False
    """Its text is written anew on every page."""
    absent: str = ""
    """When there is no series, though the cgroup has the part (its controller is enabled)."""


def bounded(value: Number | None) -> Number | None:
    """cAdvisor shows "no limit" as 0: dashboards filter on ``> 0``."""
    return 0 if value == math.inf else value
