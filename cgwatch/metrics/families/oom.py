"""OOM kills of the cgroups that are there; those of containers that are gone are the agent's own metrics."""

from __future__ import annotations

from collections.abc import Iterable

from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.model import Sample, Snapshot


def _kills(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    kills = snapshot.oom_kills
    return () if kills is None else (("", kills.get(sample.container.cgroup.path, 0)),)


FAMILIES = (
    Family(
        "container_oom_events_total",
        Type.COUNTER,
        "OOM kills by the kernel that count for the container, since cgwatch began to keep its ledger.",
        "oom_event",
        Part.SAMPLE,
        "the ledger: memory.events; v1 memory.oom_control; and /proc/vmstat, the kernel's log, the runtime",
        rows=_kills,
        volatile=True,
        absent="with oom.enabled off",
    ),
)
