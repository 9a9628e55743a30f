"""The catalogue: every container and machine metric, its name, type, help and where its value comes from.

Names, types and labels are cAdvisor's (v0.60), so that the queries of its users keep working. A value that
the kernel did not give is an absent series, never a made-up zero.

A new metric is one row in its group's module; the page, ``cgwatch metrics --list`` and the tests follow.
"""

from __future__ import annotations

from cgwatch.metrics.families import always, cpu, disk, machine, memory, network, pressure, process, spec
from cgwatch.metrics.families.base import Family

FAMILIES: tuple[Family, ...] = (
    *always.FAMILIES,
    *spec.FAMILIES,
    *cpu.FAMILIES,
    *memory.FAMILIES,
    *disk.FAMILIES,
    *network.FAMILIES,
    *pressure.FAMILIES,
    *process.FAMILIES,
    *machine.FAMILIES,
)

GROUPS = frozenset(family.group for family in FAMILIES if family.group) | {"percpu"}
"""What the configuration can switch; ``percpu`` decides between the CPU usage by CPU and its total."""


def enabled(groups: frozenset[str]) -> tuple[Family, ...]:
    """Return the families of the groups that are on, and those that are always there."""
    families = [family for family in FAMILIES if not family.group or family.group in groups]
    return tuple(
        cpu.USAGE_TOTAL if family is cpu.USAGE and "percpu" not in groups else family for family in families
    )
