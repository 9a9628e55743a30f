"""Which metrics need a kernel file, as far as the catalogue says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cgwatch.metrics.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cgwatch.cgroup.files import File
    from cgwatch.metrics.families.base import Family

_PARENTHESES = re.compile(r"\([^)]*\)")
_FILE_NAME = re.compile(r"[a-z]+(?:\.[a-z_]+)+")


def affected(files: Iterable[File]) -> tuple[str, ...]:
    """Return the families whose ``source`` names one of the files, in the order of the catalogue.

    Careful rather than complete: a file in parentheses stands in for another one, and one in braces has
    alternatives, so neither of them makes a metric be missed.
    """
    absent = {(file.name, bool(file.controller)) for file in files}
    return tuple(
        family.name
        for family in FAMILIES
        if any((name, is_v1) in absent for is_v1 in (False, True) for name in _sources(family, is_v1=is_v1))
    )


def _sources(family: Family, *, is_v1: bool) -> set[str]:
    unified, _, v1 = _PARENTHESES.sub("", family.source).partition("; v1 ")
    # Where the v1 part names only another key, it is a key of the same file.
    return set((_FILE_NAME.findall(v1) if is_v1 else ()) or _FILE_NAME.findall(unified))


def phrase(names: Iterable[str]) -> str:
    """Write names of families; a group of which all are there is called by its name."""
    left = dict.fromkeys(names)
    groups = []
    for group in dict.fromkeys(family.group for family in FAMILIES if family.name in left):
        members = [family.name for family in FAMILIES if family.group == group]
        if group and left.keys() >= set(members):
            groups.append(f"all metrics of the group {group}")
            left = {name: None for name in left if name not in members}
    return ", ".join([*groups, *left])
