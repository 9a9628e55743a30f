"""Copy a cgroup tree and what is beside it into plain files: ``python -m tests.real.capture``.

``DIR/cgroup/<hierarchy>/...`` holds the cgroups (``DIR/cgroup/...`` where there is one hierarchy, pure v2),
``DIR/proc/...`` and ``DIR/sys/...`` what belongs to them. A file that the kernel refuses to read is not in
the copy. ``DIR/oldest_first`` lists the cgroups' folders in the order in which they were made, which their
inodes tell and a copy has lost.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from tests.real.capture_node import copy, copy_node, copy_processes
from tests.real.leftovers import cgroup_mounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OLDEST_FIRST = "oldest_first"
# What cgroup.procs says again, flags that nobody sets, a large table, and what no mainline kernel has.
NOISE = frozenset(
    {
        *("tasks", "cgroup.clone_children", "cgroup.sane_behavior", "notify_on_release", "release_agent"),
        *("freezer.parent_freezing", "freezer.self_freezing", "cgroup.threads"),
        *("cpuset.cpu_exclusive", "cpuset.mem_exclusive", "cpuset.mem_hardwall"),
        *("cpuset.memory_pressure", "cpuset.memory_pressure_enabled", "cpuset.memory_spread_page"),
        *("cpuset.memory_spread_slab", "cpuset.sched_load_balance", "cpuset.sched_relax_domain_level"),
        *("memory.kmem.slabinfo", "memory.shown_ram_in_bytes"),
    }
)


def capture(out: Path, under: Iterable[str], leave_out: Iterable[str] = ()) -> None:
    """Copy the cgroups ``under`` these paths, with their ancestors' files, /proc and /sys, into ``out``.

    A path may be a pattern, such as ``/system.slice/docker-*.scope``; one that no hierarchy has is no error.
    ``leave_out`` names hierarchies by their folder, such as ``unified``.
    """
    patterns = [path.strip("/") for path in under]
    skipped = set(leave_out)
    mounts = [mount for mount in cgroup_mounts() if mount.name not in skipped]
    pids: set[int] = set()
    inodes: dict[tuple[str, int], str] = {}
    for mount in mounts:
        hierarchy = mount.name if len(mounts) > 1 else ""
        places = sorted(place for pattern in patterns for place in mount.glob(pattern))
        ancestors = {parent for place in places for parent in place.parents if parent.is_relative_to(mount)}
        below = {folder for place in places for folder in _walk(place)}
        for place in sorted(ancestors | below):
            relative = PurePosixPath(hierarchy, place.relative_to(mount))
            inodes[hierarchy, place.stat().st_ino] = str(relative)
            _copy_cgroup(place, out / "cgroup" / relative)
            pids |= _processes(place) if place in below else set()
    (out / OLDEST_FIRST).write_text("".join(f"{inodes[key]}\n" for key in sorted(inodes)))
    copy_node(out, skipped)
    copy_processes(pids, out / "proc")


def _walk(place: Path) -> Iterator[Path]:
    return (Path(folder) for folder, _, _ in os.walk(place))


def _copy_cgroup(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.name not in NOISE and file.is_file():
            copy(file, target / file.name)


def _processes(place: Path) -> set[int]:
    with contextlib.suppress(OSError):
        return {int(line) for line in (place / "cgroup.procs").read_text().split()}
    return set()  # a threaded cgroup has processes and does not list them


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--under", multiple=True, required=True, metavar="CGROUP", help="A cgroup, such as /docker.")
@click.option("--leave-out", multiple=True, metavar="NAME", help="A hierarchy's folder, such as unified.")
def main(out: Path, under: tuple[str, ...], leave_out: tuple[str, ...]) -> None:
    """Copy cgroups and what the kernel says beside them into plain files."""
    capture(out, under, leave_out)


if __name__ == "__main__":
    main()
