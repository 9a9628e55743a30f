"""Which formula the runtimes of this node write ``cpu.weight`` by: told by containers whose shares are known.

One such container tells for all others of its runtime, those that no API describes among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from cgwatch.cgroup.shares import DEFAULT_WEIGHT, Formula, formula_of, shares_of_quota
from cgwatch.model import Kind, Owner, Sample

_KUBELET = "kubelet"


def writer_of(owner: Owner) -> str | None:
    """Return who wrote a cgroup's weight: a container's runtime, or the kubelet; ``None``: neither."""
    if owner.kind is Kind.CONTAINER:
        return owner.runtime
    return _KUBELET if owner.kind in {Kind.POD, Kind.QOS} else None


def known_shares(sample: Sample) -> int | None:
    """Return the shares that the cgroup was asked for, if anybody tells.

    Docker's API does; and of a guaranteed pod, whose requests are its limits, the CPU quota does.
    """
    container, cpu = sample.container, sample.cpu
    if container.description is not None and container.description.cpu_shares:
        return container.description.cpu_shares
    if cpu is None or container.owner.qos_class != "guaranteed":
        return None
    return shares_of_quota(cpu.quota_microseconds, cpu.period_microseconds)


class Formulas:
    """Remembers for each writer what its newest container told: an update of the runtime changes it."""

    def __init__(self) -> None:
        self._told_seconds: dict[str, float] = {}
        self._known: Mapping[str, Formula] = {}

    def update(self, samples: Iterable[Sample]) -> Mapping[str, Formula]:
        """Return the formulas by writer; the very same object while nothing else is known."""
        for sample in samples:
            cpu = sample.cpu
            # The kernel's default tells nothing: the runtime may be about to write.
            if cpu is None or cpu.weight is None or cpu.weight == DEFAULT_WEIGHT:
                continue
            container = sample.container
            writer, made_seconds = writer_of(container.owner), container.created_seconds or 0.0
            if writer is None or made_seconds <= self._told_seconds.get(writer, -math.inf):
                continue
            shares = known_shares(sample)
            formula = None if shares is None else formula_of(shares, cpu.weight)
            if formula is None:
                continue
            self._told_seconds[writer] = made_seconds
            if self._known.get(writer) is not formula:
                self._known = {**self._known, writer: formula}
        return self._known
