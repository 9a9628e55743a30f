"""Checks of single files: what could not be read, and what this kernel does not offer."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from cgwatch.doctor.affected import affected, phrase
from cgwatch.doctor.features import EXPLAINED
from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.errors import AccessDeniedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Absence, Survey


def failures(_host: Host, survey: Survey) -> Iterator[Finding]:
    """Files that were not read or not understood, and for which there is no good reason."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for failure in survey.failures:
        alike[PurePosixPath(failure.path).name, failure.problem].append(failure.path)
    for (name, problem), paths in alike.items():
        yield Finding(
            Level.WARNING,
            name,
            f"{problem}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""),
            "its numbers are missing, and cgwatch_read_failures_total counts it at each sample",
            "this is not documented of any kernel: please report it with `cgwatch doctor --format json`",
        )
    if not alike:
        yield ok("kernel files", f"every file of {counted(len(survey.snapshot.samples), 'cgroup')} was read")


def absent(_host: Host, survey: Survey) -> Iterator[Finding]:
    """Files that this kernel does not offer here, by reason, with the metrics that need them."""
    by_reason: dict[str, list[Absence]] = defaultdict(list)
    for absence in survey.absences:
        if absence.reason is not None and _is_for_here(absence):
            by_reason[absence.reason].append(absence)
    for reason, absences in by_reason.items():
        files = {absence.file.name: absence.file for absence in absences}
        cgroups = counted(len({absence.container.cgroup.path for absence in absences}), "cgroup")
        found = f"{reason}: {', '.join(files)} (in {cgroups})"
        missing = phrase(affected(files.values()))
        if any(isinstance(absence.error, AccessDeniedError) for absence in absences):
            yield Finding(
                Level.WARNING,
                "kernel files",
                found,
                f"missing there: {missing}" if missing else "no metric needs them",
                "run as root, or give the files' owner",
            )
        elif missing and not all(absence.is_of_root for absence in absences):
            yield Finding(Level.NOTE, "kernel files", found, f"missing there: {missing}")
        else:
            yield ok("kernel files", found)


def _is_for_here(absence: Absence) -> bool:
    """Leave out what other checks explain better: named features, and controllers that are not enabled."""
    if absence.is_of_root or isinstance(absence.error, AccessDeniedError):
        return True
    return absence.controller_enabled and absence.file.name not in EXPLAINED
