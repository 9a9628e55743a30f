"""``/proc/<pid>/schedstat``: how long a process ran, and how long it waited for a CPU.

::

    1060132 3856230 4

Nanoseconds on a CPU, nanoseconds on a run queue, times that it was put on a CPU: Documentation/scheduler/
sched-stats.rst, since Linux 2.6.23. The file exists with CONFIG_SCHED_INFO, which every distribution sets.

It tells of the thread that leads the process and of no other, and so do these readers, as cAdvisor does.
All threads would cost an open each, twice over, for what two files of the cgroup tell exactly: the run time
of all threads is ``usage_usec`` of cpu.stat, and what waiting costs them is cpu.pressure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct
from msgspec.structs import astuple

from cgwatch.errors import CgroupGoneError, FileMissingError, KernelFileError
from cgwatch.proc.namespaces import start_ticks
from cgwatch.proc.reading import number, parsed, read_bytes, shown

_NANOSECONDS = 1_000_000_000


class Schedstat(Struct, frozen=True):
    """One process since it started, or many of them added up."""

    run_seconds: float = 0.0
    """On a CPU."""
    runqueue_seconds: float = 0.0
    """Ready to run, and waiting for a CPU."""
    run_periods_total: int = 0
    """Times that it was given a CPU."""

    def __add__(self, other: Schedstat) -> Schedstat:
        return Schedstat(
            self.run_seconds + other.run_seconds,
            self.runqueue_seconds + other.runqueue_seconds,
            self.run_periods_total + other.run_periods_total,
        )

    def __sub__(self, other: Schedstat) -> Schedstat:
        return Schedstat(
            self.run_seconds - other.run_seconds,
            self.runqueue_seconds - other.runqueue_seconds,
            self.run_periods_total - other.run_periods_total,
        )


_NOTHING = Schedstat()


class Process(Struct, frozen=True):
    """Identity of a process: a pid comes again, with another start."""

    pid: int
    start_ticks: int


class Schedstats(Struct, frozen=True):
    """The processes of one cgroup at one moment. Those that have ended are in neither field."""

    processes: Mapping[Process, Schedstat]
    unread: AbstractSet[int] = frozenset()
    """Pids of processes that are there and could not be read."""


class SchedTotals(Struct, frozen=True):
    """The sum over the processes that a cgroup has had; it never goes down.

    What a process had when it was last seen stays in the sum when it ends. One that comes from another
    cgroup brings what it had there, and one that leaves and returns counts again: both are rare, and the
    kernel does not say.
    """

    total: Schedstat = _NOTHING
    counted: Mapping[Process, Schedstat] = {}
    """How much of each living process is in ``total``."""

    def after(self, seen: Schedstats) -> SchedTotals:
        """Return the sum with what has come since the last tick."""
        total = self.total
        for process, now in seen.processes.items():
            total += _grown(self.counted.get(process, _NOTHING), now)
        unread = {process: last for process, last in self.counted.items() if process.pid in seen.unread}
        return SchedTotals(total, unread | dict(seen.processes))


def _grown(before: Schedstat, now: Schedstat) -> Schedstat:
    grown = now - before
    # A thread that calls execve(2) becomes the leader, pid and start included, and brings its own counters.
    return now if min(astuple(grown)) < 0 else grown


def read_schedstats(
    proc_root: str, pids: Iterable[int], *, failed: Callable[[KernelFileError], None]
) -> Schedstats:
    """Return the counters of each process; never raises for a file.

    A process that has ended is left out. ``failed`` is called with every other error, and its pid is among
    the ``unread``.
    """
    processes = {}
    unread = set()
    for pid in pids:
        try:
            processes[Process(pid, start_ticks(proc_root, pid))] = read_schedstat(proc_root, pid)
        except (FileMissingError, CgroupGoneError):
            continue
        except KernelFileError as error:
            unread.add(pid)
            failed(error)
    return Schedstats(processes, unread)


def read_schedstat(proc_root: str, pid: int) -> Schedstat:
    """Return the counters of one process.

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process has ended, or the
    kernel does not count.
    """
    path = f"{proc_root}/{pid}/schedstat"
    return parsed(path, read_bytes(path), parse_schedstat)


def parse_schedstat(data: bytes) -> Schedstat:
    """Return the three counters of a ``schedstat``; ``ValueError`` says what is wrong."""
    match data.split():
        case [run, runqueue, periods]:
            return Schedstat(number(run) / _NANOSECONDS, number(runqueue) / _NANOSECONDS, number(periods))
    raise ValueError(f"not three counters: {shown(data)}")
