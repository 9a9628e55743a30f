"""Network counters by interface."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot
from cgwatch.proc.network import InterfaceCounters


def _network(direction: str, what: str, field: str, help_text: str) -> Family:
    get = attrgetter(field)

    def rows(interfaces: tuple[InterfaceCounters, ...], _snapshot: Snapshot) -> Iterable[Row]:
        return [(label("interface", interface.name), get(interface)) for interface in interfaces]

    return Family(
        f"container_network_{direction}_{what}_total",
        Type.COUNTER,
        help_text,
        "network",
        Part.NETWORK,
        "/proc/PID/net/dev of the container's init process",
        rows=rows,
        labels=("interface",),
        absent="without a network namespace of its own; several containers in one show it once",
    )


FAMILIES = tuple(
    _network(direction, what, f"{direction}_{field}_total", f"{words} {done} by the interface.")
    for direction, done in (("receive", "received"), ("transmit", "transmitted"))
    for what, field, words in (
        ("bytes", "bytes", "Bytes"),
        ("packets", "packets", "Packets"),
        ("packets_dropped", "dropped", "Packets dropped instead of"),
        ("errors", "errors", "Errors among packets"),
    )
)
