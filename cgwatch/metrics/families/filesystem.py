"""How full the node's file systems are; cAdvisor has these under the root cgroup, ``id="/"``.

It has them for some containers, too, by walking through all of their files once a minute. cgwatch does not:
the walk reads more of a disk than most containers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Kind, Sample, Snapshot
from cgwatch.proc.filesystems import Filesystem


def _filesystem(
    name: str, help_text: str, source: str, value: Callable[[Filesystem], Number | None], absent: str = ""
) -> Family:
    def rows(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
        if sample.container.owner.kind is not Kind.ROOT:
            return ()
        return [(label("device", each.device), value(each)) for each in snapshot.filesystems]

    return Family(
        name,
        Type.GAUGE,
        help_text,
        "disk",
        Part.SAMPLE,
        source,
        rows=rows,
        labels=("device",),
        reads=("filesystems",),
        absent="for all cgroups but the root; for a disk that has not answered for three minutes" + absent,
    )


_NO_INODES = "; where inodes are made as they are needed (btrfs, vfat)"
FAMILIES = (
    _filesystem(
        "container_fs_usage_bytes",
        "Space in use on a file system of the node, in bytes.",
        "statvfs(2) f_blocks less f_bfree",
        lambda said: said.size_bytes - said.free_bytes,
    ),
    _filesystem(
        "container_fs_limit_bytes",
        "Size of a file system of the node, in bytes.",
        "statvfs(2) f_blocks",
        lambda said: said.size_bytes,
    ),
    _filesystem(
        "container_fs_inodes_total",
        "Inodes of a file system of the node.",
        "statvfs(2) f_files",
        lambda said: said.inodes_total,
        _NO_INODES,
    ),
    _filesystem(
        "container_fs_inodes_free",
        "Free inodes of a file system of the node.",
        "statvfs(2) f_ffree",
        lambda said: said.inodes_free,
        _NO_INODES,
    ),
)
