"""Pressure stall information of one cgroup and all below it (Documentation/accounting/psi.rst, since 4.20).

Only the unified hierarchy has it; on a hybrid host it is read there while the rest comes from v1.
"""

from __future__ import annotations

from msgspec import Struct

from cgwatch.cgroup.files import File
from cgwatch.cgroup.formats import Pressure, pressure


class PressureStats(Struct, frozen=True, gc=False):
    """One ``Pressure`` for each resource; ``None`` where the kernel does not account it."""

    cpu: Pressure | None = None
    memory: Pressure | None = None
    io: Pressure | None = None
    irq: Pressure | None = None


_NEEDS = "pressure stall information (CONFIG_PSI, not psi=0, cgroup.pressure 1)"

FILES = (
    File("cpu.pressure", pressure, since=(4, 20), needs=_NEEDS),
    File("memory.pressure", pressure, since=(4, 20), needs=_NEEDS, pulse=True),
    File("io.pressure", pressure, since=(4, 20), needs=_NEEDS, pulse=True),
    File("irq.pressure", pressure, since=(6, 1), needs=_NEEDS + " and CONFIG_IRQ_TIME_ACCOUNTING"),
)


def stats(
    cpu: Pressure | None, memory: Pressure | None, io: Pressure | None, irq: Pressure | None
) -> PressureStats:
    """Make one object of the files in ``FILES``."""
    return PressureStats(cpu, memory, io, irq)
