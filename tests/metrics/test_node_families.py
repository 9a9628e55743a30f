"""Values of the families of the node: file systems, topology, memory modules, pressure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.discovery.recognise import recognise
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.families.topology import FAMILIES as TOPOLOGY
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.model import Cgroup, Container, Sample, Snapshot
from cgwatch.proc.edac import Dimms
from cgwatch.proc.filesystems import Filesystem
from cgwatch.proc.machine import Machine
from cgwatch.proc.topology import Cache, Core, Node
from tests.golden.reading import series_of

if TYPE_CHECKING:
    from cgwatch.metrics.families.base import Family

KIB = 1024
MACHINE = Machine(1, 1, 1, 0, 0, 4096, 0, "m", "u", "b", "6.1.0", "", 77.0, 100)
OF_THE_MACHINE = {"boot_id": "b", "machine_id": "m", "system_uuid": "u"}


def snapshot_of(*paths: str, **more: Any) -> Snapshot:
    samples = tuple(Sample(Container(Cgroup(path, 1), recognise(path))) for path in paths)
    return Snapshot(0, 1000.0, 0.0, 0.0, samples, Layout.V2, **{"machine": MACHINE, **more})


def values(name: str, snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """Give the series of one family by the values of its own labels, in their order."""
    (family,) = (family for family in FAMILIES if family.name == name)
    own = [label for label in family.labels if label not in OF_THE_MACHINE]
    page = Renderer((family,)).render(snapshot, Format.TEXT)
    found = {}
    for (_, labels), value in series_of(page, Format.TEXT).items():
        said = dict(labels)
        if OF_THE_MACHINE.keys() <= set(family.labels):
            assert OF_THE_MACHINE.items() <= said.items()
        found[tuple(said[label] for label in own)] = value
    return found


# File systems.

DISK = Filesystem("/dev/vda1", 1000, 400, 300, 50, 20)


@pytest.mark.parametrize(
    ("what", "value"),
    [("usage_bytes", 600), ("limit_bytes", 1000), ("inodes_total", 50), ("inodes_free", 20)],
)
def test_the_nodes_file_systems_are_the_roots(what: str, value: int) -> None:
    snapshot = snapshot_of("/", "/docker/a", filesystems=(DISK,))
    assert values(f"container_fs_{what}", snapshot) == {("/dev/vda1",): value}


def test_where_inodes_are_made_as_needed_there_are_no_series_of_them() -> None:
    btrfs = structs.replace(DISK, inodes_total=None, inodes_free=None)
    snapshot = snapshot_of("/", filesystems=(btrfs,))
    assert values("container_fs_inodes_total", snapshot) == {}
    assert values("container_fs_usage_bytes", snapshot) == {("/dev/vda1",): 600}


def test_without_the_root_cgroup_there_is_nobody_to_show_them_under() -> None:
    assert values("container_fs_usage_bytes", snapshot_of("/docker/a", filesystems=(DISK,))) == {}


# Topology.


def core(core_id: int, *threads: int, caches: tuple[Cache, ...] = (), package_id: int = 0) -> Core:
    return Core(core_id, package_id, threads, caches)


L1, L3 = Cache(1, "Data", 32 * KIB, (0, 1)), Cache(3, "Unified", 8192 * KIB, (0, 1, 2, 3))
NODE = Node(
    1,
    memory_bytes=1 << 30,
    hugepages={2048 * KIB: 3, 1048576 * KIB: 0},
    distances={0: 20, 1: 10},
    cores=(core(0, 0, 1, caches=(L1,)), core(4, 2, 3)),
    caches=(L3,),
)


def test_a_node_has_its_memory_huge_pages_and_distances() -> None:
    snapshot = snapshot_of(topology=(NODE,))
    assert values("machine_node_memory_capacity_bytes", snapshot) == {("1",): 1 << 30}
    assert values("machine_node_hugepages_count", snapshot) == {("1", "2048"): 3, ("1", "1048576"): 0}
    assert values("machine_node_distance", snapshot) == {("1", "0"): 20, ("1", "1"): 10}


def test_a_cache_is_a_cores_or_with_an_empty_core_the_nodes() -> None:
    assert values("machine_cpu_cache_capacity_bytes", snapshot_of(topology=(NODE,))) == {
        ("1", "0", "Data", "1"): 32 * KIB,
        ("1", "", "Unified", "3"): 8192 * KIB,
    }


def test_each_thread_says_how_many_its_core_has() -> None:
    assert values("machine_thread_siblings_count", snapshot_of(topology=(NODE,))) == {
        ("1", "0", "0"): 2,
        ("1", "0", "1"): 2,
        ("1", "4", "2"): 2,
        ("1", "4", "3"): 2,
    }


def test_cores_of_one_id_in_one_node_are_told_apart_by_their_first_cpu() -> None:
    cores = (
        core(0, 0, caches=(Cache(1, "Data", KIB, (0,)),)),
        core(0, 4, caches=(Cache(1, "Data", 2 * KIB, (4,)),), package_id=1),
        core(1, 1, caches=(Cache(1, "Data", 3 * KIB, (1,)),)),
    )
    snapshot = snapshot_of(topology=(structs.replace(NODE, cores=cores, caches=()),))
    assert values("machine_cpu_cache_capacity_bytes", snapshot) == {
        ("1", "0/cpu0", "Data", "1"): KIB,
        ("1", "0/cpu4", "Data", "1"): 2 * KIB,
        ("1", "1", "Data", "1"): 3 * KIB,
    }


def test_without_numa_there_is_no_memory_of_a_node() -> None:
    snapshot = snapshot_of(topology=(Node(0, None, {}, {}, (core(0, 0),), ()),))
    assert values("machine_node_memory_capacity_bytes", snapshot) == {}
    assert values("machine_thread_siblings_count", snapshot) == {("0", "0", "0"): 1}


CACHES = st.builds(
    Cache, st.integers(1, 2), st.sampled_from(["Data", "Unified"]), st.just(KIB), st.just((0,))
)


@given(st.lists(st.tuples(st.integers(0, 1), st.lists(CACHES, max_size=4)), max_size=6))
def test_no_two_series_of_a_page_have_the_same_labels(built: list[tuple[int, list[Cache]]]) -> None:
    cores = tuple(core(number, cpu, caches=tuple(caches)) for cpu, (number, caches) in enumerate(built))
    snapshot = snapshot_of(topology=(structs.replace(NODE, cores=cores),))
    page = series_of(Renderer(TOPOLOGY).render(snapshot, Format.TEXT), Format.TEXT)  # raises for two
    assert len([name for name, _ in page if name == "machine_thread_siblings_count"]) == len(cores)


# Memory modules.


def test_memory_modules_are_counted_by_type() -> None:
    snapshot = snapshot_of(dimms={"DDR4": Dimms(2, 1 << 34), "NVDIMM": Dimms(1, 1 << 30)})
    assert values("machine_dimm_count", snapshot) == {("DDR4",): 2, ("NVDIMM",): 1}
    assert values("machine_dimm_capacity_bytes", snapshot) == {("DDR4",): 1 << 34, ("NVDIMM",): 1 << 30}


# Pressure.

SOME, FULL = PressureLine(0.25, 0.5, 0.75, 12.5), PressureLine(0.0, 0.0, 0.1, 1.5)


def test_pressure_of_the_node_is_in_seconds_and_as_ratios() -> None:
    snapshot = snapshot_of(pressure=PressureStats(memory=Pressure(SOME, FULL)))
    assert values("machine_pressure_memory_waiting_seconds_total", snapshot) == {(): 12.5}
    assert values("machine_pressure_memory_stalled_seconds_total", snapshot) == {(): 1.5}
    assert values("machine_pressure_memory_waiting_ratio", snapshot) == {
        ("10s",): 0.25,
        ("60s",): 0.5,
        ("300s",): 0.75,
    }


def pressures() -> tuple[Family, ...]:
    return tuple(family for family in FAMILIES if family.name.startswith("machine_pressure_"))


def test_a_node_is_never_stalled_for_cpu_and_interrupts_know_nothing_else() -> None:
    everything = PressureStats(*[Pressure(SOME, FULL)] * 4)
    page = Renderer(pressures()).render(snapshot_of(pressure=everything), Format.TEXT)
    words = {name.split("_")[2] + "_" + name.split("_")[3] for name, _ in series_of(page, Format.TEXT)}
    assert words == {
        *("cpu_waiting", "irq_stalled"),
        *("memory_waiting", "memory_stalled", "io_waiting", "io_stalled"),
    }


@pytest.mark.parametrize("pressure", [None, PressureStats()])
def test_without_pressure_information_there_are_no_series(pressure: PressureStats | None) -> None:
    assert Renderer(pressures()).render(snapshot_of(pressure=pressure), Format.TEXT) == ""


def test_without_a_machine_to_name_there_are_no_series_of_it() -> None:
    snapshot = snapshot_of(machine=None, topology=(NODE,), dimms={"DDR4": Dimms(2, 1)})
    assert Renderer(TOPOLOGY).render(snapshot, Format.TEXT) == ""
