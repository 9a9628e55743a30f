"""The pids controller: tasks (processes and threads) of one cgroup and all below it.

v2: Documentation/admin-guide/cgroup-v2.rst, "PID". v1: Documentation/admin-guide/cgroup-v1/pids.rst,
the same files since the same kernels.
"""

from __future__ import annotations

from msgspec import Struct, structs

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import flat_keyed, integer, limit


class PidsStats(Struct, frozen=True, gc=False):
    """Tasks and their limit."""

    current: int | None = None
    limit: int | float | None = None
    peak: int | None = None
    """The highest ``current`` so far; since 6.1."""
    limit_hits_total: int | None = None
    """``max`` of ``pids.events``. v2 since 6.11: how often this cgroup's limit or one below refused a fork.
    v1, and v2 before: how many forks in this very cgroup were refused, by its limit or one above. Read as
    seldom as a limit."""


class _PidsEvents(Struct, frozen=True, gc=False):
    max: int | None = None


FILES_V2 = (
    File("pids.current", integer, pulse=True, on_root=False),
    File("pids.max", limit, setting=True, on_root=False),
    File("pids.peak", integer, since=(6, 1), on_root=False),
    # It moves when something goes wrong: read as seldom as a limit.
    File("pids.events", flat_keyed(_PidsEvents, {"max": "max"}), since=(4, 8), on_root=False, setting=True),
)
FILES_V1 = tuple(structs.replace(file, controller="pids") for file in FILES_V2)


def stats(
    current: int | None, maximum: int | float | None, peak: int | None, events: _PidsEvents | None
) -> PidsStats:
    """Make one object of the files in ``FILES_V2`` or ``FILES_V1``."""
    return PidsStats(current, maximum, peak, events.max if events else None)
