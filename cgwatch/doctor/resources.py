"""Check of the limit on open files against what this node needs."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ADVICE = (
    "raise the limit on open files: LimitNOFILE=1048576 in the unit, --ulimit nofile=1048576 for docker run;"
    " or set sampling.descriptors where that was made small on purpose"
)


def descriptors(host: Host, survey: Survey) -> Iterator[Finding]:
    """Files kept open between samples, each of which costs the kernel a page of buffer."""
    subject = "open files"
    cgroups = len(survey.snapshot.samples)
    kept, budget = survey.descriptors_kept, survey.descriptors_budget
    limits = (
        f"limit of this process {_number(host.open_files.soft)} soft, {_number(host.open_files.hard)} hard"
    )
    found = (
        f"{kept:,} of {budget:,} kept open for {counted(cgroups, 'cgroup')}"
        f" ({format_size(kept * _PAGE_BYTES)} of kernel memory at most); {limits}"
    )
    if survey.cgroups_not_kept:
        yield Finding(
            Level.WARNING,
            subject,
            found,
            f"{counted(survey.cgroups_not_kept, 'cgroup')} past it: their files are opened again at each"
            " sample, which takes about four times as long; nothing is missing",
            _ADVICE,
        )
    elif kept * 2 > budget:
        room = (budget - kept) * cgroups // kept
        yield Finding(
            Level.NOTE,
            subject,
            found,
            f"room for about {counted(room, 'cgroup')} more; past that, samples take longer",
            _ADVICE,
        )
    else:
        yield ok(subject, found)


def _number(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"
