"""What Docker believes that the limits of a container are: the stored ``HostConfig``, in our words. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from cgwatch.cgroup.knob import V2, Value
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS
from cgwatch.cgroup.shares import DEFAULT_SHARES
from cgwatch.change import Key

_NANO = 1_000_000_000
_NO_LIMIT_BYTES = 2**62
"""Nobody has that much: it stands for no limit, which Docker's API cannot say."""


def stored_limits(config: Mapping[str, Any], versions: Mapping[str, int]) -> dict[Key, Value]:
    """Return the limits that are stored, by key; what Docker leaves to the kernel is not there.

    Weights are there only where the kernel's number is that which Docker was asked for. ``versions``: as
    ``change.Tree.versions``.
    """
    return dict(_stored(config, versions))


def _stored(config: Mapping[str, Any], versions: Mapping[str, int]) -> Iterator[tuple[Key, Value]]:
    memory = _bytes(config.get("Memory"))
    yield "memory.max", memory
    total = _bytes(config.get("MemorySwap"))
    if math.inf in {memory, total}:
        yield "memory.swap.max", math.inf
    else:
        yield "memory.swap.max", max(0, int(total) - int(memory))
    reserved = _bytes(config.get("MemoryReservation"))
    if versions.get("memory", V2) == V2:
        yield "memory.low", 0 if reserved == math.inf else reserved
    else:
        yield "memory.soft_limit_in_bytes", reserved
    yield from _cpu(config)
    if versions.get("cpu", V2) != V2:
        yield "cpu.shares", config.get("CpuShares") or DEFAULT_SHARES
    for key, field in (("cpuset.cpus", "CpusetCpus"), ("cpuset.mems", "CpusetMems")):
        if config.get(field):
            yield key, config[field]
    tasks = config.get("PidsLimit") or 0
    yield "pids.max", tasks if tasks > 0 else math.inf
    if versions.get("io", V2) != V2 and config.get("BlkioWeight"):
        yield "blkio.weight", config["BlkioWeight"]
        yield "blkio.bfq.weight", config["BlkioWeight"]


def _cpu(config: Mapping[str, Any]) -> Iterator[tuple[Key, Value]]:
    nano = config.get("NanoCpus") or 0
    period = (0 if nano else config.get("CpuPeriod")) or DEFAULT_PERIOD_MICROSECONDS
    quota = nano * period // _NANO if nano else config.get("CpuQuota") or 0
    yield "cpu.max", quota if quota > 0 else math.inf
    yield "cpu.max.period", period


def _bytes(value: int | None) -> int | float:
    return value if value and 0 < value < _NO_LIMIT_BYTES else math.inf
