"""Whether a limit is what it was meant to become: what was read back, judged. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

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
    if one is None or other is None or one == other or isinstance(one, str) or isinstance(other, str):
        return one == other
    knob = knob_of(key)
    is_finite = math.inf not in (one, other)
    if knob.unit is Unit.BYTES and min(one, other) >= _PRACTICALLY_UNLIMITED:
        return True
    if knob.rounding is Rounding.PAGE:
        return is_finite and one // page_bytes == other // page_bytes
    step = QUOTA_STEP_PER_SECOND * (period or DEFAULT_PERIOD_MICROSECONDS) / 1_000_000
    return key == "cpu.max" and via is not Via.CGROUPFS and is_finite and abs(one - other) <= step


def judged(
    change: Change, first: Seen, last: Seen, *, page_bytes: int, via: Via, period: int = 0
) -> tuple[Result, str]:
    """Say what became of a change, and what to do about it where it is not simply applied.

    ``first``: right after the write; ``last``: a while later.
    """

    def is_same(one: Value | None, other: Value | None) -> bool:
        return same(change.key, one, other, page_bytes=page_bytes, via=via, period=period)

    if first.value is None or last.value is None:
        return Result.REVERTED, "the kernel does not offer this limit any more: its controller was turned off"
    shown = format_value(change.key, last.value)
    if not is_same(last.value, first.value):
        found = (
            Result.REVERTED,
            (
                f"somebody wrote {shown} over it at once; find out who manages this cgroup, or use the way"
                " that its owner knows of (--via auto)"
            ),
        )
    elif is_same(last.value, change.to):
        found = _in_effect(change.key, last, is_same)
    elif is_same(last.value, change.before):
        found = Result.REVERTED, f"the write was taken, and the limit is {shown} as before"
    else:
        found = Result.CLAMPED, f"the kernel made {shown} of {format_value(change.key, change.to)}"
    return found


def _in_effect(
    key: Key, last: Seen, is_same: Callable[[Value | None, Value | None], bool]
) -> tuple[Result, str]:
    """Say whether a limit that stands does what it says."""
    usage, value = last.usage_bytes, last.value
    if usage is not None and not isinstance(value, str) and value is not None and usage > value:
        return Result.APPLIED_NOT_EFFECTIVE, (
            f"{usage} bytes are still in use and cannot be reclaimed: end processes, or allow more"
        )
    if last.effective is not None and not is_same(last.effective, value):
        return Result.APPLIED_NOT_EFFECTIVE, (
            f"{last.effective_path} above it allows {format_value(key, last.effective)}:"
            " change the limit there"
        )
    return Result.APPLIED, ""


def period_of(values: Mapping[Key, Value]) -> int:
    """Return the period that a cgroup's quota is of; 0 where there is none."""
    period = values.get("cpu.max.period", 0)
    return period if isinstance(period, int) else 0
