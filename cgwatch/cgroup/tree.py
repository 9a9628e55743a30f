"""Which cgroups exist, followed from tick to tick without a watch and without listing directories.

The kernel gives two cheap and exact answers:

- *How many cgroups are there?* v2: ``nr_descendants`` of the root's ``cgroup.stat`` (since 4.14);
  v1: ``num_cgroups`` in /proc/cgroups, which counts removed ones that are still held, too. Taken before the
  known cgroups are read: if it equals their number, and every one of them answered, then there is no other.
- *How many children has this one?* The link count of a directory is 2 + its children.

So a quiet node costs one read for each hierarchy, a changed one a ``stat`` for each cgroup, and only the
parents of what changed are listed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy
from cgwatch.errors import FileMissingError, KernelFileError, from_os_error

_PLAIN_LINKS = 2  # "." and the entry in the parent


class Counter(Protocol):
    """Tells how many cgroups the kernel has in a hierarchy, the root included."""

    def count(self) -> int | None:
        """Return the number; ``None``: unknown."""

    def close(self) -> None:
        """Close its file."""


class Node(Struct, frozen=True):
    """One directory of one hierarchy."""

    inode: int
    children: frozenset[str]


class HierarchyTree:
    """The cgroups of one hierarchy, by path."""

    def __init__(self, hierarchy: Hierarchy, counter: Counter) -> None:
        self.hierarchy = hierarchy
        self.nodes: dict[str, Node] = {}
        self._counter = counter
        self._counted: int | None = None

    def close(self) -> None:
        """Close the counter's file."""
        self._counter.close()

    def begin(self) -> None:
        """Take the kernel's count; call it before the known cgroups are read."""
        self._counted = self._counter.count()

    def follow(self, *, all_alive: bool, faults: list[KernelFileError]) -> bool:
        """Bring ``nodes`` up to date; True if anything changed.

        ``all_alive``: since ``begin`` every known cgroup answered a read through a descriptor that was open
        before. Directories that cannot be read go to ``faults``.
        """
        if all_alive and self.nodes and self._counted == len(self.nodes):
            return False
        root = _status(self.hierarchy.directory, faults)
        found: dict[str, Node] = {}
        pending = [(self.hierarchy.prefix, root)] if root else []
        while pending:
            path, status = pending.pop()
            prefix = path.rstrip("/") + "/"
            directory = self.hierarchy.locate(path)
            children = self._known_children(path, directory, status)
            if children is None:
                children = _list_children(directory, faults)
            found[path] = Node(status.st_ino, frozenset(children))
            pending.extend((prefix + name, child) for name, child in children.items())
        changed = found != self.nodes
        self.nodes = found
        return changed

    def _known_children(
        self, path: str, directory: str, status: os.stat_result
    ) -> dict[str, os.stat_result] | None:
        """Return the children if they are sure without a listing (none, or those of the last time).

        The link count alone would miss one that went while another came. But if as many as there are links
        still answer by name, there is no room for another.
        """
        if status.st_nlink == _PLAIN_LINKS:
            return {}
        known = self.nodes.get(path)
        if (
            known is None
            or known.inode != status.st_ino
            or status.st_nlink != _PLAIN_LINKS + len(known.children)
        ):
            return None
        try:
            return {name: os.stat(f"{directory}/{name}", follow_symlinks=False) for name in known.children}
        except OSError:
            return None


def _status(directory: str, faults: list[KernelFileError]) -> os.stat_result | None:
    try:
        return os.stat(directory)
    except OSError as error:
        faults.append(from_os_error(directory, error))
        return None


def _list_children(directory: str, faults: list[KernelFileError]) -> dict[str, os.stat_result]:
    children = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        children[entry.name] = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # gone between the listing and the look at it
                    continue
    except OSError as error:
        fault = from_os_error(directory, error)
        # Gone since its parent was listed: that is how cgroups end.
        if not isinstance(fault, FileMissingError):
            faults.append(fault)
    return children


class Tree:
    """The cgroups of all hierarchies together."""

    def __init__(
        self, hierarchies: Hierarchies, followed: frozenset[str], counter: Callable[[Hierarchy], Counter]
    ) -> None:
        """Follow the unified hierarchy and the v1 ones that hold a controller of ``followed``."""
        v1 = [h for h in hierarchies.v1 if h.controllers & followed]
        unified = [hierarchies.unified] if hierarchies.unified else []
        self._trees = [HierarchyTree(hierarchy, counter(hierarchy)) for hierarchy in v1 + unified]

    def begin(self) -> None:
        """Take the kernel's counts; call it before the known cgroups are read."""
        for tree in self._trees:
            tree.begin()

    def follow(self, *, all_alive: bool, faults: list[KernelFileError]) -> bool:
        """See ``HierarchyTree.follow``."""
        changed = [tree.follow(all_alive=all_alive, faults=faults) for tree in self._trees]
        return any(changed)

    def close(self) -> None:
        """Close the counters' files."""
        for tree in self._trees:
            tree.close()

    def places(self) -> dict[str, Mapping[Hierarchy, int]]:
        """Return every cgroup's path, with the hierarchies that have it and its inode there.

        The first hierarchy is the same one for the life of a cgroup: v1 ones by directory, then the unified.
        """
        places: dict[str, dict[Hierarchy, int]] = {}
        for tree in self._trees:
            for path, node in tree.nodes.items():
                places.setdefault(path, {})[tree.hierarchy] = node.inode
        return dict(places)
