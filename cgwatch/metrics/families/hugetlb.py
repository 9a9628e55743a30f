"""Huge pages by size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import attrgetter

from cgwatch.cgroup.hugetlb import HugetlbStats
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot


def _by_size(field: str) -> Callable[[HugetlbStats, Snapshot], Iterable[Row]]:
    get = attrgetter(field)

    def rows(hugetlb: HugetlbStats, _snapshot: Snapshot) -> Iterable[Row]:
        found: list[tuple[str, Number | None]] = [
            (label("pagesize", pages.size), get(pages)) for pages in hugetlb.pages
        ]
        return [(size, value) for size, value in found if value != math.inf]

    return rows


def _hugetlb(
    name: str, help_text: str, field: str, source: str, absent: str, kind: Type = Type.GAUGE
) -> Family:
    return Family(
        f"container_{name}",
        kind,
        help_text,
        "hugetlb",
        Part.HUGETLB,
        source,
        rows=_by_size(field),
        labels=("pagesize",),
        absent=absent,
    )


_ROOT_V2 = "for the root of cgroup v2"
FAMILIES = (
    _hugetlb(
        "hugetlb_usage_bytes",
        "Huge pages that are reserved or in use (before kernel 5.7: in use), in bytes.",
        "usage_bytes",
        "hugetlb.SIZE.rsvd.current (before kernel 5.7 hugetlb.SIZE.current); v1 usage_in_bytes",
        _ROOT_V2,
    ),
    _hugetlb(
        "hugetlb_max_usage_bytes",
        "Highest usage of huge pages so far, in bytes.",
        "peak_bytes",
        "v1 hugetlb.SIZE.rsvd.max_usage_in_bytes (before kernel 5.7 hugetlb.SIZE.max_usage_in_bytes)",
        "on cgroup v2",
    ),
    _hugetlb(
        "hugetlb_failcnt",
        "How often huge pages were refused for a limit.",
        "refused_total",
        "hugetlb.SIZE.events max; v1 hugetlb.SIZE.failcnt + hugetlb.SIZE.rsvd.failcnt",
        _ROOT_V2,
        Type.COUNTER,
    ),
    _hugetlb(
        "spec_hugetlb_limit_bytes",
        "Limit on huge pages, in bytes.",
        "limit_bytes",
        "the lower one of hugetlb.SIZE.max and hugetlb.SIZE.rsvd.max; v1 limit_in_bytes",
        "without a limit",
    ),
)
