"""``cpu.shares`` of v1 and ``cpu.weight`` of v2: a runtime is asked for the one and writes the other.

Two formulas are about, both from 2..262144 to 1..10000 (``ConvertCPUSharesToCgroupV2Value`` of
opencontainers/cgroups, ``convert_shares_to_weight`` of crun; containerd, CRI-O, Docker and Podman use these):

- linear, runc before 1.3.2 and crun before 1.23: a weight stands for 26 or 27 shares, and the kernel's two
  defaults do not belong together (1024 shares become a weight of 39, not of 100);
- quadratic in the logarithm, since then: 2, 1024 and 262144 become 1, 100 and 10000.

cAdvisor knows the linear one alone.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache

LEAST_SHARES, MOST_SHARES = 2, 262144
LEAST_WEIGHT, MOST_WEIGHT = 1, 10000
DEFAULT_SHARES, DEFAULT_WEIGHT = 1024, 100
"""The kernel's."""

_SHARES_RANGE, _WEIGHT_RANGE = MOST_SHARES - LEAST_SHARES, MOST_WEIGHT - LEAST_WEIGHT
_MILLICPUS = 1000
_KEPT = 4096  # results; the weights of a node are few


class Formula(StrEnum):
    """How shares became a weight."""

    LINEAR = "linear"
    QUADRATIC = "quadratic"


def weight_of(shares: int, formula: Formula) -> int:
    """Return the weight that a runtime writes for ``shares``, which it brings between 2 and 262144."""
    shares = min(max(shares, LEAST_SHARES), MOST_SHARES)
    if formula is Formula.LINEAR:
        return LEAST_WEIGHT + (shares - LEAST_SHARES) * _WEIGHT_RANGE // _SHARES_RANGE
    # Floating point is no danger here: no result but the exact 1, 100 and 10000 comes near a whole number.
    logarithm = math.log2(shares)
    return math.ceil(math.pow(10, (logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34))


@lru_cache(_KEPT)
def shares_of(weight: int, formula: Formula) -> int:
    """Return shares that become ``weight``; several do, and the formula loses which.

    Of the quadratic formula the most of them, so that 1, 100 and 10000 are 2, 1024 and 262144 again. Of the
    linear one the number that cAdvisor shows: it is too low by up to 27, and may become the weight below. The
    weight 0 of a cgroup that is idle (``cpu.idle``) counts as the least.
    """
    weight = min(max(weight, LEAST_WEIGHT), MOST_WEIGHT)
    if formula is Formula.LINEAR:
        return LEAST_SHARES + (weight - LEAST_WEIGHT) * _SHARES_RANGE // _WEIGHT_RANGE
    logarithm = (-125 + math.sqrt(125**2 + 4 * 612 * (math.log10(weight) + 7 / 34))) / 2
    near = round(2**logarithm)  # the exact inverse, but for floating point
    return near if weight_of(near, formula) <= weight else near - 1


@lru_cache(_KEPT)
def formula_of(shares: int, weight: int) -> Formula | None:
    """Return the formula by which ``shares`` became ``weight``; ``None`` if neither does, or both do."""
    found = [formula for formula in Formula if weight_of(shares, formula) == weight]
    return found[0] if len(found) == 1 else None


@lru_cache(_KEPT)
def is_of(weight: int, shares: int) -> bool:
    """Whether a runtime, old or new, makes ``weight`` of ``shares``."""
    return any(weight_of(shares, formula) == weight for formula in Formula)


def shares_of_quota(quota_microseconds: float | None, period_microseconds: int | None) -> int | None:
    """Return the shares that Kubernetes asks for beside this quota where limit and request are the same.

    ``MilliCPUToShares`` and ``MilliCPUToQuota`` of the kubelet, ``pkg/kubelet/cm/helpers_linux.go``. Both are
    of the same thousandths of a CPU. ``None`` without a quota.
    """
    if quota_microseconds is None or quota_microseconds == math.inf or not period_microseconds:
        return None
    millicpus = int(quota_microseconds) * _MILLICPUS // period_microseconds
    return max(LEAST_SHARES, millicpus * DEFAULT_SHARES // _MILLICPUS)
