"""The hugetlb controller: huge pages by size.

v2: Documentation/admin-guide/cgroup-v2.rst, "HugeTLB" (since 5.6).
v1: Documentation/admin-guide/cgroup-v1/hugetlb.rst.

The kernel counts twice: pages that are in use, and (``rsvd``, since 5.7) pages that are reserved or in use
without a reservation. A process that maps more than its limit fails cleanly by the second, and is killed by
the first when it touches them. As cAdvisor and runc do, ``usage_bytes`` and ``peak_bytes`` are the second
where it is there.
"""

from __future__ import annotations

import math
import os
import re
from functools import partial
from typing import Any

from msgspec import Struct

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import flat_keyed, integer, limit

USUAL_SIZES = ("2MB", "1GB")
"""Those of most machines."""


class HugePages(Struct, frozen=True, gc=False):
    """Huge pages of one size, of one cgroup and all below it."""

    size: str
    """As the kernel spells it in the files' names: ``2MB``, ``1GB``."""
    usage_bytes: int | None = None
    peak_bytes: int | None = None
    """v1 only."""
    refused_total: int | None = None
    """Pages or reservations that a limit refused."""
    limit_bytes: int | float | None = None
    """The tighter one of the two."""


class HugetlbStats(Struct, frozen=True):
    """Huge pages of each size that the machine has."""

    pages: tuple[HugePages, ...]


class _Events(Struct, frozen=True, gc=False):
    max: int | None = None


_parse_events = flat_keyed(_Events, {"max": "max"})
_NO_LIMIT = 1 << 62
_FOLDER = re.compile(r"hugepages-(\d{1,15})kB")


def page_sizes(sys_root: str) -> tuple[str, ...]:
    """Return the sizes that this machine has (Documentation/ABI/testing/sysfs-kernel-mm-hugepages)."""
    try:
        names = os.listdir(f"{sys_root}/kernel/mm/hugepages")
    except OSError:
        return ()  # a kernel without huge pages
    return tuple(map(_spelled, sorted(int(match[1]) for match in map(_FOLDER.fullmatch, names) if match)))


def _spelled(kibibytes: int) -> str:
    for unit, size in (("GB", 1 << 20), ("MB", 1 << 10)):
        if kibibytes >= size:
            return f"{kibibytes // size}{unit}"
    return f"{kibibytes}KB"


def _limit_v1(raw: bytes) -> int | float:
    """No limit is the largest multiple of the page's size that a counter holds."""
    value = integer(raw)
    return math.inf if value >= _NO_LIMIT else value


_RESERVATIONS = (5, 7)


def mark(sizes: tuple[str, ...]) -> str:
    """Return the v2 file that tells whether the controller is enabled."""
    return f"hugetlb.{sizes[0]}.current" if sizes else ""


def files_v2(sizes: tuple[str, ...]) -> tuple[File, ...]:
    """Return the files of all sizes on v2."""
    options: dict[str, Any] = {"on_root": False, "since": (5, 6)}
    late = options | {"since": _RESERVATIONS}
    return tuple(
        file
        for name in (f"hugetlb.{size}" for size in sizes)
        for file in (
            File(f"{name}.rsvd.current", integer, **late),
            File(f"{name}.current", integer, instead_of=f"{name}.rsvd.current", **options),
            File(f"{name}.events", _parse_events, **options),
            File(f"{name}.rsvd.max", limit, setting=True, **late),
            File(f"{name}.max", limit, setting=True, **options),
        )
    )


def _stats_v2(*values: Any, sizes: tuple[str, ...]) -> HugetlbStats:  # noqa: ANN401 - one for each of files_v2
    per_size = len(values) // len(sizes)
    pages = []
    for place, size in enumerate(sizes):
        reserved, used, events, *limits = values[place * per_size : (place + 1) * per_size]
        usage = used if reserved is None else reserved
        pages.append(HugePages(size, usage, None, events.max if events else None, _least(limits)))
    return HugetlbStats(tuple(pages))


def files_v1(sizes: tuple[str, ...]) -> tuple[File, ...]:
    """Return the files of all sizes on v1."""
    v1: dict[str, Any] = {"controller": "hugetlb"}
    late = v1 | {"since": _RESERVATIONS}
    return tuple(
        file
        for name in (f"hugetlb.{size}" for size in sizes)
        for file in (
            *(
                each
                for word in ("usage_in_bytes", "max_usage_in_bytes")
                for each in (
                    File(f"{name}.rsvd.{word}", integer, **late),
                    File(f"{name}.{word}", integer, instead_of=f"{name}.rsvd.{word}", **v1),
                )
            ),
            File(f"{name}.rsvd.failcnt", integer, **late),
            File(f"{name}.failcnt", integer, **v1),
            File(f"{name}.rsvd.limit_in_bytes", _limit_v1, setting=True, **late),
            File(f"{name}.limit_in_bytes", _limit_v1, setting=True, **v1),
        )
    )


def _stats_v1(*values: Any, sizes: tuple[str, ...]) -> HugetlbStats:  # noqa: ANN401 - one for each of files_v1
    per_size = len(values) // len(sizes)
    pages = []
    for place, size in enumerate(sizes):
        reserved, used, reserved_peak, used_peak, *rest = values[place * per_size : (place + 1) * per_size]
        refused = [count for count in rest[:2] if count is not None]
        pages.append(
            HugePages(
                size,
                usage_bytes=used if reserved is None else reserved,
                peak_bytes=used_peak if reserved_peak is None else reserved_peak,
                # A refusal counts in one of the two; v2's event is their sum.
                refused_total=sum(refused) if refused else None,
                limit_bytes=_least(rest[2:]),
            )
        )
    return HugetlbStats(tuple(pages))


def _least(limits: list[int | float | None]) -> int | float | None:
    return min((each for each in limits if each is not None), default=None)


def stats_v2(sizes: tuple[str, ...]) -> partial[HugetlbStats]:
    """Return what makes one object of the files in ``files_v2``."""
    return partial(_stats_v2, sizes=sizes)


def stats_v1(sizes: tuple[str, ...]) -> partial[HugetlbStats]:
    """Return what makes one object of the files in ``files_v1``."""
    return partial(_stats_v1, sizes=sizes)
