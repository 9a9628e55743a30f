from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import FileMissingError, MalformedFileError
from cgwatch.proc import diskstats
from cgwatch.proc.diskstats import Disk, DiskKind
from cgwatch.proc.reading import parsed

if TYPE_CHECKING:
    from pathlib import Path

KERNEL_6_18 = b"""\
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 51651 7694 2895882 10590 15665 14152 3746616 7818 0 8808 18870 3966 63 711952 388 1714 72
 253       0 zram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 259       1 nvme0n1p1 120 0 960 4 2 0 16 0 0 8 4 0 0 0 0 0 0
"""

KERNEL_4_4 = b"""\
   8       0 sda 19533 12217 897686 172836 66142 171084 1898282 1383020 3 142848 1556672
   8       1 sda1 31645 896 45023 7276 0 0 0 0 0 7000 7276
 104       0 cciss!c0d0 19533 12217 897686 172836 66142 171084 1898282 1383020 0 142848 1556672
"""


def write(proc: Path, data: bytes) -> None:
    (proc / "diskstats").write_bytes(data)


def names(data: bytes) -> dict[tuple[int, int], str]:
    return {(disk.major, disk.minor): disk.name for disk in diskstats.parse_diskstats(data)}


def test_devices_of_every_driver_are_listed() -> None:
    assert names(KERNEL_6_18) == {
        (7, 0): "loop0",
        (254, 0): "vda",
        (253, 0): "zram0",
        (259, 1): "nvme0n1p1",
    }
    assert names(KERNEL_4_4) == {(8, 0): "sda", (8, 1): "sda1", (104, 0): "cciss!c0d0"}


def test_every_column_is_read_and_milliseconds_become_seconds() -> None:
    assert diskstats.parse_diskstats(KERNEL_6_18)[1] == Disk(
        major=254,
        minor=0,
        name="vda",
        reads_total=51651,
        reads_merged_total=7694,
        sectors_read_total=2895882,
        read_seconds=10.590,
        writes_total=15665,
        writes_merged_total=14152,
        sectors_written_total=3746616,
        write_seconds=7.818,
        io_current=0,
        io_seconds=8.808,
        weighted_io_seconds=18.870,
        discards_total=3966,
        discards_merged_total=63,
        sectors_discarded_total=711952,
        discard_seconds=0.388,
        flushes_total=1714,
        flush_seconds=0.072,
    )


def test_what_an_older_kernel_does_not_count_is_not_said() -> None:
    disk = diskstats.parse_diskstats(KERNEL_4_4)[0]
    assert (disk.io_current, disk.io_seconds, disk.weighted_io_seconds) == (3, 142.848, 1556.672)
    assert (disk.discards_total, disk.discard_seconds, disk.flushes_total, disk.flush_seconds) == (None,) * 4
    with_discards = diskstats.parse_diskstats(b"8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15000\n")[0]
    assert (with_discards.discards_total, with_discards.discard_seconds) == (12, 15.0)
    assert with_discards.flushes_total is None


def test_columns_of_newer_kernels_are_skipped() -> None:
    line = b"8 0 sda " + b" ".join(b"%d" % column for column in range(1, 21)) + b"\n"
    assert diskstats.parse_diskstats(line)[0].flush_seconds == 0.017


def test_a_machine_without_disks_has_none() -> None:
    assert diskstats.parse_diskstats(b"") == ()


@pytest.mark.parametrize("line", [b"8 0\n", b"8\n", b"8 0 sda 1\n"])
def test_a_line_without_its_numbers_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="no device with 11 numbers"):
        diskstats.parse_diskstats(KERNEL_6_18 + line)


@pytest.mark.parametrize("line", [b"x 0 sda", b"8 -1 sda", b"8 0 sda 1.5"])
def test_what_is_no_number_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        diskstats.parse_diskstats(line + b" 1" * 11 + b"\n")


@given(st.binary() | st.binary().map(lambda data: b" 8 0 sda 1 2 3 4 5 6 7 8 9 10 11 " + data))
def test_any_bytes_give_devices_or_an_error_with_the_path(data: bytes) -> None:
    try:
        disks = parsed("/proc/diskstats", data, diskstats.parse_diskstats)
    except MalformedFileError as error:
        assert error.path == "/proc/diskstats"  # noqa: PT017 - not raising is as good
    else:
        assert all(disk.name and disk.read_seconds >= 0 for disk in disks)


