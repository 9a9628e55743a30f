"""Block I/O: what a cgroup's files say, and for the root what /proc/diskstats says besides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec import structs

from cgwatch.cgroup.io import IoDevice, IoLimit, IoStats
from cgwatch.metrics.families import FAMILIES, enabled
from cgwatch.metrics.families.base import Part
from cgwatch.model import Sample
from cgwatch.proc.diskstats import DiskKind, parse_diskstats
from tests.metrics.test_families import container, values

(_LISTED,) = parse_diskstats(b"8 0 sda 10 11 12 1250 20 21 22 2500 3 4500 5750 30 31 32 500\n")
SDA = structs.replace(_LISTED, kind=DiskKind.DISK)
OF_THE_ROOT = {
    "reads_bytes_total": 12 * 512,
    "writes_bytes_total": 22 * 512,
    "reads_total": 10,
    "writes_total": 20,
    "discards_total": 30,
    "discarded_bytes_total": 32 * 512,
    "sector_reads_total": 12,
    "sector_writes_total": 22,
    "reads_merged_total": 11,
    "writes_merged_total": 21,
    "read_seconds_total": 1.25,
    "write_seconds_total": 2.5,
    "io_current": 3,
    "io_time_seconds_total": 4.5,
    "io_time_weighted_seconds_total": 5.75,
}
TOLD = IoDevice(
    8,
    16,
    read_bytes_total=4096,
    written_bytes_total=8192,
    discarded_bytes_total=512,
    discards_total=1,
    read_seconds=0.25,
    write_seconds=0.5,
    service_seconds=1.5,
    wait_seconds=2.0,
    reads_merged_total=6,
    writes_merged_total=7,
    queued=8,
    cost_usage_seconds=0.125,
    cost_wait_seconds=9.0,
)


def fs(name: str, sample: Sample, **more: Any) -> dict[str, float]:
    return {device: value for (device,), value in values(f"container_fs_{name}", sample, **more).items()}


def root(*devices: IoDevice) -> Sample:
    return Sample(container("/"), io=IoStats(devices=devices))


@pytest.mark.parametrize(("name", "value"), OF_THE_ROOT.items())
def test_what_the_roots_files_do_not_say_is_the_machines(name: str, value: float) -> None:
    assert fs(name, root(), disks=(SDA,)) == {"/dev/sda": value}


@pytest.mark.parametrize("name", OF_THE_ROOT)
def test_a_container_never_shows_the_machines(name: str) -> None:
    sample = Sample(container(), io=IoStats(devices=()))

    assert fs(name, sample, disks=(SDA,)) == {}


def test_a_disk_of_the_root_is_shown_once_and_with_all_that_the_machine_did() -> None:
    # On v1 the root's file counts from the first throttle rule on (kernel 6.9).
    said = IoDevice(8, 0, read_bytes_total=99, read_seconds=9)
    names = {(8, 0): "/dev/sda"}

    assert fs("reads_bytes_total", root(said), disks=(SDA,), devices=names) == {"/dev/sda": 12 * 512}
    assert fs("read_seconds_total", root(said), disks=(SDA,), devices=names) == {"/dev/sda": 1.25}


def test_what_the_machine_does_not_tell_of_a_disk_is_as_the_roots_files_say() -> None:
    said = IoDevice(8, 0, discards_total=7)
    older = structs.replace(SDA, discards_total=None)

    assert fs("discards_total", root(said), disks=(older,), devices={(8, 0): "/dev/sda"}) == {"/dev/sda": 7}


def test_a_device_of_the_root_that_is_no_disk_is_as_its_files_say() -> None:
    said = IoDevice(7, 0, read_bytes_total=99)
    loop = structs.replace(SDA, major=7, name="loop0", kind=DiskKind.STACKED)

    found = fs("reads_bytes_total", root(said), disks=(SDA, loop), devices={(7, 0): "/dev/loop0"})
    assert found == {"/dev/sda": 12 * 512, "/dev/loop0": 99}


@pytest.mark.parametrize("kind", [DiskKind.PARTITION, DiskKind.STACKED, None])
def test_what_another_disk_does_as_well_is_left_out(kind: DiskKind | None) -> None:
    other = structs.replace(SDA, minor=1, name="sda1", kind=kind)

    assert fs("io_time_seconds_total", root(), disks=(SDA, other)) == {"/dev/sda": 4.5}


def test_a_disk_that_was_not_used_is_left_out() -> None:
    unused = structs.replace(SDA, reads_total=0, writes_total=0)

    assert fs("io_current", root(), disks=(unused,)) == {}


def test_a_disk_of_an_older_kernel_has_no_discards() -> None:
    older = structs.replace(SDA, discards_total=None, sectors_discarded_total=None)

    assert fs("discards_total", root(), disks=(older,)) == {}
    assert fs("discarded_bytes_total", root(), disks=(older,)) == {}


def test_a_slash_in_the_name_of_a_disk_is_in_its_path() -> None:
    disk = structs.replace(SDA, name="cciss!c0d0")

    assert fs("io_current", root(), disks=(disk,)) == {"/dev/cciss/c0d0": 3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("sector_reads_total", 8), ("sector_writes_total", 16)),
        *(("discards_total", 1), ("discarded_bytes_total", 512)),
        *(("read_seconds_total", 0.25), ("write_seconds_total", 0.5), ("io_time_seconds_total", 1.5)),
        *(("io_time_weighted_seconds_total", 3.5), ("io_current", 8)),
        *(("reads_merged_total", 6), ("writes_merged_total", 7)),
        *(("io_cost_usage_seconds_total", 0.125), ("io_cost_wait_seconds_total", 9.0)),
    ],
)
def test_a_containers_own_io_is_shown_in_seconds_and_sectors(name: str, value: float) -> None:
    assert fs(name, Sample(container(), io=IoStats(devices=(TOLD,)))) == {"8:16": value}


def test_what_no_scheduler_tells_is_absent() -> None:
    sample = Sample(container(), io=IoStats(devices=(IoDevice(8, 0, read_bytes_total=1),)))

    for name in ("read_seconds_total", "io_time_weighted_seconds_total", "io_current"):
        assert fs(name, sample) == {}
    assert fs("io_cost_indebt_seconds_total", sample) == {}
    assert fs("sector_writes_total", sample) == {}


def test_bounds_of_block_io_are_shown_for_the_devices_that_have_them() -> None:
    limits = (IoLimit(8, 0, read_bytes=1024, writes=100), IoLimit(8, 16, written_bytes=2048, reads=5))
    sample = Sample(container(), io=IoStats(limits=limits))
    shown = {
        what: values(f"container_spec_io_{what}_per_second", sample, devices={(8, 0): "/dev/sda"})
        for what in ("read_bytes", "write_bytes", "reads", "writes")
    }

    assert shown == {
        "read_bytes": {("/dev/sda",): 1024},
        "write_bytes": {("8:16",): 2048},
        "reads": {("8:16",): 5},
        "writes": {("/dev/sda",): 100},
    }


def test_a_device_without_any_bound_has_no_series() -> None:
    sample = Sample(container(), io=IoStats(limits=(IoLimit(8, 0, *[math.inf] * 4),)))

    assert values("container_spec_io_reads_per_second", sample) == {}


def test_the_weight_is_the_default_one() -> None:
    assert values("container_spec_io_weight", Sample(container(), io=IoStats(weight=200))) == {(): 200}
    assert values("container_spec_io_weight", Sample(container(), io=IoStats())) == {}


def test_the_group_that_shows_disks_has_them_read() -> None:
    reads = {part for family in enabled(frozenset({"diskIO"})) for part in family.reads}

    assert {"disks", "io.details"} <= reads
    assert not {part for family in FAMILIES if family.part is not Part.IO for part in family.reads} & {
        "io.details"
    }
