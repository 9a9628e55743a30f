"""Block I/O by device.

The root is the whole machine: what its disks did is taken from /proc/diskstats, as the kernel itself does for
the root's io.stat. The root's files of v1 count a device from its first throttle rule on (Linux 6.9), and no
times. It is shown for whole disks alone: a partition, a device mapper's or an md device does nothing that the
disk below it does not do as well, and with them a sum over ``device`` would count twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from operator import attrgetter

from cgwatch.cgroup.io import IoDevice, IoStats
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Kind, Snapshot
from cgwatch.proc.diskstats import SECTOR_BYTES, Disk, DiskKind, device_path

OfDevice = Callable[[IoDevice], Number | None]
OfDisk = Callable[[Disk], Number | None]


def device_label(snapshot: Snapshot, major: int, minor: int) -> str:
    """Return the label ``device``: a path; for a device without a name its numbers, so that series differ."""
    return label("device", snapshot.devices.get((major, minor)) or f"{major}:{minor}")


def _by_device(of_device: OfDevice, of_disk: OfDisk | None) -> Callable[[IoStats, Snapshot], Iterable[Row]]:
    def own(devices: Iterable[IoDevice], snapshot: Snapshot) -> list[Row]:
        # Most kernels have few of these numbers: no labels are made for those that they have not got.
        return [
            (device_label(snapshot, device.major, device.minor), value)
            for device in devices
            if (value := of_device(device)) is not None
        ]

    def rows(io: IoStats, snapshot: Snapshot) -> Iterable[Row]:
        devices = io.devices
        if of_disk is None or not snapshot.disks or not _is_of_root(io, snapshot):
            return own(devices, snapshot) if devices else ()
        devices = devices or ()
        disks = [disk for disk in snapshot.disks if _is_shown(disk) and of_disk(disk) is not None]
        told = {(disk.major, disk.minor) for disk in disks}
        return [
            *((label("device", device_path(disk.name)), of_disk(disk)) for disk in disks),
            *own([device for device in devices if (device.major, device.minor) not in told], snapshot),
        ]

    return rows


def _is_of_root(io: IoStats, snapshot: Snapshot) -> bool:
    first = snapshot.samples[0]  # there is one, since it has ``io``; the root comes before all others
    return first.io is io and first.container.owner.kind is Kind.ROOT


def _is_shown(disk: Disk) -> bool:
    return disk.kind is DiskKind.DISK and bool(disk.reads_total or disk.writes_total)


def _blkio(io: IoStats, snapshot: Snapshot) -> Iterable[Row]:
    for device in io.devices or ():
        labels = device_label(snapshot, device.major, device.minor)
        operations = device.bytes_by_operation or (
            ("Read", device.read_bytes_total),
            ("Write", device.written_bytes_total),
        )
        for operation, value in operations:
            yield _operation(labels, device.major, device.minor, operation), value


@lru_cache(maxsize=1024)
def _operation(device_labels: str, major: int, minor: int, operation: str) -> str:
    return f'{device_labels},major="{major}",minor="{minor}",{label("operation", operation)}'


def _disk(
    name: str,
    help_text: str,
    of_device: OfDevice,
    of_disk: OfDisk | None,
    source: str,
    absent: str,
    *,
    kind: Type = Type.COUNTER,
    details: bool = False,
) -> Family:
    return Family(
        f"container_fs_{name}",
        kind,
        help_text,
        "diskIO",
        Part.IO,
        source,
        rows=_by_device(of_device, of_disk),
        labels=("device",),
        reads=(("disks",) if of_disk else ()) + (("io.details",) if details else ()),
        absent=absent,
    )


_ROOT = "/proc/diskstats (root); "
_UNUSED = "for devices that were not used"
_COUNTED = f"{_UNUSED}; v1 from kernel 6.9: unless BFQ or a throttle rule is in use, or for the root"


def _counted(name: str, help_text: str, field: str, of_disk: OfDisk, source: str) -> Family:
    """A number that the block layer keeps for each cgroup."""
    return _disk(name, help_text, attrgetter(field), of_disk, f"{_ROOT}{source}", _COUNTED)


def _sectors(field: str) -> OfDevice:
    get = attrgetter(field)

    def value(device: IoDevice) -> Number | None:
        count: int | None = get(device)
        return None if count is None else count // SECTOR_BYTES

    return value


def _bytes(field: str) -> OfDisk:
    get = attrgetter(field)

    def value(disk: Disk) -> Number | None:
        count: int | None = get(disk)
        return None if count is None else count * SECTOR_BYTES

    return value


def _flight_seconds(device: IoDevice) -> Number | None:
    if device.service_seconds is None or device.wait_seconds is None:
        return None
    return device.service_seconds + device.wait_seconds


_DETAILS = (
    "but for the root, unless BFQ with CONFIG_BFQ_CGROUP_DEBUG, or CFQ (before kernel 5.0), is in use on v1"
)


def _detail(
    name: str,
    help_text: str,
    of_device: OfDevice,
    of_disk: str,
    source: str,
    *,
    kind: Type = Type.COUNTER,
) -> Family:
    """A number that some schedulers of v1 keep for each cgroup, and the block layer for the machine."""
    return _disk(
        name,
        help_text,
        of_device,
        attrgetter(of_disk),
        f"{_ROOT}v1 {source}",
        f"{_UNUSED}; {_DETAILS}",
        kind=kind,
        details=True,
    )


def _cost(word: str, help_text: str, absent: str) -> Family:
    return _disk(
        f"io_cost_{word}_seconds_total",
        help_text,
        attrgetter(f"cost_{word}_seconds"),
        None,
        f"io.stat cost.{word}",
        f"on cgroup v1; before kernel 5.10; for devices without io.cost.qos enable=1{absent}",
    )


_NO_DEBUG = "; without blk_cgroup.blkcg_debug_stats=1"
_TIME = "blkio.bfq.io_service_time_recursive"
_MERGED = "blkio.bfq.io_merged_recursive"
_V1_BYTES = "blkio.{bfq,throttle}.io_service_bytes_recursive"
_V1_OPERATIONS = "blkio.{bfq,throttle}.io_serviced_recursive"

FAMILIES = (
    _counted(
        "reads_bytes_total",
        "Bytes read from the device.",
        "read_bytes_total",
        _bytes("sectors_read_total"),
        f"io.stat rbytes; v1 {_V1_BYTES} Read",
    ),
    _counted(
        "writes_bytes_total",
        "Bytes written to the device.",
        "written_bytes_total",
        _bytes("sectors_written_total"),
        f"io.stat wbytes; v1 {_V1_BYTES} Write",
    ),
    _counted(
        "reads_total",
        "Read requests to the device.",
        "reads_total",
        attrgetter("reads_total"),
        f"io.stat rios; v1 {_V1_OPERATIONS} Read",
    ),
    _counted(
        "writes_total",
        "Write requests to the device.",
        "writes_total",
        attrgetter("writes_total"),
        f"io.stat wios; v1 {_V1_OPERATIONS} Write",
    ),
    _counted(
        "discards_total",
        "Requests to discard blocks of the device.",
        "discards_total",
        attrgetter("discards_total"),
        f"io.stat dios; v1 {_V1_OPERATIONS} Discard",
    ),
    _counted(
        "discarded_bytes_total",
        "Bytes of the device that were discarded.",
        "discarded_bytes_total",
        _bytes("sectors_discarded_total"),
        f"io.stat dbytes; v1 {_V1_BYTES} Discard",
    ),
    _disk(
        "sector_reads_total",
        "Sectors of 512 bytes that were read from the device.",
        _sectors("read_bytes_total"),
        attrgetter("sectors_read_total"),
        f"{_ROOT}io.stat rbytes / 512; v1 {_V1_BYTES} Read",
        _COUNTED,
    ),
    _disk(
        "sector_writes_total",
        "Sectors of 512 bytes that were written to the device.",
        _sectors("written_bytes_total"),
        attrgetter("sectors_written_total"),
        f"{_ROOT}io.stat wbytes / 512; v1 {_V1_BYTES} Write",
        _COUNTED,
    ),
    _detail(
        "reads_merged_total",
        "Reads that were merged into another request.",
        attrgetter("reads_merged_total"),
        "reads_merged_total",
        f"{_MERGED} Read",
    ),
    _detail(
        "writes_merged_total",
        "Writes that were merged into another request.",
        attrgetter("writes_merged_total"),
        "writes_merged_total",
        f"{_MERGED} Write",
    ),
    _detail(
        "read_seconds_total",
        "Time that reads took, in seconds, summed over requests.",
        attrgetter("read_seconds"),
        "read_seconds",
        f"{_TIME} Read",
    ),
    _detail(
        "write_seconds_total",
        "Time that writes took, in seconds, summed over requests.",
        attrgetter("write_seconds"),
        "write_seconds",
        f"{_TIME} Write",
    ),
    _detail(
        "io_current",
        "Requests that are waiting or, for the root, under way.",
        attrgetter("queued"),
        "io_current",
        "blkio.bfq.io_queued_recursive Total",
        kind=Type.GAUGE,
    ),
    _detail(
        "io_time_seconds_total",
        "Time that requests took at the device, in seconds; for the root, time in which there were any.",
        attrgetter("service_seconds"),
        "io_seconds",
        f"{_TIME} Total",
    ),
    _detail(
        "io_time_weighted_seconds_total",
        "Time that requests waited and took, in seconds, summed over requests.",
        _flight_seconds,
        "weighted_io_seconds",
        f"{_TIME} Total + blkio.bfq.io_wait_time_recursive Total",
    ),
    _cost(
        "usage", "Time of the device that the requests were charged, in seconds, by the io.cost model.", ""
    ),
    _cost("wait", "Time that requests waited for a budget of the io.cost controller, in seconds.", _NO_DEBUG),
    _cost("indebt", "Time in debt to the io.cost controller, in seconds.", _NO_DEBUG),
    _cost("indelay", "Time that tasks were delayed to pay a debt of I/O cost, in seconds.", _NO_DEBUG),
    Family(
        "container_blkio_device_usage_total",
        Type.COUNTER,
        "Bytes moved to and from the device, by operation.",
        "diskIO",
        Part.IO,
        f"io.stat rbytes, wbytes; v1 each operation of {_V1_BYTES}",
        rows=_blkio,
        labels=("device", "major", "minor", "operation"),
        absent=f"{_UNUSED}; v1 from kernel 6.9: unless BFQ or a throttle rule is in use",
    ),
)
