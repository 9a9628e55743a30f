"""Where the cgroup hierarchies are mounted, and which controller lives in which.

The mount table is the truth (proc(5), /proc/self/mountinfo): a v1 hierarchy may be mounted anywhere, with
any set of controllers. Where the hierarchies were brought by other means (a host's tree bound under a
folder that the mount table of our namespace does not explain, a captured tree), the folder's shape tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from cgwatch.errors import MalformedFileError, NoCgroupsError, from_os_error

CONTROLLERS_V1 = frozenset(
    "blkio cpu cpuacct cpuset devices freezer hugetlb memory "
    "misc net_cls net_prio perf_event pids rdma".split()
)


class Layout(StrEnum):
    """Which cgroup versions a node uses."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"
    """v1 for (most) controllers, and a unified hierarchy beside it."""


class Hierarchy(Struct, frozen=True):
    """One mounted hierarchy."""

    version: int
    controllers: frozenset[str]
    """v1: those mounted together. v2: those that the root offers."""
    directory: str
    """Where its root is in our file system."""
    prefix: str = "/"
    """The cgroup that ``directory`` shows: ``/`` unless only a part of the hierarchy is bound here."""
    has_local_events: bool = False
    """v2: ``memory.events`` counts the cgroup alone (mount option ``memory_localevents``, since 5.2)."""

    def locate(self, path: str) -> str:
        """Return the directory of the cgroup ``path``, which is ``prefix`` or below it."""
        below = path.removeprefix(self.prefix.rstrip("/")).rstrip("/")
        return self.directory + below


class Hierarchies(Struct, frozen=True):
    """All hierarchies of a node."""

    layout: Layout
    v1: tuple[Hierarchy, ...]
    unified: Hierarchy | None

    def holder(self, controller: str) -> Hierarchy | None:
        """Return the hierarchy that accounts ``controller``: a controller is in one of them at a time."""
        for hierarchy in self.v1:
            if controller in hierarchy.controllers:
                return hierarchy
        return self.unified if self.unified and controller in self.unified.controllers else None


class Mount(Struct, frozen=True):
    """One line of a mount table."""

    root: str
    mount_point: str
    file_system: str
    options: tuple[str, ...]


_OCTAL = re.compile(r"\\([0-7]{3})")


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash are octal escapes in the mount table (proc(5))."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def parse_mountinfo(raw: bytes) -> list[Mount]:
    """``/proc/self/mountinfo``; raises ValueError on a line that is not one of a mount table."""
    mounts = []
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        if not line:
            continue
        fields, separator, rest = line.partition(" - ")
        before, after = fields.split(" "), rest.split(" ")
        if not separator or len(before) < 6 or len(after) < 3:  # noqa: PLR2004 - the fields of proc(5)
            raise ValueError(f"not a line of a mount table: {line[:80]!r}")
        mounts.append(Mount(_unescape(before[3]), _unescape(before[4]), after[0], tuple(after[2].split(","))))
    return mounts


def find(proc_root: str, cgroup_root: str | None) -> Hierarchies:
    """Find the hierarchies under ``cgroup_root``, or anywhere when it is ``None``.

    Raises ``NoCgroupsError`` when there is none, ``KernelFileError`` when the mount table cannot be read.
    """
    mounts = _read_mounts(os.path.join(proc_root, "self/mountinfo"))
    if cgroup_root is not None:
        cgroup_root = os.path.realpath(cgroup_root)
        mounts = [m for m in mounts if (m.mount_point + "/").startswith(cgroup_root.rstrip("/") + "/")]
    found = _from_mounts(mounts)
    if not found and cgroup_root is not None:
        found = _from_shape(cgroup_root)
    if not found:
        raise NoCgroupsError(
            f"no cgroup hierarchy {'under ' + cgroup_root if cgroup_root else 'is mounted'}: "
            "mount one, or name the folder of the host's with --cgroup-root"
        )
    return _arrange(found)


def _read_mounts(path: str) -> list[Mount]:
    try:
        with open(path, "rb") as file:
            return parse_mountinfo(file.read())
    except OSError as error:
        raise from_os_error(path, error) from error
    except ValueError as error:
        raise MalformedFileError(path, str(error)) from error


def _from_mounts(mounts: Iterable[Mount]) -> list[Hierarchy]:
    """One hierarchy for each set of controllers: of several mounts the one that shows the most."""
    best: dict[frozenset[str], tuple[tuple[bool, int, str], Hierarchy]] = {}
    # What was mounted last at a mount point covers all that was mounted there before.
    for mount in {mount.mount_point: mount for mount in mounts}.values():
        if mount.file_system == "cgroup2":
            version, controllers = 2, _offered(mount.mount_point)
            key = frozenset({"cgroup2"})
        elif mount.file_system == "cgroup":
            version, controllers = 1, CONTROLLERS_V1.intersection(mount.options)
            key = controllers
            if not controllers:  # a named hierarchy (name=systemd) accounts nothing
                continue
        else:
            continue
        # "/.." parts mean: above the root of our cgroup namespace. What is bound here is all there is for us.
        prefix = "/" if mount.root.startswith("/..") else mount.root
        rank = (prefix != "/", len(mount.mount_point), mount.mount_point)
        if key not in best or rank < best[key][0]:
            is_local = version > 1 and "memory_localevents" in mount.options
            best[key] = (rank, Hierarchy(version, controllers, mount.mount_point, prefix, is_local))
    return [hierarchy for _, hierarchy in best.values()]


def _offered(directory: str) -> frozenset[str]:
    try:
        with open(os.path.join(directory, "cgroup.controllers"), encoding="ascii") as file:
            return frozenset(file.read().split())
    except (OSError, ValueError):
        return frozenset()  # not readable: everything below will say so again, file by file


def _from_shape(root: str) -> list[Hierarchy]:
    if os.path.exists(os.path.join(root, "cgroup.controllers")):
        return [Hierarchy(2, _offered(root), root)]
    found = []
    seen = set()
    for name in _names(root):
        directory = os.path.join(root, name)
        # /sys/fs/cgroup has symbolic links such as cpu -> cpu,cpuacct
        if os.path.realpath(directory) in seen:
            continue
        seen.add(os.path.realpath(directory))
        controllers = CONTROLLERS_V1.intersection(name.split(","))
        if os.path.exists(os.path.join(directory, "cgroup.controllers")):
            found.append(Hierarchy(2, _offered(directory), directory))
        elif controllers and os.path.exists(os.path.join(directory, "cgroup.procs")):
            found.append(Hierarchy(1, controllers, directory))
    return found


def _names(directory: str) -> list[str]:
    try:
        # Longest first: cpu,cpuacct before the links that name one of the two.
        return sorted(os.listdir(directory), key=lambda name: (-len(name), name))
    except OSError as error:
        raise NoCgroupsError(
            f"{directory}: {from_os_error(directory, error).problem}; see --cgroup-root"
        ) from error


def _arrange(found: list[Hierarchy]) -> Hierarchies:
    v1 = tuple(sorted((h for h in found if h.version == 1), key=lambda h: h.directory))
    unified = next((h for h in found if h.version == 2), None)  # noqa: PLR2004 - cgroup v2
    if unified is None:
        return Hierarchies(Layout.V1, v1, None)
    return Hierarchies(Layout.HYBRID if v1 else Layout.V2, v1, unified)
