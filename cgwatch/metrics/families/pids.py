"""Tasks: processes and threads together, as the pids controller counts and limits them."""

from __future__ import annotations

from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Type

_ABSENT = "without the pids controller, and for the root"
FAMILIES = (
    Family(
        "container_pids_current",
        Type.GAUGE,
        "Tasks (processes and threads) in the container, nested cgroups included.",
        "pids",
        Part.PIDS,
        "pids.current",
        value=attrgetter("current"),
        absent=_ABSENT,
    ),
    Family(
        "container_pids_peak",
        Type.GAUGE,
        "Highest number of tasks so far.",
        "pids",
        Part.PIDS,
        "pids.peak",
        value=attrgetter("peak"),
        absent=f"{_ABSENT}; before kernel 6.1",
    ),
    Family(
        "container_pids_limit_hits_total",
        Type.COUNTER,
        "How often no task could be made since a limit was reached.",
        "pids",
        Part.PIDS,
        "pids.events max (from 6.11 on v2: of the limit here or below; else: of tasks refused in this very"
        " cgroup, by the limit here or above); at most the settings' interval late",
        value=attrgetter("limit_hits_total"),
        absent=f"{_ABSENT}; before kernel 4.8",
    ),
)
