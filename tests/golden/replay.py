"""A captured tree as a node whose cgroups have inodes in the order in which they were made."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from tests.real.capture import OLDEST_FIRST


def replay(tree: Path, folder: Path) -> Path:
    """Copy a tree into ``folder``, and give its place there; of two cgroups the older has the smaller inode.

    A kernel numbers its cgroups as they are made, and cgwatch tells by that which one of a pod came first.
    Neither git nor a copy keeps inodes, and no file system promises any order. So folders are made, as many
    as there are cgroups, and each becomes the cgroup whose turn it is by the inode that it has got.
    """
    target = folder / tree.name
    oldest_first = oldest_cgroups_first(tree)
    made = folder / "made"
    for number in range(len(oldest_first)):
        (made / str(number)).mkdir(parents=True)
    by_inode = sorted(made.iterdir(), key=lambda place: place.stat().st_ino)
    (target / "cgroup").mkdir(parents=True)
    # A folder is moved into place after those that it is in.
    for cgroup, place in sorted(zip(oldest_first, by_inode, strict=True), key=lambda pair: pair[0].parts):
        place.rename(target / "cgroup" / cgroup)
    made.rmdir()
    shutil.copytree(tree, target, symlinks=True, dirs_exist_ok=True)
    return target


def oldest_cgroups_first(tree: Path) -> list[PurePosixPath]:
    """Give the folders of a tree's cgroups below ``cgroup``, each hierarchy in the order of their making."""
    return [PurePosixPath(line) for line in (tree / OLDEST_FIRST).read_text().splitlines()]
