"""The cgroup itself: what is nested in it, what the kernel still holds of it, whether it is frozen."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from cgwatch.cgroup.core import CoreStats
from cgwatch.metrics.families.base import Family, Number, Part, Type


def _flag(field: str) -> Callable[[CoreStats], Number | None]:
    get = attrgetter(field)

    def value(core: CoreStats) -> Number | None:
        said: bool | None = get(core)
        return None if said is None else int(said)

    return value


def _cgroup(
    what: str, help_text: str, value: Callable[[CoreStats], Number | None], source: str, absent: str
) -> Family:
    return Family(
        f"container_cgroup_{what}",
        Type.GAUGE,
        help_text,
        "cgroup",
        Part.CORE,
        source,
        value=value,
        absent=f"outside a cgroup v2 hierarchy; {absent}",
    )


_STAT = "cgroup.stat {}; at most the settings' interval late"
FAMILIES = (
    _cgroup(
        "descendants",
        "Cgroups nested in it, at any depth.",
        attrgetter("descendants"),
        _STAT.format("nr_descendants"),
        "before kernel 4.14",
    ),
    _cgroup(
        "dying_descendants",
        "Removed cgroups below it that the kernel still holds for their memory: endless growth is a leak.",
        attrgetter("dying_descendants"),
        _STAT.format("nr_dying_descendants"),
        "before kernel 4.14",
    ),
    _cgroup(
        "populated",
        "Whether a process lives in it or below (1) or none does (0).",
        _flag("populated"),
        "cgroup.events populated",
        "for the root",
    ),
    _cgroup(
        "frozen",
        "Whether all of its processes are frozen (1) or not (0).",
        _flag("frozen"),
        "cgroup.events frozen",
        "for the root; before kernel 5.2",
    ),
)
