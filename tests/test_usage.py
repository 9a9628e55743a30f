from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.io import IoDevice, IoStats
from cgwatch.cgroup.memory import MemoryStat, MemoryStats
from cgwatch.cgroup.pids import PidsStats
from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Description, Kind, Runtime, Sample, Snapshot
from cgwatch.proc.meminfo import Meminfo
from cgwatch.proc.network import InterfaceCounters
from cgwatch.usage import Listing, Usage, listing, rows

if TYPE_CHECKING:
    from collections.abc import Iterable

ID = "0123456789ab" + "c" * 52
PATH = f"/docker/{ID}"
MACHINE_BYTES = 8 << 30


def container(path: str = PATH, inode: int = 7, name: str = "", image: str = "") -> Container:
    owner = recognise(path)
    said = Description(Runtime.DOCKER, owner.container_id or "", name, image, {}, "running") if name else None
    return Container(Cgroup(path, inode), owner, description=said)


def sample(who: Container | None = None, **parts: Any) -> Sample:
    return Sample(who or container(), **parts)


def snapshot(*samples: Sample, at_seconds: float = 100.0, layout: Layout = Layout.V2) -> Snapshot:
    return Snapshot(
        sequence=0,
        time_seconds=1e9 + at_seconds,
        monotonic_seconds=at_seconds,
        duration_seconds=0.01,
        samples=samples,
        layout=layout,
        memory=Meminfo(MACHINE_BYTES),
    )


def usage(after: Sample, *, layout: Layout = Layout.V2) -> Usage:
    return rows(None, snapshot(after, layout=layout))[0]


def compared(before: Sample, after: Sample, *, seconds: float = 2.0, layout: Layout = Layout.V2) -> Usage:
    earlier = snapshot(before, at_seconds=100.0, layout=layout)
    return rows(earlier, snapshot(after, at_seconds=100.0 + seconds, layout=layout))[0]


def interface(name: str = "eth0", received: int = 0, transmitted: int = 0) -> InterfaceCounters:
    return InterfaceCounters(name, received, 0, 0, 0, transmitted, 0, 0, 0)


def disk(minor: int = 0, read: int | None = 0, written: int | None = 0) -> IoDevice:
    return IoDevice(8, minor, read_bytes_total=read, written_bytes_total=written)


def cpu(periods: int, throttled: int, quota: float | None = 50_000) -> CpuStats:
    return CpuStats(periods_total=periods, throttled_periods_total=throttled, quota_microseconds=quota)


def rates(row: Usage) -> dict[str, object]:
    return {
        name: getattr(row, name)
        for name in Usage.__struct_fields__
        if name in {"cpu_ratio", "throttled_ratio"} or name.endswith("_per_second")
    }


def test_three_cpu_seconds_in_two_seconds_are_one_and_a_half_cpus() -> None:
    row = compared(sample(cpu=CpuStats(usage_seconds=10.0)), sample(cpu=CpuStats(usage_seconds=13.0)))

    assert row.cpu_ratio == 1.5


@pytest.mark.parametrize(
    ("usage_bytes", "inactive_bytes", "used_bytes"),
    [(100, 30, 70), (100, 0, 100), (100, None, 100), (100, 99, 1), (100, 100, 100), (100, 130, 100)],
)
def test_memory_used_is_what_docker_stats_shows(
    usage_bytes: int, inactive_bytes: int | None, used_bytes: int
) -> None:
    stat = MemoryStat(inactive_file_bytes=inactive_bytes, active_file_bytes=20)

    assert usage(sample(memory=MemoryStats(usage_bytes, stat=stat))).memory_used_bytes == used_bytes


@pytest.mark.parametrize(
    ("limit_bytes", "shown_limit_bytes", "ceiling_bytes"),
    [
        (1 << 30, 1 << 30, 1 << 30),
        (math.inf, None, MACHINE_BYTES),
        (None, None, MACHINE_BYTES),
        (MACHINE_BYTES * 2, MACHINE_BYTES * 2, MACHINE_BYTES),
    ],
)
def test_memory_is_a_ratio_of_the_limit_or_of_the_machine(
    limit_bytes: float | None, shown_limit_bytes: int | None, ceiling_bytes: int
) -> None:
    row = usage(sample(memory=MemoryStats(1 << 29, limit_bytes=limit_bytes)))

    assert row.memory_limit_bytes == shown_limit_bytes
    assert row.memory_ceiling_bytes == ceiling_bytes
    assert row.memory_ratio == (1 << 29) / ceiling_bytes


def test_a_memory_limit_of_zero_gives_no_ratio() -> None:
    row = usage(sample(memory=MemoryStats(4096, limit_bytes=0)))

    assert (row.memory_ceiling_bytes, row.memory_ratio) == (0, None)


