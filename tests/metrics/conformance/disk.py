"""Block I/O beyond bytes and operations, and what bounds it."""

from __future__ import annotations

import re

from tests.metrics.conformance.rules import COUNTER, GAUGE, Row, Rule, device, file, none

# What the node's disks did, where a cgroup does not say, is the root's; but what a disk is made of is in
# /sys/dev/block, which no captured tree has.
_MIXED = "the host's of every device, in units 10^6 too small"


def _told(name: str, pattern: str) -> Rule:
    """The cgroups whose kernel file has this."""
    return lambda cgroup: re.search(pattern, cgroup.text(name)) is not None


def _device() -> tuple[Row, ...]:
    v1, v2 = device("blkio.throttle.io_service_bytes_recursive"), device("io.stat")
    return (
        *(
            Row(f"container_fs_sector_{what}_total", COUNTER, ("device",), v1, v2, "the host's")
            for what in ("reads", "writes")
        ),
        *(
            Row(f"container_fs_{what}_total", COUNTER, ("device",), v1, v2, own=True)
            for what in ("discards", "discarded_bytes")
        ),
    )


def _details() -> tuple[Row, ...]:
    def row(what: str, kind: str = COUNTER) -> Row:
        return Row(f"container_fs_{what}", kind, ("device",), none, none, _MIXED)

    return (
        *(row(f"{what}_merged_total") for what in ("reads", "writes")),
        *(row(f"{what}_seconds_total") for what in ("read", "write", "io_time", "io_time_weighted")),
        row("io_current", GAUGE),
    )


def _costs() -> tuple[Row, ...]:
    return tuple(
        Row(
            f"container_fs_io_cost_{what}_seconds_total",
            COUNTER,
            ("device",),
            none,
            _told("io.stat", rf" cost\.{what}=\d"),
        )
        for what in ("usage", "wait", "indebt", "indelay")
    )


def _spec() -> tuple[Row, ...]:
    def row(what: str, v1: str, v2: str) -> Row:
        on_v1, on_v2 = _told(f"blkio.throttle.{v1}_device", r"\d"), _told("io.max", rf"{v2}=\d")
        return Row(f"container_spec_io_{what}_per_second", GAUGE, ("device",), on_v1, on_v2, own=True)

    return (
        row("read_bytes", "read_bps", "rbps"),
        row("write_bytes", "write_bps", "wbps"),
        row("reads", "read_iops", "riops"),
        row("writes", "write_iops", "wiops"),
        Row("container_spec_io_weight", GAUGE, (), file("blkio.bfq.weight"), file("io.weight"), own=True),
    )


ROWS: tuple[Row, ...] = (*_device(), *_details(), *_costs(), *_spec())
