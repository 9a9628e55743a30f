"""Namespaces of processes, and whose a network namespace is.

``/proc/<pid>/ns/<kind>`` is a symbolic link such as ``net:[4026531840]`` (namespaces(7), since Linux 3.8).
``/proc/<pid>/stat`` gives the start of a process, which tells two processes apart that had the same pid.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from msgspec import Struct

from cgwatch.errors import KernelFileError
from cgwatch.proc.reading import number, parsed, read_bytes, read_link, shown

Key = TypeVar("Key", bound=Hashable)

_START_FIELD = 22
"""Of proc_pid_stat(5), counted from 1; the first after the command's ``)`` is the third."""


def namespace(proc_root: str, pid: int, kind: str) -> int:
    """Return the inode of a namespace of ``pid``.

    ``kind`` is a name in ``/proc/<pid>/ns``: ``net``, ``mnt``, ``pid``, ``uts``, ``ipc``, ``user``,
    ``cgroup``, ``time``, ``pid_for_children``, ``time_for_children``.

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process is gone or a zombie,
    or the kernel has no such namespaces; ``AccessDeniedError`` without the right to trace the process.
    """
    path = f"{proc_root}/{pid}/ns/{kind}"
    return parsed(path, read_link(path), functools.partial(parse_namespace, kind=kind))


def network_namespace(proc_root: str, pid: int) -> int:
    """Return the inode of the network namespace of ``pid``; raises as ``namespace`` does."""
    return namespace(proc_root, pid, "net")


def parse_namespace(link: bytes, kind: str) -> int:
    """Return the inode in ``kind:[inode]``; ``ValueError`` when it is none."""
    # What pid_for_children links to is a pid namespace like any other.
    before = kind.removesuffix("_for_children").encode() + b":["
    if not (link.startswith(before) and link.endswith(b"]")):
        raise ValueError(f"not a namespace of kind {kind}: {shown(link)}")
    return number(link[len(before) : -1])


def is_foreign(proc_root: str) -> bool:
    """Whether ``proc_root`` numbers processes otherwise than this process does: another pid namespace's.

    cgroup.procs lists pids as its reader's namespace numbers them. A tree of plain files is not foreign.
    """
    try:
        return read_link(f"{proc_root}/self") != str(os.getpid()).encode()
    except KernelFileError:
        return False


def start_ticks(proc_root: str, pid: int) -> int:
    """Return when ``pid`` started, in clock ticks (``Machine.user_hz`` a second) since the machine did.

    Raises a ``KernelFileError`` with the path; ``FileMissingError`` when the process is gone.
    """
    path = f"{proc_root}/{pid}/stat"
    return parsed(path, read_bytes(path), parse_start_ticks)


def parse_start_ticks(data: bytes) -> int:
    """Return the field ``starttime`` of a ``/proc/<pid>/stat``; ``ValueError`` when it has none."""
    # The command may itself hold spaces and parentheses: only the last one ends it.
    _, end, rest = data.rpartition(b")")
    fields = rest.split()
    if not end or len(fields) <= _START_FIELD - 3:
        raise ValueError(f"no field {_START_FIELD}: {shown(data)}")
    return number(fields[_START_FIELD - 3])


class Candidate(Struct, Generic[Key], frozen=True):
    """A cgroup that could show the counters of the network namespace its process is in."""

    key: Key
    """Identity of the cgroup, the same at every tick."""
    pid: int
    """One process of it; its ``net/dev`` is what would be read."""
    namespace: int
    """Inode of the network namespace of ``pid``."""
    is_container: bool
    created_order: int
    """The cgroup's inode, which grows with each new cgroup."""


def network_owners(
    candidates: Iterable[Candidate[Key]],
    *,
    host_namespace: int | None,
    root: Key,
    previous: Mapping[int, Candidate[Key]],
) -> dict[int, Candidate[Key]]:
    """Decide which one cgroup shows the counters of each network namespace: namespace -> owner.

    A pod or ``--network container:X`` shares one namespace among containers. Shown for each of them, its
    traffic would be counted as often in every sum. Its owner is the container that was created first (the
    pause container, X), or the first cgroup where no container shares it. An owner stays so for as long
    as it is a candidate in that namespace, so that no counter jumps from one series to another and back.

    The host's namespace is that of the cgroup ``root`` alone: a container on the host's network has no
    counters of its own. ``host_namespace`` is ``None`` when pid 1 may not be traced: then the host's is taken
    for one like any other, and still counted once.

    ``candidates`` has each key once; of two with the same ``created_order`` the earlier one counts.
    ``previous`` is what the last tick returned, at first empty.
    """
    owners: dict[int, Candidate[Key]] = {}

    def rank(candidate: Candidate[Key]) -> tuple[bool, bool, int]:
        before = previous.get(candidate.namespace)
        is_new = before is None or before.key != candidate.key
        return is_new, not candidate.is_container, candidate.created_order

    for candidate in candidates:
        if candidate.namespace == host_namespace and candidate.key != root:
            continue
        rival = owners.get(candidate.namespace)
        if rival is None or rank(candidate) < rank(rival):
            owners[candidate.namespace] = candidate
    return owners
