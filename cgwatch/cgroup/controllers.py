"""The table of controllers that are read, and the readers of one cgroup.

A new controller is one module beside this one and one row here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct, structs

from cgwatch.cgroup import core, cpu, cpuset, hugetlb, io, memory, numa, pids, pressure
from cgwatch.cgroup.files import ANY, Descriptors, File, KernelFile, Reader
from cgwatch.cgroup.formats import FormatError, integer
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy
from cgwatch.cgroup.tree import Tree
from cgwatch.errors import KernelFileError


class Controller(Struct, frozen=True):
    """One row: what is read on each version, and how it becomes one stats object."""

    name: str
    """The field of ``model.Sample``, and the controller's name on v2."""
    v1_names: frozenset[str]
    """The v1 controllers that hold its numbers; none: it exists on the unified hierarchy alone."""
    files_v2: tuple[File, ...]
    stats_v2: Callable[..., Any]
    files_v1: tuple[File, ...]
    stats_v1: Callable[..., Any]
    mark: str = ""
    """v2: the file that every kernel has wherever the controller is enabled, and nowhere else."""
    optional: bool = False
    """Read only if somebody wants it."""
    details_v1: tuple[File, ...] = ()
    """Those of ``files_v1`` that are read only if somebody wants ``<name>.details``, and that a kernel has in
    every cgroup or in none."""
    not_here: frozenset[str] = frozenset()
    """Files that are not even looked for: this node has not got them, or nobody wants them."""


CONTROLLERS = (
    Controller(
        "memory",
        frozenset({"memory"}),
        memory.FILES_V2,
        memory.stats_v2,
        memory.FILES_V1,
        memory.stats_v1,
        "memory.current",
    ),
    Controller(
        "cpu",
        frozenset({"cpu", "cpuacct"}),
        cpu.FILES_V2,
        cpu.stats_v2,
        cpu.FILES_V1,
        cpu.stats_v1,
        "cpu.weight",
    ),
    Controller(
        "io",
        frozenset({"blkio"}),
        io.FILES_V2,
        io.stats_v2,
        io.FILES_V1,
        io.stats_v1,
        "io.stat",
        details_v1=io.DETAILS_V1,
    ),
    Controller(
        "pids", frozenset({"pids"}), pids.FILES_V2, pids.stats, pids.FILES_V1, pids.stats, "pids.current"
    ),
    Controller("pressure", frozenset(), pressure.FILES, pressure.stats, pressure.FILES, pressure.stats),
    Controller(
        "cpuset",
        frozenset({"cpuset"}),
        cpuset.FILES_V2,
        cpuset.stats,
        cpuset.FILES_V1,
        cpuset.stats,
        "cpuset.cpus.effective",
        optional=True,
    ),
    Controller(
        "hugetlb",
        frozenset({"hugetlb"}),
        hugetlb.files_v2(hugetlb.USUAL_SIZES),
        hugetlb.stats_v2(hugetlb.USUAL_SIZES),
        hugetlb.files_v1(hugetlb.USUAL_SIZES),
        hugetlb.stats_v1(hugetlb.USUAL_SIZES),
        hugetlb.mark(hugetlb.USUAL_SIZES),
        optional=True,
    ),
    # Of the memory controller, and apart since it is dear and seldom wanted.
    Controller(
        "numa",
        frozenset({"memory"}),
        numa.FILES_V2,
        numa.stats,
        numa.FILES_V1,
        numa.stats,
        optional=True,
    ),
    Controller("core", frozenset(), core.FILES_V2, core.stats, core.FILES_V1, core.stats),
)


def wanted(parts: Collection[str], hierarchies: Hierarchies, sys_root: str) -> tuple[Controller, ...]:
    """Return the table as it is read on this node, in the same order.

    Optional controllers that are not among ``parts`` have no files. Files of which there can be none here
    are left out, so that they are not looked for in every cgroup: huge pages of other machines' sizes, and
    details that this kernel's root cgroup has not got.
    """
    table = []
    for controller in CONTROLLERS:
        if controller.optional and controller.name not in parts:
            table.append(_unread(controller))
        elif controller.name == "hugetlb":
            table.append(_of_sizes(controller, hugetlb.page_sizes(sys_root)))
        else:
            names = {file.name for file in controller.details_v1}
            if f"{controller.name}.details" in parts:
                names -= _on_root(controller.details_v1, hierarchies)
            table.append(structs.replace(controller, not_here=frozenset(names)))
    return tuple(table)


