"""``/proc/<pid>/net/snmp`` and ``net/netstat``: the counters of TCP in the network namespace of a process.

::

    TcpExt: SyncookiesSent SyncookiesRecv ...
    TcpExt: 0 0 ...

Documentation/networking/snmp_counter.rst. A line of names and a line of values for each protocol; newer
kernels have more names. The files show the whole namespace, so processes that share one show the same
counters: ``namespaces.network_owners`` says whose they are.
"""

from __future__ import annotations

import functools

from cgwatch.proc.reading import number, parsed, read_bytes, shown, text


def read_tcp_counters(proc_root: str, pid: int) -> dict[str, int]:
    """Return the counters of ``Tcp`` and ``TcpExt`` by name in small letters, as cAdvisor has them.

    A few are no counters: ``rtoalgorithm``, ``rtomin``, ``rtomax``, ``maxconn`` (-1: no limit) and
    ``currestab``. cAdvisor has 99 names and shows 0 for those that this kernel does not print.

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process is gone or a zombie,
    which has left its namespaces.
    """
    counters: dict[str, int] = {}
    for name, protocol in (("snmp", b"Tcp"), ("netstat", b"TcpExt")):
        path = f"{proc_root}/{pid}/net/{name}"
        counters |= parsed(path, read_bytes(path), functools.partial(parse_counters, protocol=protocol))
    return counters


def parse_counters(data: bytes, protocol: bytes) -> dict[str, int]:
    """Return the counters of one protocol by name in small letters; ``ValueError`` says what is wrong."""
    before = protocol + b":"
    lines = [line[len(before) :].split() for line in data.split(b"\n") if line.startswith(before)]
    match lines:
        case [names, values] if len(names) == len(values):
            return {text(name).lower(): _value(value) for name, value in zip(names, values, strict=True)}
    raise ValueError(f"not a line of names and a line of as many values for {shown(protocol)}")


def _value(token: bytes) -> int:
    return -number(token[1:]) if token.startswith(b"-") else number(token)
