"""What bounds a container's block I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import attrgetter

from cgwatch.cgroup.io import IoStats
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.families.disk import device_label
from cgwatch.model import Snapshot


def _by_device(field: str) -> Callable[[IoStats, Snapshot], Iterable[Row]]:
    get = attrgetter(field)

    def rows(io: IoStats, snapshot: Snapshot) -> Iterable[Row]:
        bounds: list[tuple[str, Number]] = [
            (device_label(snapshot, bound.major, bound.minor), get(bound)) for bound in io.limits
        ]
        return [(device, value) for device, value in bounds if value != math.inf]

    return rows


def _bound(name: str, help_text: str, field: str, key: str, v1: str) -> Family:
    return Family(
        f"container_spec_io_{name}_per_second",
        Type.GAUGE,
        help_text,
        "spec",
        Part.IO,
        f"io.max {key}; v1 blkio.throttle.{v1}_device",
        rows=_by_device(field),
        labels=("device",),
        absent="without a bound on the device",
    )


FAMILIES = (
    _bound("read_bytes", "Bytes that may be read in each second.", "read_bytes", "rbps", "read_bps"),
    _bound("write_bytes", "Bytes that may be written in each second.", "written_bytes", "wbps", "write_bps"),
    _bound("reads", "Reads that may be made in each second.", "reads", "riops", "read_iops"),
    _bound("writes", "Writes that may be made in each second.", "writes", "wiops", "write_iops"),
    Family(
        "container_spec_io_weight",
        Type.GAUGE,
        "Relative weight of the container's I/O; 100 is the default of cgroup v2 and of BFQ.",
        "spec",
        Part.IO,
        "io.{weight,bfq.weight}; v1 blkio.{bfq.weight,weight}",
        value=attrgetter("weight"),
        absent="for the root; without io.cost (v2) and BFQ",
    ),
)
