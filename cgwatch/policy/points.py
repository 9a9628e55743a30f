"""Samples to values of metrics: what conditions look at, from two moments of one container. Pure.

No rate is made across two inodes, nor of a counter that went down. What cannot be told is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from msgspec import Struct

from cgwatch.cgroup.cpu import throttled_ratio
from cgwatch.cgroup.io import IoDevice
from cgwatch.cgroup.memory import MemoryStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.model import Sample, Snapshot
from cgwatch.policy.terms import METRICS


class Pair(Struct, frozen=True):
    """One container at two moments."""

    before: Sample | None
    """``None``: there was none, or of another inode."""
    after: Sample
    seconds: float
    """Between the two."""


Reader: TypeAlias = Callable[[Pair], float | None]


def values_of(
    before: Sample | None, after: Sample, seconds: float, names: Iterable[str]
) -> Mapping[str, float]:
    """Return the values of some metrics, of those that are of one moment or between two.

    ``seconds``: between the samples, by the monotonic clock.
    """
    same = before is not None and before.container.cgroup == after.container.cgroup and seconds > 0
    pair = Pair(before if same else None, after, seconds)
    found = {}
    for name in names:
        reader = READERS.get(name)
        value = reader(pair) if reader else None
        if value is not None:
            found[name] = value
    return found


def host_values_of(snapshot: Snapshot) -> Mapping[str, float]:
    """Return the values of the metrics whose names begin with ``host.``."""
    found: dict[str, float] = {}
    memory = snapshot.memory
    if memory and memory.available_bytes is not None:
        found["host.memory.available"] = memory.available_bytes
        found["host.memory.available.ratio"] = memory.available_bytes / memory.total_bytes
    for name in METRICS:
        if name.startswith("host.") and ".pressure." in name:
            value = _pressure(snapshot.pressure, name.removeprefix("host."))
            if value is not None:
                found[name] = value
    return found


def _pressure(stats: PressureStats | None, name: str) -> float | None:
    resource, _, kind, average = name.split(".")
    line = getattr(getattr(stats, resource, None), kind, None)
    found: float | None = getattr(line, f"{average}_ratio", None)
    return found


def _memory(read: Callable[[MemoryStats], float | None]) -> Reader:
    return lambda pair: read(pair.after.memory) if pair.after.memory else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    """Return a share; of no limit, and of a limit of 0, there is none."""
    return None if part is None or not whole or whole == math.inf else part / whole


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or after < before else after - before


def _cpu_usage(pair: Pair) -> float | None:
    if pair.before is None or pair.before.cpu is None or pair.after.cpu is None:
        return None
    grown = _grown(pair.before.cpu.usage_seconds, pair.after.cpu.usage_seconds)
    return None if grown is None else grown / pair.seconds


def _cpu_ratio(pair: Pair) -> float | None:
    cpu = pair.after.cpu
    if cpu is None or cpu.quota_microseconds is None or not cpu.period_microseconds:
        return None
    return _ratio(_cpu_usage(pair), cpu.quota_microseconds / cpu.period_microseconds)


def _throttled(pair: Pair) -> float | None:
    before = pair.before.cpu if pair.before else None
    return throttled_ratio(before, pair.after.cpu) if before and pair.after.cpu else None


def _io(field: str) -> Reader:
    def read(pair: Pair) -> float | None:
        if pair.before is None or pair.before.io is None or pair.after.io is None:
            return None
        if pair.before.io.devices is None or pair.after.io.devices is None:
            return None
        earlier = {(each.major, each.minor): each for each in pair.before.io.devices}
        total = 0.0
        for device in pair.after.io.devices:
            was: IoDevice | None = earlier.get((device.major, device.minor))
            grown = _grown(getattr(was, field) if was else 0, getattr(device, field))
            if grown is None:
                return None
            total += grown
        return total / pair.seconds

    return read


def _pressure_reader(name: str) -> Reader:
    return lambda pair: _pressure(pair.after.pressure, name)


def _pids(pair: Pair) -> float | None:
    return pair.after.pids.current if pair.after.pids else None


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "memory.usage": _memory(lambda memory: memory.usage_bytes),
        "memory.working_set": _memory(lambda memory: memory.working_set_bytes),
        "memory.anon": _memory(lambda memory: memory.stat.anon_bytes),
        "memory.usage.ratio": _memory(lambda memory: _ratio(memory.usage_bytes, memory.limit_bytes)),
        "memory.working_set.ratio": _memory(
            lambda memory: _ratio(memory.working_set_bytes, memory.limit_bytes)
        ),
        "memory.high.ratio": _memory(lambda memory: _ratio(memory.usage_bytes, memory.high_bytes)),
        "memory.swap.usage": _memory(lambda memory: memory.swap_usage_bytes),
        "memory.swap.ratio": _memory(lambda memory: _ratio(memory.swap_usage_bytes, memory.swap_limit_bytes)),
        "cpu.usage": _cpu_usage,
        "cpu.usage.ratio": _cpu_ratio,
        "cpu.throttled.ratio": _throttled,
        "io.read": _io("read_bytes_total"),
        "io.write": _io("written_bytes_total"),
        "io.reads": _io("reads_total"),
        "io.writes": _io("writes_total"),
        "pids.current": _pids,
        "pids.ratio": lambda pair: _ratio(_pids(pair), pair.after.pids.limit if pair.after.pids else None),
        **{
            name: _pressure_reader(name)
            for name in METRICS
            if ".pressure." in name and not name.startswith("host.")
        },
    }
)
"""How each metric of a container is made; what is over a window is made of the history (``evaluate``)."""
