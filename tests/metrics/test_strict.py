from __future__ import annotations

import functools
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import structs

from cgwatch.assembly import sampling_plan, shown_families
from cgwatch.cgroup.core import CoreStats
from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.cpuset import CpusetStats
from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.hugetlb import HugePages, HugetlbStats
from cgwatch.cgroup.io import IoDevice, IoStats
from cgwatch.cgroup.memory import MemoryEvents, MemoryStat, MemoryStats
from cgwatch.cgroup.numa import NumaPages, NumaStats
from cgwatch.cgroup.pids import PidsStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.discovery.recognise import recognise
from cgwatch.groups import Groups
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.metrics.strict import REPLACED, as_cadvisor
from cgwatch.model import Cgroup, Container, Detail, Sample, Snapshot, UdpTables
from cgwatch.proc.diskstats import Disk, DiskKind
from cgwatch.proc.sockets import UdpSockets
from cgwatch.settings import Metrics, Settings
from tests.golden.pages import ALL_TREES, take
from tests.golden.reading import series_of

if TYPE_CHECKING:
    from tests.golden.reading import Series

STRICT = as_cadvisor(FAMILIES)
V1, V2, HYBRID = Layout.V1, Layout.V2, Layout.HYBRID
QUOTA: dict[str, Any] = {"quota_microseconds": 50_000, "period_microseconds": 100_000}


@functools.cache
def captured(tree: str) -> Snapshot:
    return take(tree)


@functools.cache
def page(tree: str, *, strict: bool) -> dict[Series, float]:
    renderer = Renderer(STRICT if strict else FAMILIES)
    return series_of(renderer.render(captured(tree), Format.TEXT), Format.TEXT)


def shown(name: str, sample: Sample, layout: Layout, **more: Any) -> dict[tuple[str, ...], float]:
    """Give the series of one family of one cgroup, by the values of its own labels, with strict values."""
    (family,) = (family for family in STRICT if family.name == name)
    snapshot = Snapshot(0, 1000.5, 0.0, 0.0, (sample,), layout, **more)
    found = series_of(Renderer((family,)).render(snapshot, Format.TEXT), Format.TEXT)
    return {
        tuple(dict(labels)[label] for label in family.labels): value for (_, labels), value in found.items()
    }


def one(name: str, layout: Layout, path: str = "/docker/a", **parts: Any) -> float | None:
    """Give the value of the one series of a family, ``None`` without one."""
    container = Container(Cgroup(path, 1), recognise(path), created_seconds=12.75)
    return shown(name, Sample(container, **parts), layout).get(())


def pressure(seconds: float) -> PressureStats:
    line = PressureLine(0.0, 0.0, 0.0, seconds)
    return PressureStats(cpu=Pressure(line, line))