def make_sysfs(sys_root: Path) -> None:
    """A disk with a partition, a mapping on it, and an NVMe device whose paths are hidden."""
    (sys_root / "dev/block").mkdir(parents=True)
    for numbers, place in {
        "254:0": "pci0000:00/virtio1/block/vda",
        "254:1": "pci0000:00/virtio1/block/vda/vda1",
        "253:0": "virtual/block/dm-0",
        "259:0": "virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
    }.items():
        (sys_root / "devices" / place).mkdir(parents=True)
        (sys_root / "dev/block" / numbers).symlink_to(f"../../devices/{place}")
    (sys_root / "devices/pci0000:00/virtio1/block/vda/vda1/partition").write_text("1\n")


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ((254, 0), DiskKind.DISK),
        ((254, 1), DiskKind.PARTITION),
        ((253, 0), DiskKind.STACKED),
        ((259, 0), DiskKind.DISK),
        ((8, 0), None),
    ],
)
def test_sysfs_tells_whole_disks_from_partitions_and_from_what_stands_on_others(
    tmp_path: Path, numbers: tuple[int, int], kind: DiskKind | None
) -> None:
    make_sysfs(tmp_path)
    assert diskstats.disk_kind(*numbers, str(tmp_path)) is kind


def test_the_kind_of_a_device_is_asked_for_once_and_anew_for_another_of_its_number(tmp_path: Path) -> None:
    make_sysfs(tmp_path / "sys")
    write(tmp_path, KERNEL_6_18)
    reader = diskstats.DiskReader(str(tmp_path), str(tmp_path / "sys"))

    def kinds() -> dict[str, DiskKind | None]:
        return {disk.name: disk.kind for disk in reader.read()}

    assert kinds()["vda"] is DiskKind.DISK
    (tmp_path / "sys/dev/block/254:0").unlink()
    assert kinds() == {"loop0": None, "vda": DiskKind.DISK, "zram0": DiskKind.STACKED, "nvme0n1p1": None}
    write(tmp_path, KERNEL_6_18.replace(b"vda", b"vdb"))
    assert kinds()["vdb"] is None


def test_the_disks_of_this_machine_are_of_some_kind() -> None:
    disks = diskstats.DiskReader().read()
    assert all(disk.kind is not None for disk in disks)


def test_an_exclamation_mark_stands_for_a_slash() -> None:
    assert diskstats.device_path("cciss!c0d0") == "/dev/cciss/c0d0"
    assert diskstats.device_path("vda") == "/dev/vda"


def test_a_known_device_needs_no_further_read(tmp_path: Path) -> None:
    write(tmp_path, KERNEL_6_18)
    devices = diskstats.DeviceNames(str(tmp_path))
    assert devices.path(254, 0) == "/dev/vda"
    (tmp_path / "diskstats").unlink()
    devices.begin_tick()
    assert devices.path(259, 1) == "/dev/nvme0n1p1"


def test_a_new_device_is_found_at_the_next_tick_and_not_before(tmp_path: Path) -> None:
    write(tmp_path, b"")
    devices = diskstats.DeviceNames(str(tmp_path))
    assert devices.path(254, 0) is None
    write(tmp_path, KERNEL_6_18)
    assert devices.path(254, 0) is None
    devices.begin_tick()
    assert devices.path(254, 0) == "/dev/vda"


def test_a_device_that_stays_unknown_costs_one_read_a_tick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, KERNEL_6_18)
    reads: list[str] = []
    read = diskstats.read_diskstats

    def counting(proc_root: str) -> tuple[Disk, ...]:
        reads.append(proc_root)
        return read(proc_root)

    monkeypatch.setattr(diskstats, "read_diskstats", counting)
    devices = diskstats.DeviceNames(str(tmp_path))
    for _ in range(3):
        devices.begin_tick()
        assert [devices.path(1, minor) for minor in range(10)] == [None] * 10
    assert len(reads) == 3


def test_a_failed_read_is_raised_once_a_tick_and_forgets_nothing(tmp_path: Path) -> None:
    write(tmp_path, KERNEL_6_18)
    devices = diskstats.DeviceNames(str(tmp_path))
    assert devices.path(254, 0) == "/dev/vda"
    (tmp_path / "diskstats").unlink()
    for _ in range(2):
        devices.begin_tick()
        with pytest.raises(FileMissingError, match=f"{tmp_path}/diskstats"):
            devices.path(8, 0)
        assert devices.path(8, 0) is None
        assert devices.path(254, 0) == "/dev/vda"


def test_this_kernel_lists_its_devices() -> None:
    diskstats.read_diskstats("/proc")
