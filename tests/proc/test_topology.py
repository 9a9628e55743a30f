from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import KernelFileError, MalformedFileError, ReadFailedError
from cgwatch.proc import topology
from cgwatch.proc.machine import read_machine_stat
from cgwatch.proc.reading import parsed
from cgwatch.proc.topology import Cache, Core, Node

MEMINFO = "\nNode {node} MemTotal:  {kibibytes:>15} kB\nNode {node} MemFree:         4313144 kB\n"


def unexpected(error: KernelFileError) -> None:
    raise error


def write(sys: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = sys / "devices/system" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")


def write_cpu(sys: Path, cpu: int, core: int, package: int, siblings: str) -> None:
    base = f"cpu/cpu{cpu}/topology"
    write(
        sys,
        {
            f"{base}/core_id": str(core),
            f"{base}/physical_package_id": str(package),
            f"{base}/thread_siblings_list": siblings,
        },
    )


def write_cache(sys: Path, cpu: int, index: int, *facts: str) -> None:
    names = ("level", "type", "size", "shared_cpu_list")
    write(
        sys,
        {f"cpu/cpu{cpu}/cache/index{index}/{name}": fact for name, fact in zip(names, facts, strict=True)},
    )


def write_node(sys: Path, node: int, cpus: str, distance: str, kibibytes: int = 1000) -> None:
    write(
        sys,
        {
            f"node/node{node}/cpulist": cpus,
            f"node/node{node}/distance": distance,
            f"node/node{node}/meminfo": MEMINFO.format(node=node, kibibytes=kibibytes),
            f"node/node{node}/hugepages/hugepages-2048kB/nr_hugepages": "3",
            f"node/node{node}/hugepages/hugepages-1048576kB/nr_hugepages": "0",
        },
    )


@pytest.fixture
def two_nodes(tmp_path: Path) -> Path:
    """Give two nodes of two cores of two threads, with L1 and L2 to the core and L3 to the node."""
    write(tmp_path, {"node/online": "0,2"})
    for position, node in enumerate((0, 2)):
        write_node(
            tmp_path,
            node,
            f"{2 * position}-{2 * position + 1},{2 * position + 4}-{2 * position + 5}",
            "10 21" if node == 0 else "21 10",
            kibibytes=1000 + node,
        )
    for cpu in range(8):
        core, package = cpu % 2, cpu // 2 % 2
        siblings = f"{cpu % 4},{cpu % 4 + 4}"
        write_cpu(tmp_path, cpu, core, package, siblings)
        write_cache(tmp_path, cpu, 0, "1", "Data", "32K", siblings)
        write_cache(tmp_path, cpu, 1, "1", "Instruction", "64K", siblings)
        write_cache(tmp_path, cpu, 2, "2", "Unified", "1024K", siblings)
        write_cache(tmp_path, cpu, 3, "3", "Unified", "32768K", "0-1,4-5" if package == 0 else "2-3,6-7")
        write(tmp_path, {f"cpu/cpu{cpu}/cache/uevent": ""})
    return tmp_path


def caches_of(*cpus: int) -> tuple[Cache, ...]:
    return (
        Cache(1, "Data", 32 << 10, cpus),
        Cache(1, "Instruction", 64 << 10, cpus),
        Cache(2, "Unified", 1 << 20, cpus),
    )


def test_nodes_have_memory_distances_cores_and_caches(two_nodes: Path) -> None:
    nodes = topology.read_topology(str(two_nodes), failed=unexpected)
    hugepages = {2048 << 10: 3, 1048576 << 10: 0}
    assert nodes == (
        Node(
            node_id=0,
            memory_bytes=1000 << 10,
            hugepages=hugepages,
            distances={0: 10, 2: 21},
            cores=(Core(0, 0, (0, 4), caches_of(0, 4)), Core(1, 0, (1, 5), caches_of(1, 5))),
            caches=(Cache(3, "Unified", 32 << 20, (0, 1, 4, 5)),),
        ),
        Node(
            node_id=2,
            memory_bytes=1002 << 10,
            hugepages=hugepages,
            distances={0: 21, 2: 10},
            cores=(Core(0, 1, (2, 6), caches_of(2, 6)), Core(1, 1, (3, 7), caches_of(3, 7))),
            caches=(Cache(3, "Unified", 32 << 20, (2, 3, 6, 7)),),
        ),
    )


def test_a_cache_of_a_part_of_the_node_stays_with_each_of_its_cores(two_nodes: Path) -> None:
    for cpu, cpus in ((0, "0,4"), (4, "0,4"), (1, "1,5"), (5, "1,5")):
        write_cache(two_nodes, cpu, 3, "3", "Unified", "16384K", cpus)
    node = topology.read_topology(str(two_nodes), failed=unexpected)[0]
    assert node.caches == ()
    assert [core.caches[-1] for core in node.cores] == [
        Cache(3, "Unified", 16 << 20, (0, 4)),
        Cache(3, "Unified", 16 << 20, (1, 5)),
    ]


def test_the_only_core_of_a_node_keeps_its_own_caches_and_not_the_nodes(tmp_path: Path) -> None:
    write(tmp_path, {"node/online": "0"})
    write_node(tmp_path, 0, "0", "10")
    write_cpu(tmp_path, 0, 0, 0, "0")
    write_cache(tmp_path, 0, 0, "2", "Unified", "1024K", "0")
    write_cache(tmp_path, 0, 1, "3", "Unified", "8192K", "0")
    (node,) = topology.read_topology(str(tmp_path), failed=unexpected)
    assert [cache.level for cache in node.cores[0].caches] == [2]
    assert [cache.level for cache in node.caches] == [3]


def test_a_node_of_memory_alone_has_no_cores(two_nodes: Path) -> None:
    write(two_nodes, {"node/online": "0,2-3"})
    write_node(two_nodes, 3, "", "30 30 10", kibibytes=5)
    node = topology.read_topology(str(two_nodes), failed=unexpected)[2]
    assert (node.memory_bytes, node.cores, node.caches) == (5 << 10, (), ())
    assert node.distances == {0: 30, 2: 30, 3: 10}


def test_a_machine_without_cache_information_still_has_cores(two_nodes: Path) -> None:
    for path in sorted((two_nodes / "devices/system/cpu").glob("*/cache/*/*")):
        path.unlink()
    nodes = topology.read_topology(str(two_nodes), failed=unexpected)
    assert [len(node.cores) for node in nodes] == [2, 2]
    assert not any(node.caches or core.caches for node in nodes for core in node.cores)


def test_a_cache_whose_size_is_not_told_is_no_cache(two_nodes: Path) -> None:
    for path in sorted((two_nodes / "devices/system/cpu").glob("*/cache/index3/size")):
        path.unlink()
    nodes = topology.read_topology(str(two_nodes), failed=unexpected)
    assert [node.caches for node in nodes] == [(), ()]
    assert [len(core.caches) for node in nodes for core in node.cores] == [3, 3, 3, 3]


def test_a_cpu_that_went_offline_meanwhile_is_left_out(two_nodes: Path) -> None:
    for path in sorted((two_nodes / "devices/system/cpu").glob("cpu[15]/topology/*")):
        path.unlink()
    node = topology.read_topology(str(two_nodes), failed=unexpected)[0]
    assert [core.threads for core in node.cores] == [(0, 4)]


def test_without_numa_each_package_is_a_node_of_cpus_alone(two_nodes: Path) -> None:
    (two_nodes / "devices/system/node/online").unlink()
    write(two_nodes, {"cpu/online": "0-7"})
    nodes = topology.read_topology(str(two_nodes), failed=unexpected)
    assert [(node.node_id, node.memory_bytes, node.hugepages, node.distances) for node in nodes] == [
        (0, None, {}, {}),
        (1, None, {}, {}),
    ]
    assert [core.threads for node in nodes for core in node.cores] == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert [len(node.caches) for node in nodes] == [1, 1]


def test_a_machine_that_tells_nothing_has_no_nodes(tmp_path: Path) -> None:
    assert topology.read_topology(str(tmp_path), failed=unexpected) == ()


@pytest.mark.parametrize(
    "name",
    [
        "node/node0/cpulist",
        "node/node0/distance",
        "node/node0/meminfo",
        "node/node0/hugepages/hugepages-2048kB/nr_hugepages",
        "cpu/cpu0/topology/core_id",
        "cpu/cpu0/topology/thread_siblings_list",
        "cpu/cpu0/topology/physical_package_id",
        "cpu/cpu0/cache/index0/level",
        "cpu/cpu0/cache/index0/size",
        "cpu/cpu0/cache/index0/shared_cpu_list",
    ],
)
def test_a_malformed_file_is_reported_with_its_path_and_everything_else_goes_on(
    two_nodes: Path, name: str
) -> None:
    whole = topology.read_topology(str(two_nodes), failed=unexpected)
    write(two_nodes, {name: "lots"})
    failures: list[KernelFileError] = []
    found = topology.read_topology(str(two_nodes), failed=failures.append)
    assert [(type(error), error.path) for error in failures] == [
        (MalformedFileError, str(two_nodes / "devices/system" / name))
    ]
    assert found[0] != whole[0]
    assert found[1] == whole[1]


def test_a_directory_that_cannot_be_listed_is_reported(
    two_nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = os.listdir

    def failing(path: str) -> list[str]:
        if path.endswith("node2/hugepages"):
            raise OSError(5, "Input/output error", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", failing)
    failures: list[KernelFileError] = []
    found = topology.read_topology(str(two_nodes), failed=failures.append)
    assert [type(error) for error in failures] == [ReadFailedError]
    assert [len(node.hugepages) for node in found] == [2, 0]


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (b"\n", ()),
        (b"0\n", (0,)),
        (b"0-3\n", (0, 1, 2, 3)),
        (b"0-1,8,10-11\n", (0, 1, 8, 10, 11)),
        (b"8,0\n", (0, 8)),
    ],
)
def test_lists_of_cpus_and_nodes_are_read(data: bytes, ids: tuple[int, ...]) -> None:
    assert topology.parse_ids(data) == ids


@pytest.mark.parametrize("data", [b"3-0", b"0,", b"-1", b"a", b"0-99999999999", b"0,0", b"0-1-2", b"1 2"])
def test_what_is_no_list_is_an_error_and_never_a_huge_one(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a list|is not a number|a number twice"):
        topology.parse_ids(data)


@given(st.sets(st.integers(0, 300)))
def test_every_set_of_cpus_survives_the_kernels_notation(cpus: set[int]) -> None:
    assert topology.parse_ids(",".join(map(str, sorted(cpus))).encode()) == tuple(sorted(cpus))


def test_firmware_that_does_not_know_says_minus_one() -> None:
    assert topology.parse_number(b"-1\n") == -1


PARSERS: tuple[Callable[[bytes], object], ...] = (
    topology.parse_ids,
    topology.parse_distances,
    topology.parse_node_meminfo,
    topology.parse_cache_size,
    topology.parse_number,
    topology.parse_word,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary() | st.text("0123456789-,K \n").map(str.encode))
def test_any_bytes_give_a_value_or_an_error_with_the_path(
    parse: Callable[[bytes], object], data: bytes
) -> None:
    try:
        value = parsed("/sys/x", data, parse)
    except MalformedFileError as error:
        assert error.path == "/sys/x"  # noqa: PT017 - not raising is as good
    else:
        assert value is not None


def test_this_machine_has_the_cpus_that_run_and_the_cores_that_psutil_counts() -> None:
    if not os.path.exists("/sys/devices/system/cpu/cpu0/topology"):
        pytest.skip("needs a kernel that tells the topology of its CPUs")
    nodes = topology.read_topology(failed=unexpected)
    cores = [core for node in nodes for core in node.cores]
    assert len({cpu for core in cores for cpu in core.threads}) == read_machine_stat().cores
    assert len(cores) == psutil.cpu_count(logical=False)


def test_a_cache_of_this_machine_serves_the_core_that_has_it() -> None:
    for node in topology.read_topology(failed=unexpected):
        for core in node.cores:
            for cache in core.caches:
                assert set(core.threads) <= set(cache.cpus)
                assert cache.size_bytes > 0