def test_network_bytes_are_the_sum_of_the_interfaces() -> None:
    row = compared(
        sample(network=(interface("eth0", 100, 10), interface("eth1", 1, 0))),
        sample(network=(interface("eth0", 300, 10), interface("eth1", 1, 8))),
    )

    assert (row.network_receive_bytes_total, row.network_transmit_bytes_total) == (301, 18)
    assert (row.network_receive_bytes_per_second, row.network_transmit_bytes_per_second) == (100.0, 4.0)


def test_a_container_that_shares_a_network_namespace_has_no_network_numbers() -> None:
    row = compared(sample(network=None), sample(network=None))

    assert (row.network_receive_bytes_total, row.network_receive_bytes_per_second) == (None, None)


def test_block_bytes_are_the_sum_of_the_devices_and_a_new_device_began_at_zero() -> None:
    row = compared(
        sample(io=IoStats((disk(0, 1000, 10),))), sample(io=IoStats((disk(0, 1500, 10), disk(16, 500, 30))))
    )

    assert (row.block_read_bytes_total, row.block_written_bytes_total) == (2000, 40)
    assert (row.block_read_bytes_per_second, row.block_written_bytes_per_second) == (500.0, 15.0)


def test_no_device_is_no_io_on_v2_and_unknown_on_v1() -> None:
    idle = sample(io=IoStats(devices=()))

    assert compared(idle, idle).block_read_bytes_total == 0
    assert compared(idle, idle).block_read_bytes_per_second == 0.0
    for layout in (Layout.V1, Layout.HYBRID):
        row = compared(idle, idle, layout=layout)
        assert (row.block_read_bytes_total, row.block_written_bytes_total) == (None, None)
        assert row.block_read_bytes_per_second is None


def test_a_device_that_says_no_bytes_is_not_counted_as_zero() -> None:
    row = compared(sample(io=IoStats((disk(0, None, 10),))), sample(io=IoStats((disk(0, None, 20),))))

    assert (row.block_read_bytes_total, row.block_read_bytes_per_second) == (None, None)
    assert (row.block_written_bytes_total, row.block_written_bytes_per_second) == (20, 5.0)


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [
        (cpu(100, 10), cpu(120, 25), 0.75),
        (cpu(100, 10), cpu(120, 10), 0.0),
        (cpu(100, 10), cpu(100, 10), 0.0),
        (cpu(0, 0, math.inf), cpu(0, 0, math.inf), None),
        (cpu(0, 0, None), cpu(0, 0, None), None),
        (cpu(100, 10), cpu(120, 25, math.inf), 0.75),
        (CpuStats(), CpuStats(), None),
    ],
)
def test_throttled_is_the_part_of_the_periods_since_the_last_snapshot(
    before: CpuStats, after: CpuStats, ratio: float | None
) -> None:
    assert compared(sample(cpu=before), sample(cpu=after)).throttled_ratio == ratio


BUSY_BEFORE: dict[str, Any] = {
    "cpu": CpuStats(usage_seconds=1.0, periods_total=10, throttled_periods_total=1),
    "io": IoStats((disk(0, 10, 10), disk(16, 10, 10))),
    "network": (interface("eth0", 10, 10), interface("eth1", 10, 10)),
}
BUSY_AFTER: dict[str, Any] = {
    "cpu": CpuStats(usage_seconds=2.0, periods_total=20, throttled_periods_total=2),
    "io": IoStats((disk(0, 20, 20), disk(16, 20, 20))),
    "network": (interface("eth0", 20, 20), interface("eth1", 20, 20)),
}


def test_every_rate_is_known_where_there_is_something_to_compare() -> None:
    assert None not in rates(compared(sample(**BUSY_BEFORE), sample(**BUSY_AFTER))).values()


def test_no_rate_is_computed_across_two_inodes_of_one_path() -> None:
    row = compared(sample(container(inode=7), **BUSY_BEFORE), sample(container(inode=8), **BUSY_AFTER))

    assert set(rates(row).values()) == {None}
    assert row.block_read_bytes_total == 40


def test_no_rate_is_computed_from_one_snapshot_or_from_one_twice() -> None:
    after = snapshot(sample(**BUSY_AFTER))

    for before in (None, after, snapshot(sample(**BUSY_BEFORE), at_seconds=101.0)):
        assert listing(before, after).interval_seconds is None
        assert set(rates(rows(before, after)[0]).values()) == {None}


def test_no_rate_is_computed_from_a_counter_that_went_down_even_if_the_sum_went_up() -> None:
    row = compared(
        sample(**BUSY_BEFORE),
        sample(
            cpu=CpuStats(usage_seconds=0.5, periods_total=20, throttled_periods_total=0),
            io=IoStats((disk(0, 9, 9), disk(16, 100, 100))),
            network=(interface("eth0", 9, 9), interface("eth1", 100, 100)),
        ),
    )

    assert set(rates(row).values()) == {None}


