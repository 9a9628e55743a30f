"""The node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter

from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot
from cgwatch.proc.machine import Machine

LABELS = ("boot_id", "machine_id", "system_uuid")
"""Of every family of the node that cAdvisor has, and of those beside them."""


def of_the_machine(
    rows: Callable[[Snapshot], Iterable[Row]],
) -> Callable[[object, Snapshot], Iterable[Row]]:
    """Put the machine's labels before the labels of each row."""

    def labelled(_part: object, snapshot: Snapshot) -> Iterable[Row]:
        if snapshot.machine is None:
            return ()
        machine = ",".join(label(name, getattr(snapshot.machine, name)) for name in LABELS)
        return [(f"{machine},{more}" if more else machine, value) for more, value in rows(snapshot)]

    return labelled


def _machine(name: str, help_text: str, field: str, source: str, absent: str = "") -> Family:
    get: Callable[[Machine | None], Number | None] = attrgetter(field)
    return Family(
        name,
        Type.GAUGE,
        help_text,
        "machine",
        Part.SNAPSHOT,
        source,
        rows=of_the_machine(lambda snapshot: [("", get(snapshot.machine))]),
        labels=LABELS,
        absent=absent,
    )


def _dimms(name: str, help_text: str, field: str, source: str) -> Family:
    get: Callable[[object], Number] = attrgetter(field)
    return Family(
        name,
        Type.GAUGE,
        help_text,
        "machine",
        Part.SNAPSHOT,
        source,
        rows=of_the_machine(
            lambda snapshot: [(label("type", kind), get(dimms)) for kind, dimms in snapshot.dimms.items()]
        ),
        labels=(*LABELS, "type"),
        absent="without a driver of the memory controller (EDAC), as on most virtual machines",
    )


FAMILIES = (
    _machine("machine_cpu_cores", "Logical CPUs that are online.", "cores", "/proc/stat"),
    _machine(
        "machine_cpu_physical_cores",
        "CPU cores, hyper-threads counted once.",
        "physical_cores",
        "/proc/cpuinfo, else /sys/devices/system/cpu",
        "where neither tells",
    ),
    _machine("machine_cpu_sockets", "CPU packages.", "sockets", "/proc/cpuinfo"),
    _machine("machine_cpu_books", "CPU books of a mainframe.", "books", "/proc/cpuinfo (s390x; else 0)"),
    _machine(
        "machine_cpu_drawers", "CPU drawers of a mainframe.", "drawers", "/proc/cpuinfo (s390x; else 0)"
    ),
    _machine("machine_memory_bytes", "Memory of the machine, in bytes.", "memory_bytes", "/proc/meminfo"),
    _machine("machine_swap_bytes", "Swap of the machine, in bytes.", "swap_bytes", "/proc/meminfo"),
    _dimms(
        "machine_dimm_count",
        "Memory modules, by type.",
        "count",
        "/sys/devices/system/edac/mc/mc*/dimm*/dimm_mem_type",
    ),
    _dimms(
        "machine_dimm_capacity_bytes",
        "Capacity of the memory modules, by type, in bytes.",
        "capacity_bytes",
        "/sys/devices/system/edac/mc/mc*/dimm*/size",
    ),
    Family(
        "machine_scrape_error",
        Type.GAUGE,
        "Whether CPUs or memory of the machine could not be read (1) or could (0).",
        "machine",
        Part.SNAPSHOT,
        "1 while the machine's memory and CPUs cannot be read",
        rows=lambda _part, snapshot: [
            (
                "",
                int(
                    snapshot.machine is None
                    or None in (snapshot.machine.cores, snapshot.machine.memory_bytes)
                ),
            )
        ],
    ),
)
