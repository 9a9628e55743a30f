"""Huge pages."""

from __future__ import annotations

from tests.metrics.conformance.rules import COUNTER, GAUGE, Captured, Row, Rule, file, none

_SIZE = ("pagesize",)
_V1, _V2 = "hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.current"


def _limited(*names: str) -> Rule:
    def rule(cgroup: Captured) -> bool:
        limits = [cgroup.text(name).strip() for name in names]
        return any(text.isdigit() and int(text) < 1 << 62 for text in limits)

    return rule


ROWS: tuple[Row, ...] = (
    Row("container_hugetlb_usage_bytes", GAUGE, _SIZE, file(_V1), file(_V2)),
    Row("container_hugetlb_max_usage_bytes", GAUGE, _SIZE, file(_V1), none, "0 on v2"),
    Row(
        "container_hugetlb_failcnt",
        COUNTER,
        _SIZE,
        file(_V1),
        file(_V2),
        "of reservations alone on v1, of both on v2",
    ),
    Row(
        "container_spec_hugetlb_limit_bytes",
        GAUGE,
        _SIZE,
        _limited("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"),
        _limited("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"),
        own=True,
    ),
)
