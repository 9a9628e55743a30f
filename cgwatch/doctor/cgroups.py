"""Checks of the cgroup tree: what is mounted, how much of it can be seen, which controllers it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.cgroup.controllers import Controller, uses_v1
from cgwatch.doctor.affected import affected, phrase
from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.doctor.namespaces import is_initial
from cgwatch.errors import KernelFileError
from cgwatch.model import Kind
from cgwatch.proc.reading import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.cgroup.files import File
    from cgwatch.cgroup.hierarchy import Hierarchy
    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey

_SEE_ALL = (
    "in a container: mount the host's tree with -v /sys/fs/cgroup:/host/sys/fs/cgroup:ro and give"
    " --cgroup-root /host/sys/fs/cgroup, or on cgroup v2 start it with --cgroupns=host"
)


def layout(_host: Host, survey: Survey) -> Iterator[Finding]:
    """Which hierarchies are mounted, and which of them holds what."""
    hierarchies = survey.hierarchies
    places = [
        f"{','.join(sorted(hierarchy.controllers)) or 'no controller'} at {hierarchy.directory}"
        for hierarchy in hierarchies.v1
    ]
    if unified := hierarchies.unified:
        offered = " ".join(sorted(unified.controllers)) or "no controller"
        places.append(f"unified with {offered} at {unified.directory}")
    yield ok("cgroup layout", f"{hierarchies.layout}: {'; '.join(places)}")
    found = survey.snapshot.samples
    if not any(sample.memory or sample.cpu or sample.io or sample.pids for sample in found):
        yield Finding(
            Level.ERROR,
            "cgroup layout",
            f"{counted(len(found), 'cgroup')}, and not one controller that could be read",
            "nothing can be sampled",
            "run as root; see the findings on controllers and permissions",
        )


def view(host: Host, survey: Survey) -> Iterator[Finding]:
    """Whether the mounts show the whole tree, or a container's own part of it.

    Documented marks of a real root: on v1 it has ``release_agent`` (cgroups(7)), on v2 it has no
    ``cgroup.events`` (cgroup-v2.rst).
    """
    hierarchies = [*survey.hierarchies.v1, *filter(None, [survey.hierarchies.unified])]
    partial = [hierarchy for hierarchy in hierarchies if not _shows_root(hierarchy)]
    number = counted(len(survey.snapshot.samples), "cgroup")
    is_private = is_initial(host.proc_root, "cgroup") is False
    if not partial:
        note = ", from a cgroup namespace of its own" if is_private else ""
        yield ok("cgroup view", f"the whole tree: {number}{note}")
        return
    places = partial[0].directory + (f" and {len(partial) - 1} more mounts" if len(partial) > 1 else "")
    yield Finding(
        Level.WARNING,
        "cgroup view",
        f"only a part of the cgroup tree is mounted at {places}"
        + (", and this is a private cgroup namespace" if is_private else ""),
        f"{number} can be seen; no metrics of the node's other containers",
        _SEE_ALL,
    )


def _shows_root(hierarchy: Hierarchy) -> bool:
    if hierarchy.prefix != "/":
        return False
    top = Path(hierarchy.directory)
    return (
        (top / "release_agent").exists() if hierarchy.version == 1 else not (top / "cgroup.events").exists()
    )


def controllers(host: Host, survey: Survey) -> Iterator[Finding]:
    """Which controllers are mounted or offered at all, of those whose metrics are wanted."""
    for controller in survey.controllers:
        if not controller.mark:
            continue
        missing = _missing(controller, survey)
        for name in sorted(missing):
            files = _files(controller, name, survey)
            yield Finding(
                Level.WARNING,
                f"controller {name}",
                "no hierarchy has it",
                f"missing: {phrase(affected(files))}",
                _how_to_get(name, host, survey),
            )
        if not missing:
            where = "v1" if uses_v1(controller, survey.hierarchies) else "v2"
            yield ok(f"controller {controller.name}", where)


def _missing(controller: Controller, survey: Survey) -> set[str]:
    hierarchies = survey.hierarchies
    if uses_v1(controller, hierarchies):
        return set(controller.v1_names) - set().union(*(h.controllers for h in hierarchies.v1))
    if hierarchies.unified and controller.name in hierarchies.unified.controllers:
        return set()
    return {controller.name} if hierarchies.unified else set(controller.v1_names)


def _files(controller: Controller, name: str, survey: Survey) -> list[File]:
    if uses_v1(controller, survey.hierarchies) or not survey.hierarchies.unified:
        return [file for file in controller.files_v1 if file.controller == name]
    # Time is accounted in every cgroup on v2, with the controller or without.
    return [file for file in controller.files_v2 if file.name != "cpu.stat"]


def _how_to_get(name: str, host: Host, survey: Survey) -> str:
    """Tell by /proc/cgroups (cgroups(7)) whether the kernel has the controller and lets it be used."""
    known_as = "blkio" if name == "io" else name
    try:
        table = read_bytes(f"{host.proc_root}/cgroups").decode("ascii", "replace")
    except KernelFileError:
        table = ""
    line = re.search(rf"^{known_as}\s+(\d+)\s+\d+\s+(\d)$", table, re.MULTILINE)
    if line is None:
        return f"this kernel was built without it (or {host.proc_root}/cgroups does not say): CONFIG_CGROUPS"
    if line[2] == "0":
        return f"it is switched off: remove cgroup_disable={known_as} from the kernel's command line"
    if survey.hierarchies.unified and not survey.hierarchies.v1:
        return f"enable it in cgroup.subtree_control above this mount (echo +{name}); {_SEE_ALL}"
    directory = f"/sys/fs/cgroup/{known_as}"
    return f"mkdir -p {directory} && mount -t cgroup -o {known_as} none {directory}"


def enabled(_host: Host, survey: Survey) -> Iterator[Finding]:
    """v2: containers for which a parent keeps a controller to itself (``cgroup.subtree_control``)."""
    for controller in survey.controllers:
        if not controller.mark or uses_v1(controller, survey.hierarchies):
            continue
        if _missing(controller, survey):
            continue
        without = [
            absence
            for absence in survey.absences
            if absence.file.name == controller.mark and not absence.is_of_root
        ]
        concerned = [a for a in without if a.container.owner.kind in (Kind.CONTAINER, Kind.POD)]
        if concerned:
            yield Finding(
                Level.WARNING,
                f"controller {controller.name}",
                f"not enabled for {counted(len(concerned), 'container')}, such as"
                f" {concerned[0].container.cgroup.path}",
                f"missing for them: {phrase(affected(_files(controller, controller.name, survey)))}",
                f"echo +{controller.name} into cgroup.subtree_control of each parent, from the root down;"
                " with systemd: Delegate=yes, or accounting, of the unit above",
            )
        elif without:
            yield ok(
                f"controller {controller.name}",
                f"not enabled for {counted(len(without), 'cgroup')}, none of them a container",
            )
