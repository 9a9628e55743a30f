"""``/proc/<pid>/net/dev``: the counters of the interfaces in the network namespace of a process.

::

    Inter-|   Receive                                                |  Transmit
     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo ...
        lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0 ...

proc_pid_net(5). The file shows the whole namespace, so processes that share one show the same counters;
``namespaces.network_owners`` says whose they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from cgwatch.proc.reading import number, parsed, read_bytes, shown, text

if TYPE_CHECKING:
    from collections.abc import Iterable

_COUNTED_COLUMNS = [b"bytes", b"packets", b"errs", b"drop"]
_SIDES = 3
"""Of the header, between its bars: the name, what is received, what is transmitted."""

UNCOUNTED_PREFIXES = ("lo", "veth", "docker", "nerdctl")
"""cAdvisor's rule, inside containers too, in either case of letters.

lo is not traffic; veth, docker and nerdctl are host ends that would count container traffic twice.
"""


class InterfaceCounters(Struct, frozen=True):
    """One interface since it was made: what it received and transmitted."""

    name: str
    receive_bytes_total: int
    receive_packets_total: int
    receive_errors_total: int
    receive_dropped_total: int
    transmit_bytes_total: int
    transmit_packets_total: int
    transmit_errors_total: int
    transmit_dropped_total: int


def read_net_dev(proc_root: str, pid: int) -> tuple[InterfaceCounters, ...]:
    """Return the interfaces in the network namespace of ``pid``, in the kernel's order.

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process is gone, or is
    a zombie, which has left its namespaces.
    """
    path = f"{proc_root}/{pid}/net/dev"
    return parsed(path, read_bytes(path), parse_net_dev)


def parse_net_dev(data: bytes) -> tuple[InterfaceCounters, ...]:
    """Return the interfaces of a ``net/dev``; ``ValueError`` says what is wrong."""
    _, _, after_first = data.partition(b"\n")
    header, _, body = after_first.partition(b"\n")
    sides = [side.split() for side in header.split(b"|")]
    if len(sides) != _SIDES or any(side[: len(_COUNTED_COLUMNS)] != _COUNTED_COLUMNS for side in sides[1:]):
        raise ValueError(f"no header that names the columns, but {shown(header)}")
    received_columns, columns = len(sides[1]), len(sides[1]) + len(sides[2])
    return tuple(_interface(line, received_columns, columns) for line in body.split(b"\n") if line)


def _interface(line: bytes, received_columns: int, columns: int) -> InterfaceCounters:
    # The name may hold colons (eth0:1), the counters never do; old kernels leave no space after the colon.
    name, colon, rest = line.rpartition(b":")
    counters = rest.split()
    name = name.strip()
    if not (colon and name) or len(counters) != columns:
        raise ValueError(f"not an interface with {columns} counters: {shown(line)}")
    received = (number(token) for token in counters[: len(_COUNTED_COLUMNS)])
    transmitted = (number(token) for token in counters[received_columns:][: len(_COUNTED_COLUMNS)])
    return InterfaceCounters(text(name), *received, *transmitted)


def counted(interfaces: Iterable[InterfaceCounters]) -> tuple[InterfaceCounters, ...]:
    """Return the interfaces without those of ``UNCOUNTED_PREFIXES``."""
    return tuple(
        interface for interface in interfaces if not interface.name.lower().startswith(UNCOUNTED_PREFIXES)
    )
