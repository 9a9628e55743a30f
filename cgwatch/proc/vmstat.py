"""``/proc/vmstat``: what the memory management of the whole machine has done.

::

    nr_free_pages 6011343
    oom_kill 8

proc_vmstat(5).
"""

from __future__ import annotations

from msgspec import Struct

from cgwatch.proc.reading import number, parsed, read_bytes, shown


class Vmstat(Struct, frozen=True):
    """Counts since boot; ``None`` where the kernel has no such line."""

    oom_kills_total: int | None = None
    """Processes that the OOM killer has killed, for whatever limit and in whatever cgroup; since 4.13.

    The kernel counts here before it counts at the cgroup, and there before it writes its log."""


def read_vmstat(proc_root: str = "/proc") -> Vmstat:
    """Return the machine's counts; raises a ``KernelFileError`` with the path."""
    path = f"{proc_root}/vmstat"
    return parsed(path, read_bytes(path), parse_vmstat)


def parse_vmstat(data: bytes) -> Vmstat:
    """Return the lines that cgwatch knows; ``ValueError`` for a wrong one, and for an empty file."""
    if not data.strip():
        raise ValueError("no lines")
    for line in data.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == b"oom_kill":
            try:
                return Vmstat(number(value))
            except ValueError:
                raise ValueError(f"not a count: {shown(line)}") from None
    return Vmstat()
