"""The table of controllers that are read, and the readers of one cgroup.

A new controller is one module beside this one and one row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from cgwatch.cgroup import core, cpu, io, memory, pids, pressure
from cgwatch.cgroup.files import ANY, Descriptors, File, KernelFile, Reader
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy
from cgwatch.cgroup.tree import Count, Tree
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


CONTROLLERS = (
    Controller("memory", frozenset({"memory"}), memory.FILES_V2, memory.stats_v2, memory.FILES_V1, memory.stats_v1),
    Controller("cpu", frozenset({"cpu", "cpuacct"}), cpu.FILES_V2, cpu.stats_v2, cpu.FILES_V1, cpu.stats_v1),
    Controller("io", frozenset({"blkio"}), io.FILES_V2, io.stats_v2, io.FILES_V1, io.stats_v1),
    Controller("pids", frozenset({"pids"}), pids.FILES_V2, pids.stats, pids.FILES_V1, pids.stats),
    Controller("pressure", frozenset(), pressure.FILES, pressure.stats, pressure.FILES, pressure.stats),
    Controller("core", frozenset(), core.FILES_V2, core.stats, core.FILES_V1, core.stats),
)

_FOLLOWED = frozenset().union(*(controller.v1_names for controller in CONTROLLERS))


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
        if not file.controller:
            holder = hierarchies.unified
        elif file.controller == ANY:
            holder = next((hierarchy for hierarchy in places if hierarchy.version == 1), None)
        else:
            holder = hierarchies.holder(file.controller)
        if holder is None or holder not in places:
            return None
        below = path if holder.prefix == "/" else path.removeprefix(holder.prefix) or "/"
        return f"{holder.locate(below)}/{file.name}"

    files, stats = (
        (controller.files_v1, controller.stats_v1) if v1 else (controller.files_v2, controller.stats_v2)
    )
    return Reader(files, stats, locate, descriptors)


def open_tree(hierarchies: Hierarchies, proc_root: str, descriptors: Descriptors) -> Tree:
    """Follow every hierarchy that any controller is read from."""

    def counts(hierarchy: Hierarchy) -> Count:
        if hierarchy.version == 1:
            file = File("cgroups", _count_in(min(hierarchy.controllers)), many_records=True)
            path, extra = f"{proc_root}/cgroups", 0
        else:
            file = next(file for file in core.FILES_V2 if file.name == "cgroup.stat")
            path, extra = f"{hierarchy.directory}/cgroup.stat", 1  # descendants, without the root itself

        try:
            counter = KernelFile(path, file, descriptors)
        except KernelFileError:
            return lambda: None  # before 4.14, or not readable: every tick then looks at every directory

        def count() -> int | None:
            value = counter.read([])
            number = getattr(value, "descendants", value)
            return None if number is None else number + extra

        return count

    return Tree(hierarchies, _FOLLOWED, counts)


def _count_in(controller: str) -> Callable[[bytes], int | None]:
    """/proc/cgroups: ``name hierarchy num_cgroups enabled`` lines."""
    name = controller.encode()

    def parse(raw: bytes) -> int | None:
        for line in raw.splitlines():
            words = line.split()
            if words[:1] == [name] and len(words) > 2 and words[2].isdigit():  # noqa: PLR2004 - num_cgroups
                return int(words[2])
        return None

    return parse
