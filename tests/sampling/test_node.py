"""The node's own numbers, from trees of plain files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cgwatch.proc.edac import Dimms
from cgwatch.sampling.node import NodeReader
from cgwatch.sampling.plan import Plan
from tests.cgroup.fake_trees import PROC, write

if TYPE_CHECKING:
    from pathlib import Path

    from cgwatch.errors import KernelFileError

EVERYTHING = frozenset({"disks", "filesystems", "topology", "machine_pressure"})
LINE = "avg10=12.50 avg60=0.00 avg300=1.00 total=3000000\n"


class Machine:
    """A node of plain files, and a reader of it."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.sys = directory / "proc", directory / "sys"
        self.failures: list[KernelFileError] = []
        self.now = 0.0
        write(self.proc, {**PROC, "self/mountinfo": "", "pressure/io": f"some {LINE}full {LINE}"})
        module = "devices/system/edac/mc/mc0/dimm0"
        write(self.sys, {f"{module}/dimm_mem_type": "DDR4\n", f"{module}/size": "4096\n"})

    def reader(self, parts: frozenset[str] = EVERYTHING) -> NodeReader:
        return NodeReader(
            proc_root=str(self.proc),
            sys_root=str(self.sys),
            plan=Plan(parts=parts),
            monotonic=lambda: self.now,
            failed=self.failures.append,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_pressure_is_in_seconds_and_ratios_and_none_where_the_kernel_has_no_file(machine: Machine) -> None:
    pressure = machine.reader().pressure()
    assert pressure is not None
    assert pressure.io is not None
    assert pressure.io.some is not None
    assert (pressure.io.some.avg10_ratio, pressure.io.some.total_seconds) == (0.125, 3.0)
    assert (pressure.cpu, pressure.memory, pressure.irq) == (None, None, None)
    assert machine.failures == []


def test_a_pressure_file_that_cannot_be_understood_is_a_failure_and_costs_no_other(machine: Machine) -> None:
    write(machine.proc, {"pressure/cpu": "some 1\n"})
    pressure = machine.reader().pressure()
    assert pressure is not None
    assert (pressure.cpu, pressure.io is None) == (None, False)
    assert [failure.path for failure in machine.failures] == [f"{machine.proc}/pressure/cpu"]


def test_memory_modules_are_looked_at_as_often_as_the_machine(machine: Machine) -> None:
    reader = machine.reader()
    assert reader.dimms == {"DDR4": Dimms(1, 4096 << 20)}
    write(machine.sys, {"devices/system/edac/mc/mc0/dimm0/size": "8192\n"})
    machine.now = 299.0
    reader.begin_tick()
    assert reader.dimms["DDR4"].capacity_bytes == 4096 << 20
    machine.now = 300.0
    reader.begin_tick()
    assert reader.dimms["DDR4"].capacity_bytes == 8192 << 20


def test_disks_and_topology_are_there(machine: Machine) -> None:
    write(
        machine.sys,
        {
            "devices/system/cpu/online": "0\n",
            "devices/system/cpu/cpu0/topology/thread_siblings_list": "0\n",
            "devices/system/cpu/cpu0/topology/core_id": "0\n",
        },
    )
    reader = machine.reader()
    disks = reader.disks()
    assert disks is not None
    assert [(disk.name, disk.reads_total) for disk in disks] == [("sda", 1)]
    assert [core.threads for node in reader.topology for core in node.cores] == [(0,)]


def test_a_disk_table_that_cannot_be_read_is_a_failure_and_no_disks(machine: Machine) -> None:
    (machine.proc / "diskstats").unlink()
    assert machine.reader().disks() is None
    assert [failure.path for failure in machine.failures] == [f"{machine.proc}/diskstats"]


def test_what_nobody_wants_is_not_read(machine: Machine) -> None:
    write(machine.proc, {"diskstats": "?", "pressure/io": "?"})
    (machine.proc / "self/mountinfo").unlink()
    reader = machine.reader(frozenset())
    reader.begin_tick()
    assert (reader.disks(), reader.filesystems(), reader.topology, reader.pressure()) == (None, (), (), None)
    assert machine.failures == []
