"""Block I/O by device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from cgwatch.cgroup.io import IoStats
from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot


def device_label(snapshot: Snapshot, major: int, minor: int) -> str:
    """Return the label ``device``: a path; for a device without a name its numbers, so that series differ."""
    return label("device", snapshot.devices.get((major, minor)) or f"{major}:{minor}")


def _by_device(field: str) -> Callable[[IoStats, Snapshot], Iterable[Row]]:
    get = attrgetter(field)

    def rows(io: IoStats, snapshot: Snapshot) -> Iterable[Row]:
        return [
            (device_label(snapshot, device.major, device.minor), get(device)) for device in io.devices or ()
        ]

    return rows


def _blkio(io: IoStats, snapshot: Snapshot) -> Iterable[Row]:
    for device in io.devices or ():
        device_labels = device_label(snapshot, device.major, device.minor)
        numbers = f'{device_labels},major="{device.major}",minor="{device.minor}"'
        operations = device.bytes_by_operation or (
            ("Read", device.read_bytes_total),
            ("Write", device.written_bytes_total),
        )
        for operation, value in operations:
            yield f"{numbers},{label('operation', operation)}", value


def _disk(name: str, help_text: str, field: str, source: str) -> Family:
    return Family(
        name,
        Type.COUNTER,
        help_text,
        "diskIO",
        Part.IO,
        source,
        rows=_by_device(field),
        labels=("device",),
        absent="for devices that were not used; v1 from kernel 6.9: unless BFQ or a throttle rule is in use",
    )


FAMILIES = (
    _disk(
        "container_fs_reads_bytes_total",
        "Bytes read from the device.",
        "read_bytes_total",
        "io.stat rbytes; v1 blkio.{bfq,throttle}.io_service_bytes_recursive Read",
    ),
    _disk(
        "container_fs_writes_bytes_total",
        "Bytes written to the device.",
        "written_bytes_total",
        "io.stat wbytes; v1 blkio.{bfq,throttle}.io_service_bytes_recursive Write",
    ),
    _disk(
        "container_fs_reads_total",
        "Read requests to the device.",
        "reads_total",
        "io.stat rios; v1 blkio.{bfq,throttle}.io_serviced_recursive Read",
    ),
    _disk(
        "container_fs_writes_total",
        "Write requests to the device.",
        "writes_total",
        "io.stat wios; v1 blkio.{bfq,throttle}.io_serviced_recursive Write",
    ),
    Family(
        "container_blkio_device_usage_total",
        Type.COUNTER,
        "Bytes moved to and from the device, by operation.",
        "diskIO",
        Part.IO,
        "io.stat rbytes, wbytes; v1 each operation of blkio.{bfq,throttle}.io_service_bytes_recursive",
        rows=_blkio,
        labels=("device", "major", "minor", "operation"),
        absent="as container_fs_reads_bytes_total",
    ),
)