@pytest.mark.parametrize(
    ("name", "layout", "parts", "value"),
    [
        ("memory_failcnt", V2, {"memory": MemoryStats(limit_hits_total=7)}, 0),
        ("memory_failcnt", V1, {"memory": MemoryStats(limit_hits_total=7)}, 7),
        ("memory_failcnt", V1, {}, 0),
        ("memory_kernel_usage", V2, {"memory": MemoryStats(kernel_usage_bytes=7)}, 0),
        ("memory_kernel_usage", HYBRID, {"memory": MemoryStats(kernel_usage_bytes=7)}, 7),
        ("memory_max_usage_bytes", V2, {"memory": MemoryStats(peak_bytes=7, peak_is_sampled=True)}, 0),
        ("memory_max_usage_bytes", V2, {"memory": MemoryStats(peak_bytes=7)}, 7),
        ("memory_max_usage_bytes", V2, {"memory": MemoryStats()}, 0),
        ("memory_events_max_total", V1, {"memory": MemoryStats(limit_hits_total=7)}, 0),
        ("memory_events_max_total", V2, {"memory": MemoryStats(limit_hits_total=7)}, 7),
        ("memory_events_high_total", V1, {"memory": MemoryStats()}, 0),
        ("memory_events_high_total", V2, {"memory": MemoryStats(events=MemoryEvents(high=7))}, 7),
        ("memory_file_dirty_bytes", V1, {"memory": MemoryStats(stat=MemoryStat(file_dirty_bytes=7))}, 0),
        ("memory_file_dirty_bytes", V2, {"memory": MemoryStats(stat=MemoryStat(file_dirty_bytes=7))}, 7),
        ("memory_rss", V2, {}, 0),
        ("memory_rss", V2, {"memory": MemoryStats(stat=MemoryStat(anon_bytes=7))}, 7),
        ("memory_swap", V1, {"memory": MemoryStats()}, 0),
        ("memory_migrate", V2, {"cpuset": CpusetStats(cpus=2)}, 0),
        ("memory_migrate", V1, {"cpuset": CpusetStats(memory_migrate=True)}, 1),
        ("pressure_cpu_waiting_seconds_total", HYBRID, {"pressure": pressure(7)}, 0),
        ("pressure_cpu_waiting_seconds_total", V2, {"pressure": pressure(7)}, 7),
        ("pressure_cpu_waiting_seconds_total", V1, {}, 0),
        ("cpu_cfs_burst_periods_total", V1, {"cpu": CpuStats(bursts_total=7, **QUOTA)}, 0),
        ("cpu_cfs_burst_periods_total", V2, {"cpu": CpuStats(bursts_total=7, **QUOTA)}, 7),
        ("cpu_cfs_burst_periods_total", V2, {"cpu": CpuStats(**QUOTA)}, 0),
        ("cpu_cfs_burst_periods_total", V1, {"cpu": CpuStats(bursts_total=7)}, None),
        ("spec_cpu_shares", V2, {"cpu": CpuStats(weight=100)}, 2597),
        ("spec_cpu_shares", V2, {"cpu": CpuStats(weight=39)}, 998),
        ("spec_cpu_shares", V2, {"cpu": CpuStats(weight=0)}, 0),
        ("spec_cpu_shares", V2, {"cpu": CpuStats()}, 0),
        ("spec_cpu_shares", V1, {"cpu": CpuStats(shares=512)}, 512),
        ("spec_cpu_period", V2, {"cpu": CpuStats()}, 0),
        ("spec_cpu_period", V2, {}, None),
        ("spec_memory_reservation_limit_bytes", V2, {"memory": MemoryStats(low_bytes=7, min_bytes=5)}, 5),
        ("spec_memory_reservation_limit_bytes", V1, {"memory": MemoryStats(soft_limit_bytes=7)}, 7),
        ("spec_memory_swap_limit_bytes", V1, {"memory": MemoryStats()}, 0),
        ("spec_memory_swap_limit_bytes", V1, {}, None),
        ("creation_time_seconds", V2, {}, 12),
        ("start_time_seconds", V2, {}, 12),
        ("processes", V2, {"processes": 7, "core": CoreStats(processes=3)}, 3),
        ("processes", V2, {"processes": 7}, 0),
        ("threads", V2, {"pids": PidsStats(current=7)}, 7),
        ("threads", V2, {"core": CoreStats(processes=3)}, 3),
        ("threads", V1, {"core": CoreStats(processes=3)}, 0),
        ("threads_max", V2, {}, 0),
    ],
)
def test_a_value_is_cadvisors(name: str, layout: Layout, parts: dict[str, Any], value: float | None) -> None:
    assert one(f"container_{name}", layout, **parts) == value


def test_page_faults_of_v1_are_the_cgroups_own_in_both_scopes() -> None:
    stat = MemoryStat(
        page_faults_total=9, own_page_faults_total=2, major_page_faults_total=5, own_major_page_faults_total=1
    )
    sample = Sample(Container(Cgroup("/a", 1), recognise("/a")), memory=MemoryStats(stat=stat))
    assert shown("container_memory_failures_total", sample, V1) == {
        ("pgfault", "container"): 2,
        ("pgfault", "hierarchy"): 2,
        ("pgmajfault", "container"): 1,
        ("pgmajfault", "hierarchy"): 1,
    }


