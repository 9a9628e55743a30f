"""The rows on the node's network, disks and file systems, and on which containers use them."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from dashboards.generate.board import Row
from dashboards.generate.panels import BY_CONTAINER, OPENS, Query, Style, lines
from dashboards.generate.promql import CONTAINERS, NAMES, NODE, rate, series, share, top, total, worst

_BY = "instance, device"
_DEVICE = "{{instance}} {{device}}"


def _seconds_each(what: str) -> str:
    """Return the time that a request took; no series while there is none."""
    seconds = total(_BY, rate(f"container_fs_{what}_seconds_total", NODE))
    return f"{seconds} / ({total(_BY, rate(f'container_fs_{what}s_total', NODE))} > 0)"


def _full(title: str, description: str, expr: str) -> timeseries.Panel:
    return lines(title, description, "percentunit", Query(worst(_BY, expr), _DEVICE))


_LABELS = "instance, id, device"
_INODES_FREE = share(
    series("container_fs_inodes_free", NODE), series("container_fs_inodes_total", NODE), _LABELS
)

DISKS = Row(
    "Disks and file systems",
    (
        lines(
            "Disks busy",
            "Share of the time in which a disk had something to do. Disks that do several things at once, as "
            "flash does, can do more at 100 %.",
            "percentunit",
            Query(total(_BY, rate("container_fs_io_time_seconds_total", NODE)), _DEVICE),
        ),
        lines(
            "Time of a request",
            "How long a read (above) and a write (below) took, with the time that it waited, on average.",
            "s",
            Query(_seconds_each("read"), f"{_DEVICE} read"),
            Query(_seconds_each("write"), f"{_DEVICE} written", Style.BELOW),
        ),
        _full(
            "File systems",
            "Space in use, of all space; what is kept for root counts as free.",
            share(
                series("container_fs_usage_bytes", NODE), series("container_fs_limit_bytes", NODE), _LABELS
            ),
        ),
        _full(
            "Inodes used",
            "Inodes in use, of all: without a free one no file can be made, however much space there is.",
            f"1 - {_INODES_FREE}",
        ),
    ),
    collapsed=True,
)

TRAFFIC = Row(
    "Network and block I/O",
    (
        lines(
            "Network of the node",
            "Bytes received (above) and sent (below), by interface of the host.",
            "Bps",
            Query(
                total("instance, interface", rate("container_network_receive_bytes_total", NODE)),
                "{{instance}} {{interface}} received",
            ),
            Query(
                total("instance, interface", rate("container_network_transmit_bytes_total", NODE)),
                "{{instance}} {{interface}} sent",
                Style.BELOW,
            ),
        ),
        lines(
            "Network of containers",
            "Bytes received (above) and sent (below). Containers that share a network are shown once, as the "
            "one that made it; those on the host's network are in the node's." + OPENS,
            "Bps",
            Query(
                top(total(NAMES, rate("container_network_receive_bytes_total", CONTAINERS))),
                f"{BY_CONTAINER} received",
            ),
            Query(
                top(total(NAMES, rate("container_network_transmit_bytes_total", CONTAINERS))),
                f"{BY_CONTAINER} sent",
                Style.BELOW,
            ),
            opens_container=True,
        ),
        lines(
            "Block I/O of the node",
            "Bytes read (above) and written (below), by device.",
            "Bps",
            Query(
                total("instance, device", rate("container_fs_reads_bytes_total", NODE)),
                "{{instance}} {{device}} read",
            ),
            Query(
                total("instance, device", rate("container_fs_writes_bytes_total", NODE)),
                "{{instance}} {{device}} written",
                Style.BELOW,
            ),
        ),
        lines(
            "Block I/O of containers",
            "Bytes read (above) and written (below), on all devices." + OPENS,
            "Bps",
            Query(
                top(total(NAMES, rate("container_fs_reads_bytes_total", CONTAINERS))),
                f"{BY_CONTAINER} read",
            ),
            Query(
                top(total(NAMES, rate("container_fs_writes_bytes_total", CONTAINERS))),
                f"{BY_CONTAINER} written",
                Style.BELOW,
            ),
            opens_container=True,
        ),
    ),
)
