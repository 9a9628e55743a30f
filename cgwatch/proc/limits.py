"""``/proc/<pid>/limits``: the resource limits of a process.

::

    Limit                     Soft Limit           Hard Limit           Units
    Max cpu time              unlimited            unlimited            seconds
    Max open files            1024                 524288               files
    Max nice priority         0                    0

proc_pid_limits(5), since Linux 2.6.24; what each one limits is in getrlimit(2).
"""

from __future__ import annotations

import math

from msgspec import Struct

from cgwatch.proc.reading import number, parsed, read_bytes, shown, text

_HEADER = b"Limit  "
_NAME_WIDTH = 25


class ResourceLimit(Struct, frozen=True):
    """One limit in the kernel's own unit (files, bytes, seconds, ...); ``math.inf`` is none.

    cAdvisor's metrics say -1 for none.
    """

    soft: int | float
    """What holds."""
    hard: int | float
    """How far the process may raise it."""


def read_limits(proc_root: str, pid: int) -> dict[str, ResourceLimit]:
    """Return the limits of a process by cAdvisor's names: ``max_open_files``, ``max_cpu_time``, ...

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process has ended.
    """
    path = f"{proc_root}/{pid}/limits"
    return parsed(path, read_bytes(path), parse_limits)


def parse_limits(data: bytes) -> dict[str, ResourceLimit]:
    """Return name -> limit; ``ValueError`` says what is wrong."""
    header, _, body = data.partition(b"\n")
    if not header.startswith(_HEADER):
        raise ValueError(f"no header that names the columns, but {shown(header)}")
    limits = {}
    for line in body.split(b"\n"):
        if not line:
            continue
        # A column filled to its last digit has a single space after it, as the words of a name have.
        name = line[:_NAME_WIDTH].strip()
        columns = line[_NAME_WIDTH:].split()
        match columns:
            case [soft, hard] | [soft, hard, _] if name:
                limits[_label(name)] = ResourceLimit(_value(soft), _value(hard))
            case _:
                raise ValueError(f"not a limit: {shown(line)}")
    return limits


def _label(name: bytes) -> str:
    return text(name).lower().replace(" ", "_")


def _value(token: bytes) -> int | float:
    return math.inf if token == b"unlimited" else number(token)
