"""Whether a limit is what it was meant to become: what was read back, judged. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from cgwatch.cgroup.knob import Rounding, Unit, Value
from cgwatch.cgroup.knob_values import format_value
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, knob_of
from cgwatch.change import Change, Key, Result, Via

QUOTA_STEP_PER_SECOND = 10_000
"""Microseconds: systemd keeps quotas in hundredths of a CPU, and runc rounds up to them."""
_PRACTICALLY_UNLIMITED = 1 << 62
"""Bytes: Docker cannot say "no limit", so the largest numbers mean it."""


class Seen(Struct, frozen=True):
    """What the kernel says after a write."""

    value: Value | None
    """Of the limit; ``None``: it is not offered any more."""
    effective: Value | None = None
    effective_path: str | None = None
    usage_bytes: int | None = None
    """Of memory, for ``memory.max`` alone."""


def same(
    key: Key,
    one: Value | None,
    other: Value | None,
    *,
    page_bytes: int,
    via: Via = Via.CGROUPFS,
    period: int = 0,
) -> bool:
    """Whether two values of a limit are the same, as far as it can be told after a write by ``via``.

    Bytes are the same in one page, and quotas in one step of systemd; ``period``: of the quota, in
    microseconds, 0 for the kernel's default.
    """
    if one is None or other is None or one == other:
        return one == other
    if isinstance(one, str) or isinstance(other, str):
        return False
    knob = knob_of(key)
    if knob.unit is Unit.BYTES:
        if min(one, other) >= _PRACTICALLY_UNLIMITED:
            return True
        if math.inf in (one, other):
            return False
        return knob.rounding is Rounding.PAGE and one // page_bytes == other // page_bytes
    if key == "cpu.max" and via is not Via.CGROUPFS and math.inf not in (one, other):
        step = QUOTA_STEP_PER_SECOND * (period or DEFAULT_PERIOD_MICROSECONDS) / 1_000_000
        return abs(one - other) <= step
    return False


def judged(
    change: Change, first: Seen, last: Seen, *, page_bytes: int, via: Via, period: int = 0
) -> tuple[Result, str]:
    """Say what became of a change, and what to do about it where it is not simply applied.

    ``first``: right after the write; ``last``: a while later.
    """

    def is_same(one: Value | None, other: Value | None) -> bool:
        return same(change.key, one, other, page_bytes=page_bytes, via=via, period=period)

    def shown(value: Value | None) -> str:
        return "nothing" if value is None else format_value(change.key, value)

    if first.value is None or last.value is None:
        return Result.REVERTED, "the kernel does not offer this limit any more: its controller was turned off"
    if not is_same(last.value, first.value):
        return Result.REVERTED, (
            f"somebody wrote {shown(last.value)} over it at once; find out who manages this cgroup, or use the "
            "way that its owner knows of (--via auto)"
        )
    if not is_same(last.value, change.to):
        if is_same(last.value, change.before):
            return Result.REVERTED, f"the write was taken, and the limit is {shown(last.value)} as before"
        return Result.CLAMPED, f"the kernel made {shown(last.value)} of {shown(change.to)}"
    if last.usage_bytes is not None and not isinstance(last.value, str) and last.usage_bytes > last.value:
        return Result.APPLIED_NOT_EFFECTIVE, (
            f"{last.usage_bytes} bytes are still in use, which cannot be reclaimed: end processes, or allow more"
        )
    if last.effective is not None and not is_same(last.effective, last.value):
        return Result.APPLIED_NOT_EFFECTIVE, (
            f"{last.effective_path} above it allows {shown(last.effective)}: change the limit there"
        )
    return Result.APPLIED, ""


class Standing(Struct, frozen=True):
    """How the value of an override stands to what is there."""

    ours: bool
    at_baseline: bool


def standing(
    key: Key,
    current: Value | None,
    override: Value,
    baseline: Value | None,
    *,
    page_bytes: int,
    via: Via,
    period: int = 0,
) -> Standing:
    """Say whether a limit is what we made of it, and whether it is what it was before."""
    ours = same(key, current, override, page_bytes=page_bytes, via=via, period=period)
    at_baseline = same(key, current, baseline, page_bytes=page_bytes, via=via, period=period)
    return Standing(ours, at_baseline)


def period_of(values: Mapping[Key, Value]) -> int:
    """Return the period that a cgroup's quota is of; 0 where there is none."""
    period = values.get("cpu.max.period", 0)
    return period if isinstance(period, int) else 0
