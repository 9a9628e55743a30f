"""``/proc/<pid>/cgroup``: which cgroup a process is in, in each hierarchy.

::

    4:memory:/docker/0123
    3:cpu,cpuacct:/docker/0123
    1:name=systemd:/docker/0123
    0::/docker/0123

cgroups(7). As seen from the cgroup namespace of the reader: what is outside it begins with ``/..``. A process
that has died and was not yet waited for is still there: on v2 with its cgroup, and ``(deleted)`` behind it
where that was removed; on v1 in the root.
"""

from __future__ import annotations

from cgwatch.proc.reading import number, parsed, read_bytes, shown, text

UNIFIED = ""
"""The key of the unified hierarchy, which names no controller."""

_FIELDS = 3
_DELETED = " (deleted)"


def read_membership(proc_root: str, pid: int) -> dict[str, str]:
    """Return the process's cgroup by controller; ``UNIFIED`` is the v2 hierarchy's.

    Raises a ``KernelFileError`` with the path; ``FileMissingError`` or ``CgroupGoneError`` when the process
    is gone.
    """
    path = f"{proc_root}/{pid}/cgroup"
    return parsed(path, read_bytes(path), parse_membership)


def parse_membership(data: bytes) -> dict[str, str]:
    """Return paths by controller; ``ValueError`` for a line that is none of this file."""
    found = {}
    for line in data.split(b"\n"):
        if not line:
            continue
        fields = line.split(b":", _FIELDS - 1)
        if len(fields) != _FIELDS or not fields[2].startswith(b"/"):
            raise ValueError(f"not the cgroup of a hierarchy: {shown(line)}")
        number(fields[0])
        path = text(fields[2]).removesuffix(_DELETED)
        for controller in fields[1].split(b","):
            found[text(controller)] = path
    return found
