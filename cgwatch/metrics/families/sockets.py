"""Sockets by state, and the counters of TCP. cAdvisor calls all of these gauges, whatever their names say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot, TcpTables, UdpTables
from cgwatch.proc.sockets import TcpSockets, UdpSockets

_ABSENT = "without a network namespace of its own; several containers in one show it once"
_TCP_STATES = tuple((name, attrgetter(name)) for name in TcpSockets.__struct_fields__ if name != "is_cut")


def _tcp(version: str) -> Callable[[TcpTables, Snapshot], Iterable[Row]]:
    get = attrgetter(version)

    def rows(tables: TcpTables, _snapshot: Snapshot) -> Iterable[Row]:
        sockets: TcpSockets | None = get(tables)
        if sockets is None:
            return []
        return [(f'tcp_state="{name}"', count(sockets)) for name, count in _TCP_STATES]

    return rows


def _udp(version: str) -> Callable[[UdpTables, Snapshot], Iterable[Row]]:
    get = attrgetter(version)

    def rows(tables: UdpTables, _snapshot: Snapshot) -> Iterable[Row]:
        sockets: UdpSockets | None = get(tables)
        if sockets is None:
            return []
        return [
            ('udp_state="listen"', sockets.sockets),
            ('udp_state="dropped"', sockets.dropped),
            ('udp_state="rxqueued"', sockets.receive_queue_bytes),
            ('udp_state="txqueued"', sockets.transmit_queue_bytes),
        ]

    return rows


def _advanced(counters: Mapping[str, int], _snapshot: Snapshot) -> Iterable[Row]:
    return [(label("tcp_state", name), value) for name, value in counters.items()]


def _tables(
    protocol: str, number: str, part: Part, rows: Callable[..., Iterable[Row]], help_text: str
) -> Family:
    return Family(
        f"container_network_{protocol}{number}_usage_total",
        Type.GAUGE,
        help_text,
        protocol,
        part,
        f"/proc/PID/net/{protocol}{number} of the container's init process, up to 32 MiB",
        rows=rows,
        labels=(f"{protocol}_state",),
        absent=_ABSENT + ("; without IPv6" if number else ""),
    )


_UDP_HELP = "open (listen), datagrams dropped, bytes in the queues to be read and to be sent."
FAMILIES = (
    _tables("tcp", "", Part.TCP, _tcp("v4"), "TCP sockets of IPv4 by state."),
    _tables("tcp", "6", Part.TCP, _tcp("v6"), "TCP sockets of IPv6 by state."),
    _tables("udp", "", Part.UDP, _udp("v4"), f"UDP sockets of IPv4: {_UDP_HELP}"),
    _tables("udp", "6", Part.UDP, _udp("v6"), f"UDP sockets of IPv6: {_UDP_HELP}"),
    Family(
        "container_network_advance_tcp_stats_total",
        Type.GAUGE,
        "Counters of TCP by the kernel's name in small letters.",
        "advtcp",
        Part.TCP_COUNTERS,
        "/proc/PID/net/snmp Tcp and net/netstat TcpExt of the container's init process",
        rows=_advanced,
        labels=("tcp_state",),
        absent=f"{_ABSENT}; names that this kernel does not print",
    ),
)
