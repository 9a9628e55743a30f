"""What a condition can look at: the table of metrics, and how their values are written. Pure.

A number stands with what it counts: ``90%`` of a ratio, ``512MiB``, ``10MiB/s``, ``5m``. Only counts and CPUs
are bare numbers, so that no number means another thing than it seems to.
"""

from __future__ import annotations

import difflib
import re
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from cgwatch.errors import UnitError
from cgwatch.units import format_duration, format_size, parse_duration, parse_size, shortened


class Measure(StrEnum):
    """What a metric counts."""

    BYTES = "bytes"
    RATIO = "ratio"
    """0..1 inside; written as percent."""
    CPUS = "CPUs"
    COUNT = "count"
    BYTES_PER_SECOND = "bytes per second"
    PER_SECOND = "per second"
    SECONDS = "seconds"


class Metric(Struct, frozen=True):
    """One row: what a condition can be about."""

    name: str
    measure: Measure
    description: str
    window: bool = False
    """Over a window of time that the condition gives (``window: 10m``)."""


_AVERAGES = ("avg10", "avg60", "avg300")


def _pressure(prefix: str, resource: str, whose: str) -> tuple[Metric, ...]:
    return tuple(
        Metric(
            f"{prefix}{resource}.pressure.{kind}.{average}",
            Measure.RATIO,
            f"Share of the last {average[3:]} seconds in which {who} of {whose} waited for {resource}.",
        )
        for kind, who in (("some", "some task"), ("full", "every task"))
        for average in _AVERAGES
    )


METRICS: Final = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("memory.usage", Measure.BYTES, "All memory that is charged, page cache included."),
            Metric("memory.working_set", Measure.BYTES, "Usage without the inactive page cache."),
            Metric("memory.anon", Measure.BYTES, "Memory of the processes themselves."),
            Metric("memory.usage.ratio", Measure.RATIO, "Usage, of memory.max."),
            Metric("memory.working_set.ratio", Measure.RATIO, "The working set, of memory.max."),
            Metric("memory.high.ratio", Measure.RATIO, "Usage, of memory.high."),
            Metric("memory.swap.usage", Measure.BYTES, "What is swapped out."),
            Metric("memory.swap.ratio", Measure.RATIO, "What is swapped out, of memory.swap.max."),
            Metric(
                "memory.oom_kills",
                Measure.COUNT,
                "OOM kills in the window, without those that a limit written by cgwatch made.",
                window=True,
            ),
            Metric(
                "memory.growth",
                Measure.BYTES_PER_SECOND,
                "Growth of the working set over the window.",
                window=True,
            ),
            Metric(
                "memory.time_to_limit",
                Measure.SECONDS,
                "Until the working set meets memory.max, growing on as it did over the window.",
                window=True,
            ),
            Metric("cpu.usage", Measure.CPUS, "CPU time for each second."),
            Metric("cpu.usage.ratio", Measure.RATIO, "CPU time, of cpu.max."),
            Metric(
                "cpu.throttled.ratio", Measure.RATIO, "Periods of cpu.max in which the quota was used up."
            ),
            Metric("io.read", Measure.BYTES_PER_SECOND, "Read from block devices."),
            Metric("io.write", Measure.BYTES_PER_SECOND, "Written to block devices."),
            Metric("io.reads", Measure.PER_SECOND, "Reads from block devices."),
            Metric("io.writes", Measure.PER_SECOND, "Writes to block devices."),
            Metric("pids.current", Measure.COUNT, "Processes and threads."),
            Metric("pids.ratio", Measure.RATIO, "Processes and threads, of pids.max."),
            *_pressure("", "memory", "the container"),
            *_pressure("", "cpu", "the container"),
            *_pressure("", "io", "the container"),
            Metric(
                "host.memory.available", Measure.BYTES, "What the node could still give without swapping."
            ),
            Metric("host.memory.available.ratio", Measure.RATIO, "The same, of the node's memory."),
            *_pressure("host.", "memory", "the node"),
            *_pressure("host.", "cpu", "the node"),
            *_pressure("host.", "io", "the node"),
        )
    }
)
"""Every metric by its name, in the order in which people see them."""

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_PER_SECOND = "/s"


def near_metrics(name: str) -> tuple[str, ...]:
    """Return at most three metrics that somebody may have meant."""
    return tuple(difflib.get_close_matches(name, METRICS, 3, cutoff=0.5))


def parse_threshold(measure: Measure, text: str) -> float:
    """Return a threshold in the unit of the metric. Raises ``UnitError``, which says how to write it."""
    match measure:
        case Measure.BYTES:
            return parse_bytes(text)
        case Measure.RATIO:
            return parse_percent(text)
        case Measure.SECONDS:
            return parse_duration(text)
        case Measure.BYTES_PER_SECOND:
            return parse_bytes(_without_rate(text, "10MiB/s"))
        case Measure.PER_SECOND:
            return _number(_without_rate(text, "100/s"))
        case Measure.CPUS | Measure.COUNT:
            return _number(text)


def parse_percent(text: str) -> float:
    """Return 0.2 for ``20%``. Raises ``UnitError``, also for a bare number, which may mean either."""
    number = text.removesuffix("%").rstrip()
    if not text.endswith("%") or not _NUMBER.fullmatch(number):
        raise UnitError(f"{shortened(text)} is not a percentage; write it like {_as_percent(text)}")
    return float(number) / 100


def _as_percent(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        return "90%"
    number = float(text)
    return f"{number * 100:g}%" if 0 < number <= 1 else f"{number:g}%"


def parse_bytes(text: str) -> int:
    """Return the bytes of ``512MiB``. Raises ``UnitError``, also for a bare number other than 0."""
    if _NUMBER.fullmatch(text) and float(text):
        raise UnitError(f"{shortened(text)} has no unit; write {text}MiB for mebibytes, or {text}B for bytes")
    return parse_size(text)


def _without_rate(text: str, example: str) -> str:
    if not text.endswith(_PER_SECOND):
        raise UnitError(f"{shortened(text)} is not a rate; write it like {example}")
    return text.removesuffix(_PER_SECOND).rstrip()


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise UnitError(f"{shortened(text)} is not a number; write it like 20")
    return float(text)


def format_measure(measure: Measure, value: float) -> str:
    """Return a value as people read it: ``92.5%``, ``512MiB``, ``1.5`` (CPUs), ``5m``."""
    match measure:
        case Measure.BYTES:
            return format_size(value)
        case Measure.RATIO:
            return f"{value * 100:.4g}%"
        case Measure.SECONDS:
            return format_duration(round(value))
        case Measure.BYTES_PER_SECOND:
            return f"{format_size(value)}/s"
        case Measure.PER_SECOND:
            return f"{value:.4g}/s"
        case Measure.CPUS | Measure.COUNT:
            return f"{value:.4g}"
