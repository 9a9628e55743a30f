"""The files of every cgroup, whatever its controllers.

v2: Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files".
"""

from __future__ import annotations

from msgspec import Struct, structs

from cgwatch.cgroup.files import ANY, File
from cgwatch.cgroup.formats import FormatError, flat_keyed, integer


class CoreStats(Struct, frozen=True, gc=False):
    """Life of one cgroup and the size of the tree below it."""

    processes: int | None = None
    """Processes in this very cgroup, without its descendants."""
    first_pid: int | None = None
    """Of ``processes``, in the reader's pid namespace: the lowest on v1, the oldest on v2. ``None`` when
    there is none, or none that the reader's pid namespace can name."""
    populated: bool | None = None
    """v2: whether any process lives here or below."""
    frozen: bool | None = None
    """v2: whether the cgroup is frozen; since 5.2."""
    descendants: int | None = None
    """v2: all cgroups below it. Read as seldom as a limit."""
    dying_descendants: int | None = None
    """v2: removed, and still held by page cache or kernel objects: growing without end is a leak. Read as
    seldom as a limit."""


class _Events(Struct, frozen=True, gc=False):
    populated: int | None = None
    frozen: int | None = None


class CgroupStat(Struct, frozen=True, gc=False):
    """``cgroup.stat``, since 4.14."""

    descendants: int | None = None
    dying_descendants: int | None = None


class _Processes(Struct, frozen=True, gc=False):
    count: int
    first_pid: int | None


def parse_processes(raw: bytes) -> _Processes:
    """``cgroup.procs``: one pid a line; 0 stands for a process outside the reader's pid namespace."""
    first, _, _ = raw.partition(b"\n")
    if not first:
        if raw:
            raise FormatError("one pid a line", raw)
        return _Processes(0, None)
    if not first.isdigit() or not raw.endswith(b"\n"):
        raise FormatError("one pid a line", raw)
    return _Processes(raw.count(b"\n"), integer(first) or None)


STAT = File(
    "cgroup.stat",
    flat_keyed(CgroupStat, {"descendants": "nr_descendants", "dying_descendants": "nr_dying_descendants"}),
    since=(4, 14),
)
_EVENTS = File(
    "cgroup.events",
    flat_keyed(_Events, {"populated": "populated", "frozen": "frozen"}),
    pulse=True,
    on_root=False,
)
_PROCESSES = File("cgroup.procs", parse_processes, many_records=True)

# A leak shows in hours: the file is read as seldom as a limit.
_SELDOM_STAT = structs.replace(STAT, setting=True)

FILES_V2 = (_PROCESSES, _EVENTS, _SELDOM_STAT)
# v1 makes the list when a file is opened, and anew when nobody has read it for a second
# (CGROUP_PIDLIST_DESTROY_DELAY in kernel/cgroup/cgroup-v1.c).
_STALE_SECONDS = 1.5
# A cgroup made by hand may be in a few hierarchies only: any of them tells who lives there.
FILES_V1 = (structs.replace(_PROCESSES, controller=ANY, stale_seconds=_STALE_SECONDS), _EVENTS, _SELDOM_STAT)


def stats(processes: _Processes | None, events: _Events | None, stat: CgroupStat | None) -> CoreStats:
    """Make one object of the files in ``FILES_V2`` or ``FILES_V1``."""
    return CoreStats(
        processes=processes.count if processes else None,
        first_pid=processes.first_pid if processes else None,
        populated=bool(events.populated) if events and events.populated is not None else None,
        frozen=bool(events.frozen) if events and events.frozen is not None else None,
        descendants=stat.descendants if stat else None,
        dying_descendants=stat.dying_descendants if stat else None,
    )