def test_huge_pages_of_v2_have_no_highest_usage() -> None:
    pages = HugetlbStats((HugePages("2MB", 4096, None, 0, None),))
    sample = Sample(Container(Cgroup("/a", 1), recognise("/a")), hugetlb=pages)
    assert shown("container_hugetlb_max_usage_bytes", sample, V2) == {("2MB",): 0}
    assert shown("container_hugetlb_usage_bytes", sample, V2) == {("2MB",): 4096}


def test_memory_by_node_is_there_on_v1_alone() -> None:
    numa = NumaStats((), (NumaPages("anon", 0, 7),))
    sample = Sample(Container(Cgroup("/a", 1), recognise("/a")), numa=numa)
    assert shown("container_memory_numa_pages", sample, V2) == {}
    assert shown("container_memory_numa_pages", sample, V1) == {("anon", "hierarchy", "0"): 7}


def test_the_queues_of_udp_are_swapped() -> None:
    udp = UdpTables(v4=UdpSockets(sockets=1, dropped=2, receive_queue_bytes=3, transmit_queue_bytes=4))
    sample = Sample(Container(Cgroup("/a", 1), recognise("/a")), detail=Detail(udp=udp))
    found = shown("container_network_udp_usage_total", sample, V2)
    assert found == {("listen",): 1, ("dropped",): 2, ("rxqueued",): 4, ("txqueued",): 3}


def test_disk_times_of_the_root_are_too_small_and_those_of_a_container_are_not() -> None:
    io = IoStats((IoDevice(8, 0, read_seconds=7.0),))
    disks = (structs.replace(DISK, read_seconds=5.0, reads_total=1),)
    name = "container_fs_read_seconds_total"
    for path, expected in (("/", {("/dev/sda",): 7e-6, ("/dev/sdb",): 5e-6}), ("/a", {("/dev/sda",): 7.0})):
        sample = Sample(Container(Cgroup(path, 1), recognise(path)), io=io)
        found = shown(name, sample, V1, devices={(8, 0): "/dev/sda"}, disks=disks)
        assert found == pytest.approx(expected)


DISK = msgspec.convert(
    dict.fromkeys(Disk.__struct_fields__, 0)
    | {"major": 8, "minor": 16, "name": "sdb", "kind": DiskKind.DISK},
    Disk,
)


@pytest.mark.parametrize("tree", ALL_TREES)
def test_on_a_page_only_the_replaced_families_differ_and_most_of_them_by_series_more(tree: str) -> None:
    ours, theirs = page(tree, strict=False), page(tree, strict=True)
    differing = {series[0] for series in ours.keys() ^ theirs.keys()}
    differing |= {series[0] for series in ours.keys() & theirs.keys() if ours[series] != theirs[series]}
    lost = {series[0] for series in ours.keys() - theirs.keys()}

    assert differing
    assert differing <= REPLACED
    assert lost <= {"container_memory_numa_pages"}


def test_without_the_key_the_families_are_the_catalogues_own() -> None:
    everything = Groups(**dict.fromkeys(Groups.__struct_fields__, True))
    ours, theirs = (
        shown_families(Settings(metrics=Metrics(groups=everything, strict_cadvisor=strict)))
        for strict in (False, True)
    )
    assert ours == FAMILIES
    changed = {after.name for before, after in zip(ours, theirs, strict=True) if after is not before}
    assert changed == REPLACED


@pytest.mark.parametrize("strict", [False, True])
def test_what_a_replacement_needs_is_read(strict: bool) -> None:  # noqa: FBT001 - a parameter
    groups = Groups(cpuset=True, process=True, udp=True)
    parts = sampling_plan(Settings(metrics=Metrics(groups=groups, strict_cadvisor=strict))).parts
    assert {"cpuset", "pids", "pressure", "memory", "detail.udp"} <= parts


def test_a_replacement_keeps_all_but_its_value_and_how_it_is_read() -> None:
    for before, after in zip(FAMILIES, STRICT, strict=True):
        if before.name not in REPLACED:
            assert after is before
            continue
        same = structs.asdict(before) | {
            field: getattr(after, field) for field in ("value", "rows", "part", "reads", "absent")
        }
        assert structs.asdict(after) == same
        assert (after.value is None) != (after.rows is None)
        assert after.part is before.part or str(before.part) in after.reads
        assert not fnmatchcase(after.name, "cgwatch_*")