def _unread(controller: Controller) -> Controller:
    return Controller(controller.name, frozenset(), (), _nothing, (), _nothing, optional=True)


def _nothing() -> None:
    return None


def _of_sizes(controller: Controller, sizes: tuple[str, ...]) -> Controller:
    return structs.replace(
        controller,
        files_v2=hugetlb.files_v2(sizes),
        stats_v2=hugetlb.stats_v2(sizes),
        files_v1=hugetlb.files_v1(sizes),
        stats_v1=hugetlb.stats_v1(sizes),
        mark=hugetlb.mark(sizes),
    )


def _on_root(files: tuple[File, ...], hierarchies: Hierarchies) -> set[str]:
    holders = ((file.name, hierarchies.holder(file.controller)) for file in files)
    return {name for name, holder in holders if holder and os.path.exists(f"{holder.directory}/{name}")}


def uses_v1(controller: Controller, hierarchies: Hierarchies) -> bool:
    """Whether a controller's numbers are in v1 hierarchies: any of its names mounted there decides.

    The files of every cgroup are read the v1 way as soon as there is any v1 hierarchy.
    """
    if not controller.v1_names:
        return bool(hierarchies.v1)
    return any(controller.v1_names & hierarchy.controllers for hierarchy in hierarchies.v1)


def open_reader(
    controller: Controller,
    hierarchies: Hierarchies,
    path: str,
    places: Mapping[Hierarchy, int],
    descriptors: Descriptors,
) -> Reader:
    """Open one controller's files of the cgroup ``path``, which exists in ``places``."""
    v1 = uses_v1(controller, hierarchies)

    def locate(file: File) -> str | None:
        if file.name in controller.not_here:
            return None
        if not file.controller:
            holder = hierarchies.unified
        elif file.controller == ANY:
            holder = next((hierarchy for hierarchy in places if hierarchy.version == 1), None)
        else:
            holder = hierarchies.holder(file.controller)
        if holder is None or holder not in places:
            return None
        return f"{holder.locate(path)}/{file.name}"

    files, stats = (
        (controller.files_v1, controller.stats_v1) if v1 else (controller.files_v2, controller.stats_v2)
    )
    return Reader(files, stats, locate, descriptors)


def open_tree(
    hierarchies: Hierarchies,
    proc_root: str,
    descriptors: Descriptors,
    table: tuple[Controller, ...] = CONTROLLERS,
) -> Tree:
    """Follow every hierarchy that any controller of the table is read from."""
    followed = frozenset().union(*(controller.v1_names for controller in table))
    return Tree(hierarchies, followed, lambda hierarchy: CgroupCounter(hierarchy, proc_root, descriptors))


class CgroupCounter:
    """How many cgroups the kernel has in one hierarchy."""

    def __init__(self, hierarchy: Hierarchy, proc_root: str, descriptors: Descriptors) -> None:
        if hierarchy.version == 1:
            path = f"{proc_root}/cgroups"
            file = File(
                "cgroups",
                functools.partial(parse_cgroups, name=min(hierarchy.controllers)),
                many_records=True,
            )
        else:
            path = f"{hierarchy.directory}/{core.STAT.name}"
            file = core.STAT
        try:
            self._file: KernelFile | None = KernelFile(path, file, descriptors)
        except KernelFileError:
            self._file = None  # before 4.14, or not readable: every tick then looks at every directory

    def count(self) -> int | None:
        """Return the number, the root included; ``None``: unknown."""
        try:
            value = self._file.read([]) if self._file else None
        except KernelFileError:  # the hierarchy's root was part of a larger one, and removed
            return None
        if isinstance(value, core.CgroupStat):
            return None if value.descendants is None else value.descendants + 1
        return value if isinstance(value, int) else None

    def close(self) -> None:
        """Close its file."""
        if self._file:
            self._file.close()


def parse_cgroups(raw: bytes, name: str) -> int:
    """/proc/cgroups (cgroups(7)): ``num_cgroups`` of the controller ``name``."""
    for line in raw.splitlines():
        words = line.split()
        if words[:1] == [name.encode()] and len(words) > 2:  # noqa: PLR2004 - name, hierarchy, num_cgroups
            return integer(words[2])
    raise FormatError(f"a line of the controller {name}", raw)
