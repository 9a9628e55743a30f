"""The shares that a cgroup's CPU weight stands for."""

from __future__ import annotations

from collections.abc import Mapping

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.shares import DEFAULT_SHARES, DEFAULT_WEIGHT, Formula, is_of, shares_of
from cgwatch.model import Sample
from cgwatch.sampling.formulas import known_shares, writer_of


def shown_shares(sample: Sample, cpu: CpuStats, formulas: Mapping[str, Formula]) -> int | None:
    """Return the shares of a cgroup; ``None`` where it has no weight. ``formulas`` are the snapshot's.

    Exactly what was asked for, if that is known and the weight comes of it. Else the weight decides: the
    kernel's default stands for its default of v1, as nobody wrote it or did so by the newer formula; all
    others are taken for the writer's formula, and without a hint for the older one, as cAdvisor does.
    """
    weight = cpu.weight
    if cpu.shares is not None or weight is None:
        return cpu.shares
    known = known_shares(sample)
    if known is not None and is_of(weight, known):
        return known
    if weight == DEFAULT_WEIGHT:
        return DEFAULT_SHARES
    return shares_of(weight, formulas.get(writer_of(sample.container.owner) or "", Formula.LINEAR))
