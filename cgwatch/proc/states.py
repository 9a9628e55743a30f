"""``/proc/<pid>/stat``: what the tasks of a cgroup are doing at this moment, and a load average of it.

The state is the third field (proc_pid_stat(5)). Every thread is a task, as for the kernel's own load average.

cAdvisor asks taskstats (Documentation/accounting/cgroupstats.rst), which knows cgroup v1 only. Its fifth
state, ``iowaiting``, is not in ``/proc``: the flag ``in_iowait`` of a task is printed nowhere. There, too,
it counts next to nothing: a task that waits for a disk is ``uninterruptible``, and only the killable and
idle ones among the waiting are left to it. How long tasks wait for a disk is io.pressure.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import astuple

from cgwatch.errors import CgroupGoneError, FileMissingError, KernelFileError, from_os_error
from cgwatch.proc.reading import number, parsed, read_bytes, shown

T = TypeVar("T")

MOST_TASKS = 10_000
"""About a tenth of a second."""

_LOAD_SECONDS = 10.0
_THREADS_FIELD = 20
"""Of proc_pid_stat(5), counted from 1; the first after the command's ``)`` is the third."""

_MEANING = {
    b"R": "running",
    b"S": "sleeping",
    b"D": "uninterruptible",
    b"T": "stopped",
    b"t": "stopped",  # by a debugger
    b"I": "sleeping",  # an idle kernel thread, since Linux 4.14
    b"P": "sleeping",  # a parked kernel thread, since Linux 3.9
    b"K": "uninterruptible",  # and W: Linux 2.6.33 to 3.13
    b"W": "running",
    b"Z": "",  # ended, and so no task that does anything
    b"X": "",
    b"x": "",
}


class TaskStates(Struct, frozen=True):
    """How many tasks are doing what. Those that have ended (zombies) do nothing."""

    sleeping: int = 0
    running: int = 0
    """On a CPU or waiting for one."""
    stopped: int = 0
    """By a signal or a debugger."""
    uninterruptible: int = 0
    """Mostly waiting for a disk or a network file system."""
    is_cut: bool = False
    """There are more tasks than were looked at."""


class TaskStat(Struct, frozen=True):
    """What is used of one ``stat``."""

    state: str
    """A field of ``TaskStates``; empty for what has ended."""
    threads: int
    """Of the whole process."""


def add_states(parts: Iterable[TaskStates]) -> TaskStates:
    """Return the tasks of one or several cgroups together."""
    sleeping, running, stopped, uninterruptible, is_cut = map(sum, zip(*map(astuple, parts), strict=True))
    return TaskStates(sleeping, running, stopped, uninterruptible, bool(is_cut))


def load_average(previous: float | None, tasks: int, elapsed_seconds: float) -> float:
    """Return the average of the last 10 seconds or so, in tasks: an exponential decay, as cAdvisor's.

    ``previous`` is what the last call returned, ``elapsed_seconds`` how long ago; ``None`` at the first
    time, which begins with ``tasks``. Two averages are common: of the running tasks, and of the
    uninterruptible ones. cAdvisor's metrics give thousandths of a task, rounded down.
    """
    if previous is None:
        return float(tasks)
    decay = math.exp(-elapsed_seconds / _LOAD_SECONDS)
    return previous * decay + tasks * (1 - decay)


def read_task_states(
    proc_root: str,
    pids: Iterable[int],
    *,
    most_tasks: int = MOST_TASKS,
    failed: Callable[[KernelFileError], None],
) -> TaskStates:
    """Count the threads of the processes ``pids`` by state; never raises for a file.

    What ends meanwhile is left out. ``failed`` is called with every other error. It costs one file for
    each process and, where that has more than one thread, one for each thread.
    """
    counts: Counter[str] = Counter()
    states = _states(proc_root, pids, failed)
    counts.update(itertools.islice(states, most_tasks))
    is_cut = next(states, None) is not None
    del counts[""]
    return TaskStates(**counts, is_cut=is_cut)


def _states(proc_root: str, pids: Iterable[int], failed: Callable[[KernelFileError], None]) -> Iterator[str]:
    for pid in pids:
        process = _attempt(f"{proc_root}/{pid}/stat", read_task_stat, failed)
        if process is None:
            continue
        if process.threads <= 1:  # 0: a zombie
            yield process.state
            continue
        for path in _attempt(f"{proc_root}/{pid}/task", _threads, failed) or ():
            thread = _attempt(path, read_task_stat, failed)
            if thread is not None:
                yield thread.state


def _attempt(path: str, read: Callable[[str], T], failed: Callable[[KernelFileError], None]) -> T | None:
    try:
        return read(path)
    except (FileMissingError, CgroupGoneError):
        return None
    except KernelFileError as error:
        failed(error)
        return None


def _threads(path: str) -> list[str]:
    try:
        return [f"{path}/{thread}/stat" for thread in os.listdir(path)]
    except OSError as error:
        raise from_os_error(path, error) from error


def read_task_stat(path: str) -> TaskStat:
    """Return state and threads of ``/proc/<pid>/stat`` or ``/proc/<pid>/task/<tid>/stat``.

    Raises a ``KernelFileError`` with the path; ``FileMissingError`` when the task has ended.
    """
    return parsed(path, read_bytes(path), parse_task_stat)


def parse_task_stat(data: bytes) -> TaskStat:
    """Return what is used of a ``stat``; ``ValueError`` says what is wrong."""
    # The command may itself hold spaces and parentheses: only the last one ends it.
    _, end, rest = data.rpartition(b")")
    fields = rest.split(maxsplit=_THREADS_FIELD - 2)
    if not end or len(fields) <= _THREADS_FIELD - 3:
        raise ValueError(f"no field {_THREADS_FIELD}: {shown(data)}")
    meaning = _MEANING.get(fields[0])
    if meaning is None:
        raise ValueError(f"not a state of a task: {shown(fields[0])}")
    return TaskStat(meaning, number(fields[_THREADS_FIELD - 3]))
