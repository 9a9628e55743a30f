"""Which cgroups the kernel is to tell of, and which of them to look at now."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from cgwatch.cgroup.events import EXHAUSTED, Notifier
from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.errors import CgroupGoneError, FileMissingError, KernelFileError
from cgwatch.oom.pace import Pace


class Watched(Struct, frozen=True, gc=False):
    """A cgroup that has the memory controller."""

    inode: int
    """In the hierarchy of the memory controller."""
    is_container: bool
    """Containers come first where there is not room for all."""


class Watching:
    """Keeps a ``Notifier`` with the cgroups that there are. Not thread-safe.

    ``most``: so many of them at once. What has no room, or is refused, is in ``refused``: the ticks read its
    counters all the same, only later.
    """

    def __init__(self, notifier: Notifier, hierarchy: Hierarchy, most: int) -> None:
        self.notifier = notifier
        self.refused: dict[str, str] = {}
        """Why, by path."""
        self._hierarchy = hierarchy
        self._most = most
        self._watched: dict[str, Watched] = {}
        self._pace = Pace()

    def follow(self, wanted: Mapping[str, Watched]) -> None:
        """Watch these and no others."""
        # v2 has no events in the root, and v1 no limit there.
        order = sorted(wanted.keys() - {"/"}, key=lambda path: (not wanted[path].is_container, path))
        chosen = {path: wanted[path] for path in order[: self._most]}
        for path, watched in list(self._watched.items()):
            if chosen.get(path) != watched:
                self._drop(path)
        self.refused = dict.fromkeys(order[self._most :], f"there is room for {self._most} cgroups")
        exhausted = ""
        for path, watched in chosen.items():
            if path not in self._watched:
                exhausted = self._add(path, watched, exhausted)

    def take(self, now: float) -> list[str]:
        """Return the cgroups to look at, without waiting."""
        found = []
        for path in sorted(self.notifier.take()):
            if self._pace.told(path, now):
                found.append(path)
            else:
                self.notifier.remove(path)  # until it is due: at its limit it tells a hundred times a second
        for path in self._pace.due(now):
            self._add(path, self._watched.pop(path), "")
            found.append(path)
        return found

    def wait_seconds(self, now: float) -> float | None:
        """Return after how long ``take`` is to be called even if nothing was told."""
        return self._pace.wait_seconds(now)

    def _add(self, path: str, watched: Watched, exhausted: str) -> str:
        """Watch one more, if not all the room is gone; return why there is none for the next."""
        try:
            if not exhausted:
                self.notifier.add(path, self._hierarchy.locate(path))
                self._watched[path] = watched
                return ""
        except (FileMissingError, CgroupGoneError):
            return ""  # the next tick finds that it is gone
        except KernelFileError as error:
            self.refused[path] = str(error)
            return str(error) if error.errno in EXHAUSTED else ""
        self.refused[path] = exhausted
        return exhausted

    def _drop(self, path: str) -> None:
        del self._watched[path]
        self._pace.forget(path)
        self.notifier.remove(path)