@pytest.mark.parametrize(
    ("part", "prefixes"), [("cpu", ("cpu", "throttled")), ("io", ("block",)), ("network", ("network",))]
)
def test_what_the_kernel_did_not_say_before_or_does_not_say_now_has_no_rate(
    part: str, prefixes: tuple[str, ...]
) -> None:
    without: dict[str, Any] = {part: None}
    for before, after in ((BUSY_BEFORE | without, BUSY_AFTER), (BUSY_BEFORE, BUSY_AFTER | without)):
        for name, value in rates(compared(sample(**before), sample(**after))).items():
            assert (value is None) is name.startswith(prefixes)


def test_pids_are_what_the_controller_counts() -> None:
    assert usage(sample(pids=PidsStats(12))).pids == 12
    assert usage(sample()).pids is None


@pytest.mark.parametrize(
    ("who", "name"),
    [
        (container(name="web"), "web"),
        (container(), "0123456789ab"),
        (container("/lxc.payload.a-container-of-lxc"), "a-container-of-lxc"),
        (container("/system.slice/sshd.service"), "sshd.service"),
        (container("/made/by/hand"), "/made/by/hand"),
        (container("/"), "/"),
    ],
)
def test_a_cgroup_is_called_by_the_best_name_there_is(who: Container, name: str) -> None:
    assert usage(sample(who)).name == name


def test_a_row_says_whose_cgroup_it_is() -> None:
    row = usage(sample(container(name="web", image="nginx:1")))

    assert (row.container_id, row.cgroup, row.kind) == (ID, PATH, Kind.CONTAINER)
    assert (row.runtime, row.image) == (Runtime.DOCKER, "nginx:1")
    assert usage(sample()).image is None


def test_a_listing_says_what_time_it_covers() -> None:
    found = listing(snapshot(at_seconds=100.0), snapshot(sample(), at_seconds=105.0))

    assert found.interval_seconds == 5.0
    assert [row.cgroup for row in found.rows] == [PATH]


def test_a_path_that_is_no_utf_8_can_be_written_as_json() -> None:
    row = usage(sample(container("/bad\udcff\ud800")))

    assert row.cgroup == row.name == r"/bad\udcff\ud800"
    assert msgspec.json.decode(msgspec.json.encode(row), type=Usage) == row


counters = st.none() | st.integers(0, 1 << 64)
interfaces = st.none() | st.lists(st.builds(interface, st.sampled_from("ab"), *[st.integers(0, 99)] * 2)).map(
    tuple
)
devices = st.none() | st.lists(st.builds(disk, st.integers(0, 2), counters, counters)).map(
    lambda found: IoStats(tuple(found))
)
cpus = st.none() | st.builds(
    CpuStats,
    usage_seconds=st.none() | st.floats(0, 1e12),
    periods_total=counters,
    throttled_periods_total=counters,
    quota_microseconds=st.sampled_from([None, math.inf, 50_000]),
)
memories = st.none() | st.builds(
    MemoryStats,
    usage_bytes=counters,
    limit_bytes=counters | st.just(math.inf),
    stat=st.builds(MemoryStat, inactive_file_bytes=counters),
)
anything = st.builds(
    Sample,
    st.builds(container, st.text(), st.integers(1, 2), st.text(), st.text()),
    memory=memories,
    cpu=cpus,
    io=devices,
    network=interfaces,
)


@given(anything, anything, st.floats(0.001, 1e6), st.sampled_from(Layout))
def test_any_two_samples_give_a_row_of_numbers_that_json_can_carry(
    before: Sample, after: Sample, seconds: float, layout: Layout
) -> None:
    same = structs.replace(before, container=after.container)

    found = listing(snapshot(same, layout=layout), snapshot(after, at_seconds=100.0 + seconds, layout=layout))

    assert msgspec.json.decode(msgspec.json.encode(found), type=Listing) == found
    assert all(_is_finite_and_not_negative(value) for value in structs.astuple(found.rows[0]))


def _is_finite_and_not_negative(value: object) -> bool:
    return not isinstance(value, int | float) or 0 <= value < math.inf


@given(st.lists(anything), st.none() | st.lists(anything))
def test_there_is_one_row_for_each_sample_in_their_order(
    after: Iterable[Sample], before: Iterable[Sample] | None
) -> None:
    then = None if before is None else snapshot(*before, at_seconds=99.0)

    found = rows(then, snapshot(*after))

    assert [row.kind for row in found] == [each.container.owner.kind for each in after]
