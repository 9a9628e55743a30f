"""``/proc/<pid>/net/tcp``, ``tcp6``, ``udp``, ``udp6``: the sockets in the network namespace of a process.

::

      sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ...
       0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1581 ...

Documentation/networking/proc_net_tcp.rst, proc_pid_net(5). The files show the whole namespace, so processes
that share one show the same sockets: ``namespaces.network_owners`` says whose they are.

They are dear. For each of the two TCP files the kernel walks a hash table that all namespaces share and that
has a slot for every 128 KiB or so of memory, up to 524288: 7 ms with hardly a socket in it, on a small
machine. And a busy host has a hundred thousand lines of 150 bytes. So these are off unless asked for, read
piece by piece, and only up to a bound.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct

from cgwatch.errors import MalformedFileError, from_os_error
from cgwatch.proc.reading import shown

T = TypeVar("T")

MOST_BYTES = 32 << 20
"""Some 220,000 sockets."""

_CHUNK_BYTES = 65536
_HEADER = re.compile(rb" *sl +local_address +rem(?:ote)?_address +st ")
_ADDRESSES = rb"^ *\d+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} "
_TCP = re.compile(_ADDRESSES + rb"(0[1-9A-B]) ", re.MULTILINE)
_UDP = re.compile(
    _ADDRESSES + rb"([0-9A-F]{2}) ([0-9A-F]{8}):([0-9A-F]{8}) [^\n]* (\d{1,10}) *$", re.MULTILINE
)
_UDP_UNCONNECTED = b"07"


class TcpSockets(Struct, frozen=True):
    """How many TCP sockets are in which state (include/net/tcp_states.h); cAdvisor's names."""

    established: int = 0
    synsent: int = 0
    synrecv: int = 0
    finwait1: int = 0
    finwait2: int = 0
    timewait: int = 0
    close: int = 0
    closewait: int = 0
    lastack: int = 0
    listen: int = 0
    closing: int = 0
    is_cut: bool = False
    """There are more sockets than were counted."""


class UdpSockets(Struct, frozen=True):
    """The UDP sockets, and the sums over those that are open now."""

    sockets: int = 0
    """All of them: what cAdvisor calls ``listen``."""
    unconnected: int = 0
    """Those that take datagrams from anyone."""
    dropped: int = 0
    """Datagrams that were dropped on arrival (full buffer, wrong checksum); gone with its socket."""
    receive_queue_bytes: int = 0
    """Arrived and not yet read, with the kernel's own overhead. cAdvisor has this and the next swapped."""
    transmit_queue_bytes: int = 0
    is_cut: bool = False
    """There are more sockets than were counted."""


_TCP_STATES = {b"%02X" % state: name for state, name in enumerate(TcpSockets.__struct_fields__[:-1], start=1)}


def read_tcp_sockets(
    proc_root: str, pid: int, name: str = "tcp", *, most_bytes: int = MOST_BYTES
) -> TcpSockets:
    """Count the sockets in ``net/tcp`` or ``net/tcp6``.

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process is gone or a zombie,
    which has left its namespaces, or when the kernel has no IPv6.
    """
    return _streamed(f"{proc_root}/{pid}/net/{name}", count_tcp, most_bytes)


def read_udp_sockets(
    proc_root: str, pid: int, name: str = "udp", *, most_bytes: int = MOST_BYTES
) -> UdpSockets:
    """Count the sockets in ``net/udp`` or ``net/udp6``; raises as ``read_tcp_sockets`` does."""
    return _streamed(f"{proc_root}/{pid}/net/{name}", count_udp, most_bytes)


def count_tcp(pieces: Iterable[bytes]) -> TcpSockets:
    """Count the sockets in the pieces of a table; ``ValueError`` says what is wrong.

    A table that ends within a line was cut.
    """
    counts: Counter[bytes] = Counter()
    table = _Table(pieces)
    for lines in table:
        states = _TCP.findall(lines)
        _require_all(lines, len(states), _TCP)
        counts.update(states)
    return TcpSockets(**{_TCP_STATES[state]: count for state, count in counts.items()}, is_cut=table.is_cut)


def count_udp(pieces: Iterable[bytes]) -> UdpSockets:
    """Add up the sockets in the pieces of a table, as ``count_tcp`` does."""
    sockets = unconnected = dropped = received = transmitted = 0
    table = _Table(pieces)
    for lines in table:
        rows = _UDP.findall(lines)
        _require_all(lines, len(rows), _UDP)
        sockets += len(rows)
        for state, transmit_queue, receive_queue, drops in rows:
            unconnected += state == _UDP_UNCONNECTED
            transmitted += int(transmit_queue, 16)
            received += int(receive_queue, 16)
            dropped += int(drops)
    return UdpSockets(sockets, unconnected, dropped, received, transmitted, table.is_cut)


def _require_all(lines: bytes, found: int, row: re.Pattern[bytes]) -> None:
    if found != lines.count(b"\n"):
        wrong = next(line for line in lines.split(b"\n") if not row.match(line))
        raise ValueError(f"not a socket: {shown(wrong)}")


class _Table:
    """Whole lines, after the header, of what comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.is_cut = False

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        is_header = True
        for piece in self._pieces:
            lines, newline, rest = (rest + piece).rpartition(b"\n")
            if newline and is_header:
                header, _, lines = (lines + newline).partition(b"\n")
                _require_header(header)
                is_header = False
                yield lines
            elif newline:
                yield lines + newline
        if is_header:
            _require_header(rest)
        self.is_cut = bool(rest)


def _require_header(header: bytes) -> None:
    if not _HEADER.match(header):
        raise ValueError(f"no header that names the columns, but {shown(header)}")


def _streamed(path: str, count: Callable[[Iterable[bytes]], T], most_bytes: int) -> T:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return count(_pieces(descriptor, most_bytes))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_os_error(path, error) from error
    except ValueError as error:
        raise MalformedFileError(path, str(error)) from error


def _pieces(descriptor: int, most_bytes: int) -> Iterator[bytes]:
    left = most_bytes
    while piece := os.read(descriptor, _CHUNK_BYTES):
        yield piece
        left -= len(piece)
        if left <= 0:
            # Only the end of the file tells a table that ends here from one that goes on.
            yield os.read(descriptor, 1)
            return
