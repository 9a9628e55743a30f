"""``/proc/diskstats``: what every block device did since it appeared, and its name.

::

     254       0 vda 51651 7694 2895882 10590 15665 14152 3746616 7818 0 8808 18870 3966 63 711952 388 1714 72

Documentation/admin-guide/iostats.rst and ABI/testing/procfs-diskstats: numbers, name and 11 columns for all
devices since Linux 2.6.25, 4 more for discards since 4.18, 2 more for flushes since 5.5. It lists whatever
driver a device has: SCSI, NVMe, MMC, virtio, md, device mapper, loop.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from cgwatch.proc.reading import number, parsed, read_bytes, shown, text

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTOR_BYTES = 512
"""Of the columns of sectors, whatever the device's own sectors are."""

_MILLISECONDS = 1000
_NAME_COLUMN = 2
_NUMBERS = 11
_WITH_DISCARDS = 15
_WITH_FLUSHES = 17


class DiskKind(StrEnum):
    """What a block device is made of. Only the numbers of whole disks can be added up."""

    DISK = "disk"
    """A device of its own."""
    PARTITION = "partition"
    """A part of one: what it does is done by the whole disk, too."""
    STACKED = "stacked"
    """Made of other devices or of files (device mapper, md, loop, zram): what it does, they do, too."""


class Disk(Struct, frozen=True, gc=False):
    """One line: totals since the device appeared. Times are summed over requests unless said otherwise."""

    major: int
    minor: int
    name: str
    """The kernel's, such as ``nvme0n1p1``; see ``device_path``."""
    reads_total: int
    reads_merged_total: int
    sectors_read_total: int
    read_seconds: float
    writes_total: int
    writes_merged_total: int
    sectors_written_total: int
    write_seconds: float
    io_current: int
    """Requests that are under way."""
    io_seconds: float
    """Time in which there were any."""
    weighted_io_seconds: float
    """The same, times how many there were."""
    discards_total: int | None = None
    discards_merged_total: int | None = None
    sectors_discarded_total: int | None = None
    discard_seconds: float | None = None
    flushes_total: int | None = None
    """Of whole disks; partitions have 0."""
    flush_seconds: float | None = None
    kind: DiskKind | None = None
    """``None``: sysfs did not say."""


def read_diskstats(proc_root: str = "/proc") -> tuple[Disk, ...]:
    """Return all block devices, of no kind yet; raises a ``KernelFileError`` with the path."""
    path = f"{proc_root}/diskstats"
    return parsed(path, read_bytes(path), parse_diskstats)


def parse_diskstats(data: bytes) -> tuple[Disk, ...]:
    """Return the devices in the kernel's order; ``ValueError`` says what is wrong."""
    return tuple(_disk(line) for line in data.split(b"\n") if line.strip())


def _disk(line: bytes) -> Disk:
    columns = line.split()
    if len(columns) <= _NAME_COLUMN + _NUMBERS:
        raise ValueError(f"no device with {_NUMBERS} numbers: {shown(line)}")
    numbers = [number(column) for column in columns[_NAME_COLUMN + 1 :]]
    discards = numbers[_NUMBERS:_WITH_DISCARDS] if len(numbers) >= _WITH_DISCARDS else None
    flushes = numbers[_WITH_DISCARDS:_WITH_FLUSHES] if len(numbers) >= _WITH_FLUSHES else None
    return Disk(
        major=number(columns[0]),
        minor=number(columns[1]),
        name=text(columns[_NAME_COLUMN]),
        reads_total=numbers[0],
        reads_merged_total=numbers[1],
        sectors_read_total=numbers[2],
        read_seconds=numbers[3] / _MILLISECONDS,
        writes_total=numbers[4],
        writes_merged_total=numbers[5],
        sectors_written_total=numbers[6],
        write_seconds=numbers[7] / _MILLISECONDS,
        io_current=numbers[8],
        io_seconds=numbers[9] / _MILLISECONDS,
        weighted_io_seconds=numbers[10] / _MILLISECONDS,
        discards_total=discards[0] if discards else None,
        discards_merged_total=discards[1] if discards else None,
        sectors_discarded_total=discards[2] if discards else None,
        discard_seconds=discards[3] / _MILLISECONDS if discards else None,
        flushes_total=flushes[0] if flushes else None,
        flush_seconds=flushes[1] / _MILLISECONDS if flushes else None,
    )


def device_path(name: str) -> str:
    """Return the device's path; the kernel may write a slash in a name as ``!`` (``cciss!c0d0``)."""
    return "/dev/" + name.replace("!", "/")


def disk_kind(major: int, minor: int, sys_root: str = "/sys") -> DiskKind | None:
    """Return what a device is made of, as sysfs has it (ABI/stable/sysfs-block); ``None`` without sysfs.

    A device without hardware lies in ``devices/virtual``: it stands on others, on files or on memory.
    """
    link = f"{sys_root}/dev/block/{major}:{minor}"
    if not os.path.exists(link):
        return None
    if os.path.exists(f"{link}/partition"):
        return DiskKind.PARTITION
    is_virtual = "/devices/virtual/" in os.path.realpath(link)
    # The members of an NVMe device with several paths are hidden, and it is the one that holds the data.
    is_nvme = os.path.basename(os.path.realpath(link)).startswith("nvme")
    return DiskKind.STACKED if is_virtual and not is_nvme else DiskKind.DISK


class DiskReader:
    """Reads all devices and what they are made of; of each device sysfs is asked once."""

    def __init__(self, proc_root: str = "/proc", sys_root: str = "/sys") -> None:
        self._proc_root = proc_root
        self._sys_root = sys_root
        self._kinds: dict[tuple[int, int, str], DiskKind | None] = {}

    def read(self) -> tuple[Disk, ...]:
        """Return all block devices; raises a ``KernelFileError`` with the path."""
        disks = read_diskstats(self._proc_root)
        known = self._kinds
        self._kinds = {
            key: known[key] if key in known else disk_kind(disk.major, disk.minor, self._sys_root)
            for disk in disks
            for key in [(disk.major, disk.minor, disk.name)]
        }
        return tuple(
            structs.replace(disk, kind=kind) for disk, kind in zip(disks, self._kinds.values(), strict=True)
        )


class DeviceNames:
    """Device numbers to paths; the file is read again only for a number that is not known.

    A number that stays unknown costs one read a tick, however often it is asked for: ``begin_tick``
    allows the next one. The first read needs no ``begin_tick``.
    """

    def __init__(self, proc_root: str = "/proc") -> None:
        self._proc_root = proc_root
        self._names: Mapping[tuple[int, int], str] = {}
        self._may_read = True

    def begin_tick(self) -> None:
        """Allow one more read of the file."""
        self._may_read = True

    def path(self, major: int, minor: int) -> str | None:
        """Return the path such as ``/dev/vda``, or ``None`` when the kernel lists no such device.

        Raises a ``KernelFileError`` when the file had to be read and could not be, at most once a tick;
        what was known before stays known.
        """
        device = (major, minor)
        if device not in self._names and self._may_read:
            self._may_read = False
            disks = read_diskstats(self._proc_root)
            self._names = {(disk.major, disk.minor): disk.name for disk in disks}
        name = self._names.get(device)
        return None if name is None else device_path(name)
