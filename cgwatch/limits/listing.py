"""Which cgroups there are at this moment: for a command that ends, where an agent has a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cgwatch.cgroup.controllers import open_tree
from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.limit_files import inode_of
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import FileMissingError, KernelFileError
from cgwatch.model import Cgroup, Container, Description

_NO_INTERVAL = 1.0  # nothing is read twice


def containers(
    hierarchies: Hierarchies, proc_root: str, descriptions: Mapping[str, Description]
) -> Iterator[Container]:
    """Give every cgroup, with the identity that snapshots have; nothing of what it uses is read.

    ``descriptions``: what a runtime said, by the containers' ids.
    """
    tree = open_tree(hierarchies, proc_root, Descriptors(0, _NO_INTERVAL))
    faults: list[KernelFileError] = []
    try:
        tree.begin()
        tree.follow(all_alive=False, faults=faults)
        for path in tree.places():
            try:
                cgroup = Cgroup(path, inode_of(hierarchies, path))
            except FileMissingError:  # gone in the meantime
                continue
            owner = recognise(path)
            yield Container(cgroup, owner, description=descriptions.get(owner.container_id or ""))
    finally:
        tree.close()
