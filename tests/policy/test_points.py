from __future__ import annotations

import math

import pytest

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.io import IoDevice, IoStats
from cgwatch.cgroup.memory import MemoryStat, MemoryStats
from cgwatch.cgroup.pids import PidsStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Sample, Snapshot
from cgwatch.policy.points import READERS, host_values_of, values_of
from cgwatch.policy.terms import METRICS
from cgwatch.proc.meminfo import Meminfo

MEBIBYTE = 1 << 20
LINE = PressureLine(0.25, 0.1, 0.05, 3.0)


def sample(
    *,
    inode: int = 7,
    cpu_seconds: float = 10.0,
    written: int = 0,
    limit: float = 100 * MEBIBYTE,
    throttled: int = 0,
) -> Sample:
    return Sample(
        Container(Cgroup("/docker/x", inode), recognise("/docker/x")),
        memory=MemoryStats(
            usage_bytes=50 * MEBIBYTE,
            limit_bytes=limit,
            stat=MemoryStat(inactive_file_bytes=10 * MEBIBYTE, anon_bytes=30 * MEBIBYTE),
        ),
        cpu=CpuStats(
            usage_seconds=cpu_seconds,
            periods_total=100 + throttled * 2,
            throttled_periods_total=throttled,
            quota_microseconds=50_000,
            period_microseconds=100_000,
        ),
        io=IoStats(devices=(IoDevice(8, 0, written_bytes_total=written),)),
        pids=PidsStats(5, 10),
        pressure=PressureStats(memory=Pressure(LINE, None)),
    )


def test_values_are_of_one_moment_or_between_two() -> None:
    values = values_of(sample(), sample(cpu_seconds=12.0, written=10 * MEBIBYTE, throttled=10), 5.0, READERS)

    assert values["memory.working_set"] == 40 * MEBIBYTE
    assert values["memory.usage.ratio"] == 0.5
    assert values["memory.anon"] == 30 * MEBIBYTE
    assert values["cpu.usage"] == pytest.approx(0.4)
    assert values["cpu.usage.ratio"] == pytest.approx(0.8)
    assert values["cpu.throttled.ratio"] == 0.5
    assert values["io.write"] == 2 * MEBIBYTE
    assert values["pids.ratio"] == 0.5
    assert values["memory.pressure.some.avg60"] == 0.1


def test_what_cannot_be_told_is_left_out() -> None:
    before, after = sample(), sample(limit=math.inf)
    values = values_of(before, after, 5.0, READERS)

    assert (
        not {"memory.usage.ratio", "memory.pressure.full.avg10", "io.read", "memory.swap.usage"}
        & values.keys()
    )
    for other, seconds in ((None, 5.0), (sample(inode=8), 5.0), (before, 0.0), (sample(cpu_seconds=99), 5.0)):
        assert "cpu.usage" not in values_of(other, after, seconds, READERS)
    assert values_of(None, Sample(after.container), 5.0, READERS) == {}


def test_only_what_is_asked_for_is_made() -> None:
    assert values_of(None, sample(), 0.0, ("pids.current", "no.such")) == {"pids.current": 5}


def test_every_metric_comes_from_somewhere() -> None:
    host = {name for name in METRICS if name.startswith("host.")}
    over_a_window = {name for name, metric in METRICS.items() if metric.window}

    assert READERS.keys() | host | over_a_window == METRICS.keys()
    assert not READERS.keys() & (host | over_a_window)


def test_the_node_has_values_of_its_own() -> None:
    every = Pressure(LINE, LINE)
    snapshot = Snapshot(
        *(0, 0.0, 0.0, 0.0, (), Layout.V2),
        memory=Meminfo(100, available_bytes=25),
        pressure=PressureStats(every, every, every),
    )
    values = host_values_of(snapshot)

    assert values.keys() == {name for name in METRICS if name.startswith("host.")}
    assert values["host.memory.available.ratio"] == 0.25
    assert host_values_of(Snapshot(0, 0.0, 0.0, 0.0, (), Layout.V2)) == {}
