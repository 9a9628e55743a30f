"""Which processes join which cgroup, as it happens: for cgroups that are gone before anyone looks at them.

Who makes a cgroup makes a directory, and who joins it writes its process's id to ``cgroup.procs``. Both go
through the kernel's file system layer, so inotify(7) on the directory tells of them at once: IN_CREATE and
IN_MODIFY. It does not tell of a child that a process forks: that is born in its parent's cgroup.

On v2 the kernel itself modifies other files of the directory, at each event of the cgroup. So it takes a
second watch there, on ``cgroup.procs`` alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cgwatch.cgroup.events import new_inotify

if TYPE_CHECKING:
    from cgwatch.cgroup.hierarchy import Hierarchy

_PROCS = "cgroup.procs"
_TASKS = "tasks"
_EMPTY_LINKS = 2
"""Links of a directory that has none in it: its name, and its own ``.``."""
_MOST_BYTES = 65536
"""Of a list of processes: a cgroup that has more of them is no short-lived one."""


class Arrivals:
    """Not thread-safe. ``fileno`` is for a selector.

    Raises a ``KernelFileError`` that says what to do when there is no inotify for us. When watches run out,
    cgroups without one are passed over: what happens in them is found in other ways, only later.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._flags, self._inotify = new_inotify()
        self._of_directory = self._flags.CREATE | self._flags.DELETE | self._flags.ONLYDIR
        self._is_v2 = hierarchy.version > 1
        if not self._is_v2:
            self._of_directory |= self._flags.MODIFY
        self._paths: dict[int, str] = {}
        self._watches: dict[str, list[int]] = {}

    def fileno(self) -> int:
        """Return what becomes readable when somebody has joined a cgroup, or made one."""
        descriptor: int = self._inotify.fileno()
        return descriptor

    def close(self) -> None:
        """Close the descriptor, which ends all watches."""
        self._inotify.close()

    def follow(self, paths: Iterable[str]) -> None:
        """Be told of these cgroups, and of what is made in them; those that are gone need not be named."""
        for path in paths:
            if path not in self._watches:
                self._add(path)

    def take(self, paths: Iterable[str] = ()) -> list[tuple[str, list[int]]]:
        """Return who is in the cgroups that somebody has joined or that were made, without waiting.

        And in ``paths``: of those that were born there nobody was told.
        """
        joined: dict[str, None] = dict.fromkeys(paths)
        for event in self._inotify.read(timeout=0):
            path = self._paths.get(event.wd)
            if event.mask & self._flags.Q_OVERFLOW:
                self._sweep()
            if path is None:
                continue  # of one that is gone
            if event.mask & self._flags.ISDIR:
                below = _below(path, event.name)
                if event.mask & self._flags.CREATE:
                    joined.update(dict.fromkeys(self._found(below)))
                else:
                    self._remove(below)
            elif self._is_v2 or event.name in (_PROCS, _TASKS):
                joined[path] = None
        return [(path, pids) for path in joined if (pids := self._pids(path))]

    def _found(self, path: str) -> list[str]:
        """Watch a new cgroup, and what was made in it before there was a watch; return their paths."""
        if not self._add(path):
            return []
        found = [path]
        directory = self._hierarchy.locate(path)
        with contextlib.suppress(OSError):
            if os.stat(directory).st_nlink > _EMPTY_LINKS:
                with os.scandir(directory) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
                for name in names:
                    if _below(path, name) not in self._watches:
                        found += self._found(_below(path, name))
        return found

    def _add(self, path: str) -> bool:
        self._remove(path)  # one of the same path that is gone, whose last word was not read yet
        directory = self._hierarchy.locate(path)
        try:
            self._watch(path, directory, self._of_directory)
            if self._is_v2:
                self._watch(path, f"{directory}/{_PROCS}", self._flags.MODIFY)
        except OSError:
            self._remove(path)
            return False  # it is gone, or there is no room
        return True

    def _watch(self, path: str, place: str, mask: int) -> None:
        watch = self._inotify.add_watch(place, mask)
        self._paths[watch] = path
        self._watches.setdefault(path, []).append(watch)

    def _remove(self, path: str) -> None:
        """End the watches on a cgroup, if there are any: the kernel keeps them when the directory goes."""
        for watch in self._watches.pop(path, ()):
            del self._paths[watch]
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(watch)

    def _sweep(self) -> None:
        """End the watches on what is gone: more has happened than could be told."""
        for path in list(self._watches):
            if not os.path.isdir(self._hierarchy.locate(path)):
                self._remove(path)

    def _pids(self, path: str) -> list[int]:
        try:
            descriptor = os.open(f"{self._hierarchy.locate(path)}/{_PROCS}", os.O_RDONLY)
        except OSError:
            return []
        try:
            whole_lines = os.read(descriptor, _MOST_BYTES).rpartition(b"\n")[0]
            return [int(pid) for pid in whole_lines.split()]
        except (OSError, ValueError):
            return []
        finally:
            os.close(descriptor)


def _below(path: str, name: str) -> str:
    return f"/{name}" if path == "/" else f"{path}/{name}"
