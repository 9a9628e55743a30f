"""What each cgroup uses, in the numbers that users of ``docker stats`` know. Pure.

The formulas are those of docker/cli, ``cli/command/container/stats_helpers.go``: memory is
``MemoryStats.docker_usage_bytes``, block I/O ``calculateBlockIO``, network ``calculateNetwork``. CPU time is
divided by the time between two snapshots; docker's ``calculateCPUPercentUnix`` divides it by the time of all
CPUs and multiplies by their number, which is the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from cgwatch.cgroup.cpu import throttled_ratio
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.model import Kind, Runtime

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from cgwatch.cgroup.cpu import CpuStats
    from cgwatch.model import Container, Sample, Snapshot

    Counters: TypeAlias = Mapping[Hashable, int | None]

_SHORT_ID = 12
"""Digits of an id that Docker shows."""


class Usage(Struct, frozen=True):
    r"""What one cgroup and all below it use; ``None``: the kernel does not say, or nothing can be compared.

    All text is valid UTF-8; what a cgroup's path has that is not shows as ``\udcff``.
    """

    name: str
    """The runtime's; else the first digits of the id, else the systemd unit, else the path."""
    container_id: str | None
    cgroup: str
    """The path."""
    kind: Kind
    runtime: Runtime
    image: str | None
    cpu_ratio: float | None
    """Of one CPU: 1.5 are one and a half CPUs."""
    memory_used_bytes: int | None
    """Usage without the inactive page cache."""
    memory_limit_bytes: int | None
    """Its own; ``None``: no limit, too."""
    memory_ceiling_bytes: int | None
    """The limit, or the machine's memory if that is less."""
    memory_ratio: float | None
    """Of the ceiling."""
    network_receive_bytes_total: int | None
    network_transmit_bytes_total: int | None
    network_receive_bytes_per_second: float | None
    network_transmit_bytes_per_second: float | None
    block_read_bytes_total: int | None
    block_written_bytes_total: int | None
    block_read_bytes_per_second: float | None
    block_written_bytes_per_second: float | None
    pids: int | None
    """Tasks, so threads count."""
    throttled_ratio: float | None
    """Of the CPU quota's periods, those in which it was used up; ``None`` without a quota."""


class Listing(Struct, frozen=True):
    """A whole node."""

    interval_seconds: float | None
    """Between the two snapshots that rates and ratios come from; ``None``: there was only one."""
    rows: tuple[Usage, ...]
    """Ordered by path."""


def listing(before: Snapshot | None, after: Snapshot) -> Listing:
    """Return the rows, and what time they cover."""
    return Listing(_interval_seconds(before, after), rows(before, after))


def rows(before: Snapshot | None, after: Snapshot) -> tuple[Usage, ...]:
    """Return what each cgroup of ``after`` uses.

    Rates are only ever computed for one identity (path and inode), and for counters that did not go down.
    """
    seconds = _interval_seconds(before, after)
    earlier = {sample.container.cgroup: sample for sample in before.samples} if before and seconds else {}
    return tuple(
        _usage(earlier.get(sample.container.cgroup), sample, seconds, after) for sample in after.samples
    )


def _interval_seconds(before: Snapshot | None, after: Snapshot) -> float | None:
    seconds = after.monotonic_seconds - before.monotonic_seconds if before else 0.0
    return seconds if seconds > 0 else None


def _usage(before: Sample | None, after: Sample, seconds: float | None, snapshot: Snapshot) -> Usage:
    container, memory = after.container, after.memory
    description = container.description
    used = memory.docker_usage_bytes if memory else None
    limit = memory.limit_bytes if memory else None
    machine = snapshot.memory.total_bytes if snapshot.memory else None
    ceiling = _finite(min((bound for bound in (limit, machine) if bound is not None), default=None))
    received, transmitted, read, written = (
        (_total(now), _per_second(then, now, seconds))
        for then, now in zip(
            _flows(before, snapshot.layout) if before else (None,) * 4,
            _flows(after, snapshot.layout),
            strict=True,
        )
    )
    return Usage(
        name=_valid(_name(container)),
        container_id=_valid(container.owner.container_id or "") or None,
        cgroup=_valid(container.cgroup.path),
        kind=container.owner.kind,
        runtime=description.runtime if description else container.owner.runtime,
        image=_valid(description.image if description else "") or None,
        cpu_ratio=_cpu(before.cpu, after.cpu, seconds) if before else None,
        memory_used_bytes=used,
        memory_limit_bytes=_finite(limit),
        memory_ceiling_bytes=ceiling,
        memory_ratio=used / ceiling if used is not None and ceiling else None,
        network_receive_bytes_total=received[0],
        network_transmit_bytes_total=transmitted[0],
        network_receive_bytes_per_second=received[1],
        network_transmit_bytes_per_second=transmitted[1],
        block_read_bytes_total=read[0],
        block_written_bytes_total=written[0],
        block_read_bytes_per_second=read[1],
        block_written_bytes_per_second=written[1],
        pids=after.pids.current if after.pids else None,
        throttled_ratio=_throttled(before.cpu, after.cpu) if before else None,
    )


def _name(container: Container) -> str:
    owner = container.owner
    if container.description and container.description.name:
        return container.description.name
    if owner.kind is Kind.CONTAINER and owner.container_id:
        is_hexadecimal = owner.runtime is not Runtime.LXC  # whose ids are names
        return owner.container_id[:_SHORT_ID] if is_hexadecimal else owner.container_id
    return owner.unit or container.cgroup.path


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _finite(value: float | None) -> int | None:
    return None if value is None or value == math.inf else int(value)


def _cpu(before: CpuStats | None, after: CpuStats | None, seconds: float | None) -> float | None:
    if before is None or after is None or seconds is None:
        return None
    grown = _grown(before.usage_seconds, after.usage_seconds)
    return None if grown is None else grown / seconds


def _throttled(before: CpuStats | None, after: CpuStats | None) -> float | None:
    return throttled_ratio(before, after) if before and after else None


def _grown(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or after < before:
        return None
    return after - before


def _flows(sample: Sample, layout: Layout) -> tuple[Counters | None, ...]:
    """Return what was received, transmitted, read and written, by interface or by device."""
    interfaces, devices = sample.network, sample.io.devices if sample.io else None
    if not devices and layout is not Layout.V2:
        devices = None  # v1: no device can also mean that nobody counts (see the sources in cgroup/io.py)
    return (
        None if interfaces is None else {each.name: each.receive_bytes_total for each in interfaces},
        None if interfaces is None else {each.name: each.transmit_bytes_total for each in interfaces},
        None if devices is None else {(each.major, each.minor): each.read_bytes_total for each in devices},
        None if devices is None else {(each.major, each.minor): each.written_bytes_total for each in devices},
    )


def _total(counters: Counters | None) -> int | None:
    known = [value for value in (counters or {}).values() if value is not None]
    return sum(known) if known or counters == {} else None


def _per_second(before: Counters | None, after: Counters | None, seconds: float | None) -> float | None:
    """Return the growth of all counters together; an interface or a device that is new began at 0."""
    if before is None or after is None or seconds is None:
        return None
    grown = 0.0
    for key, now in after.items():
        growth = _grown(before.get(key, 0), now)
        if growth is None:
            return None
        grown += growth
    return grown / seconds
