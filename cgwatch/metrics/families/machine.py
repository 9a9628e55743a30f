"""The node."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from cgwatch.metrics.families.base import Family, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Snapshot


def _machine(name: str, help_text: str, field: str, source: str, absent: str = "") -> Family:
    get = attrgetter(field)

    def rows(_part: object, snapshot: Snapshot) -> Iterable[Row]:
        machine = snapshot.machine
        if machine is None:
            return
        labels = {
            "boot_id": machine.boot_id,
            "machine_id": machine.machine_id,
            "system_uuid": machine.system_uuid,
        }
        yield ",".join(label(key, value) for key, value in labels.items()), get(machine)

    return Family(
        name,
        Type.GAUGE,
        help_text,
        "machine",
        Part.SNAPSHOT,
        source,
        rows=rows,
        labels=("boot_id", "machine_id", "system_uuid"),
        absent=absent,
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
