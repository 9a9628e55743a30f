"""``/proc/<pid>/fd``: how many files processes have open, and how many of them are sockets.

Each entry is a symbolic link named like the descriptor, such as ``socket:[12345]`` (proc_pid_fd(5)). It
takes the right to trace the process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable

from msgspec import Struct

from cgwatch import errors
from cgwatch.errors import CgroupGoneError, FileMissingError, KernelFileError

MOST_LINKS = 10_000
"""About 50 ms."""
MOST_LISTED = 100_000
"""About 0.2 s, before Linux 6.2 only."""


class Descriptors(Struct, frozen=True):
    """The open files of one process, or of several: one that two of them share counts twice."""

    open_files: int
    sockets: int
    open_files_cut: bool = False
    """There are more open files than were counted."""
    sockets_cut: bool = False
    """There are more open files than were asked whether they are sockets."""


def add_descriptors(parts: Iterable[Descriptors]) -> Descriptors:
    """Return the open files of all of them together; none have none."""
    open_files = sockets = 0
    open_files_cut = sockets_cut = False
    for part in parts:
        open_files += part.open_files
        sockets += part.sockets
        open_files_cut = open_files_cut or part.open_files_cut
        sockets_cut = sockets_cut or part.sockets_cut
    return Descriptors(open_files, sockets, open_files_cut, sockets_cut)


def read_all_descriptors(
    proc_root: str,
    pids: Iterable[int],
    *,
    most_links: int = MOST_LINKS,
    most_listed: int = MOST_LISTED,
    failed: Callable[[KernelFileError], None],
) -> Descriptors:
    """Count the open files of the processes ``pids``; never raises for a file.

    The bounds, as in ``read_descriptors``, are for all of them together. What ends meanwhile is left out;
    ``failed`` is called with every other error.
    """
    found = []
    for pid in pids:
        try:
            here = read_descriptors(proc_root, pid, most_links=most_links, most_listed=most_listed)
        except (FileMissingError, CgroupGoneError):
            continue
        except KernelFileError as error:
            # To read a link of a process that has just ended is refused as well (proc_pid_readlink).
            if os.path.exists(f"{proc_root}/{pid}"):
                failed(error)
            continue
        found.append(here)
        most_links = max(0, most_links - here.open_files)
        most_listed = max(0, most_listed - here.open_files)
    return add_descriptors(found)


def read_descriptors(
    proc_root: str, pid: int, *, most_links: int = MOST_LINKS, most_listed: int = MOST_LISTED
) -> Descriptors:
    """Count the open files of a process; the first ``most_links`` are asked whether they are sockets.

    Where there are more, their number is the directory's size since Linux 6.2; before, up to ``most_listed``
    are counted one by one.

    Raises a ``KernelFileError`` with the path: ``FileMissingError`` when the process has ended,
    ``AccessDeniedError`` without the right to trace it.
    """
    path = f"{proc_root}/{pid}/fd"
    try:
        with os.scandir(path) as entries:
            asked = sockets = 0
            for entry in itertools.islice(entries, most_links):
                asked += 1
                sockets += _is_socket(entry.path)
            if asked < most_links:
                return Descriptors(asked, sockets)
            size = os.stat(path).st_size
            if size and size >= asked:
                return Descriptors(size, sockets, sockets_cut=size > asked)
            listed = asked + sum(1 for _ in itertools.islice(entries, most_listed - asked))
            is_more = next(entries, None) is not None
    except OSError as error:
        raise errors.from_os_error(path, error) from error
    return Descriptors(listed, sockets, open_files_cut=is_more, sockets_cut=listed > asked)


def _is_socket(path: str) -> bool:
    # It is not followed: what it leads to may be a file system that does not answer.
    try:
        return os.readlink(path).startswith("socket:[")
    except (FileNotFoundError, ProcessLookupError):
        return False  # closed meanwhile
