from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.io import IoDevice, IoStats
from cgwatch.cgroup.memory import MemoryStat, MemoryStats
from cgwatch.cgroup.pids import PidsStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.discovery.recognise import recognise
from cgwatch.groups import Groups
from cgwatch.metrics.families import FAMILIES, GROUPS, enabled
from cgwatch.metrics.families.base import Part, Type
from cgwatch.metrics.negotiation import Format
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot
from cgwatch.proc.machine import Machine
from cgwatch.proc.meminfo import Meminfo
from tests.golden.pages import TREES, TREES_FOLDER, golden
from tests.golden.reading import series_of, walk
from tests.metrics.conformance import CONTAINER_ROWS, LEFT_OUT, NODE_ROWS, Captured, NodeRow, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.metrics.families.base import Family
    from tests.golden.reading import Series

MACHINE = Machine(
    cores=2,
    physical_cores=None,
    sockets=1,
    books=0,
    drawers=0,
    memory_bytes=4096,
    swap_bytes=1024,
    machine_id="",
    system_uuid="",
    boot_id="",
    kernel_release="6.1.0",
    os_name="",
    boot_time_seconds=77,
    user_hz=100,
)
ROWS: tuple[Row | NodeRow, ...] = (*CONTAINER_ROWS, *NODE_ROWS)
OF_EACH_CONTAINER = {"id", "name", "image", "container_label_com_docker_compose_service"}


def snapshot_of(*samples: Sample, **more: Any) -> Snapshot:
    return Snapshot(0, 1000.0, 0.0, 0.0, samples, Layout.V2, **more)


def container(path: str = "/docker/a", **more: Any) -> Container:
    return Container(Cgroup(path, 1), recognise(path), **more)


def values(name: str, sample: Sample, **more: Any) -> dict[tuple[str, ...], float]:
    """Give the series of one family of one container, by the values of its own labels."""
    families = [family for family in FAMILIES if family.name == name]
    assert families, name
    found = walk(snapshot_of(sample, **more), families, lambda _: {})
    return {
        tuple(dict(labels)[label] for label in families[0].labels): value
        for (_, labels), value in found.items()
    }


# The catalogue against cAdvisor.


def test_the_catalogue_has_the_families_of_cadvisor_and_no_other() -> None:
    names = [family.name for family in FAMILIES]

    assert len(names) == len(set(names))
    assert set(names) == {row.name for row in ROWS}
    assert set(names).isdisjoint(LEFT_OUT)


def test_each_family_has_the_type_and_the_labels_of_cadvisor() -> None:
    expected = {row.name: (row.type, row.labels) for row in ROWS}

    assert {family.name: (str(family.type), family.labels) for family in FAMILIES} == expected


def captured(tree: str) -> Iterator[Captured]:
    """Give the cgroups of a tree, found by their directories."""
    root = TREES_FOLDER / tree / "cgroup"
    hierarchies = [root] if (root / "cgroup.controllers").exists() else sorted(root.iterdir())
    hierarchies = [each for each in hierarchies if each.name != "systemd"]  # it accounts nothing
    found = {file.parent.relative_to(each) for each in hierarchies for file in each.rglob("cgroup.procs")}
    for place in found:
        path = "/" + "/".join(place.parts)
        yield Captured(path, tuple(each / place for each in hierarchies), interfaces(tree, path))


def interfaces(tree: str, path: str) -> tuple[str, ...]:
    """Of the containers, ``limited`` alone has a network card; the machine's are the root's."""
    if path == "/":
        pid = "1"
    elif (described := golden_names(tree).get(path)) == "limited":
        pid = next(
            line
            for file in (TREES_FOLDER / tree / "cgroup").rglob(f"{path.strip('/')}/cgroup.procs")
            for line in file.read_text().split()
        )
    else:
        assert described in {None, "", "unlimited", "host"}
        return ()
    lines = (TREES_FOLDER / tree / "proc" / pid / "net/dev").read_text().splitlines()[2:]
    return tuple(name for name in (line.partition(":")[0].strip() for line in lines) if name != "lo")


@functools.cache
def golden_names(tree: str) -> dict[str, str]:
    """Give the label ``name`` by the label ``id``."""
    return {
        dict(labels)["id"]: dict(labels)["name"]
        for name, labels in golden_series(tree)
        if name == "container_last_seen"
    }


@functools.cache
def golden_series(tree: str) -> frozenset[Series]:
    return frozenset(series_of(golden(tree, Format.TEXT).read_text(), Format.TEXT))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("row", CONTAINER_ROWS, ids=lambda row: row.name)
def test_a_family_is_there_for_just_those_cgroups_whose_kernel_files_say_so(tree: str, row: Row) -> None:
    rule = row.v2 if tree.endswith("v2") else row.v1
    found = [dict(labels) for name, labels in golden_series(tree) if name == row.name]

    assert {labels["id"] for labels in found} == {cgroup.path for cgroup in captured(tree) if rule(cgroup)}
    assert all(labels.keys() == OF_EACH_CONTAINER | set(row.labels) for labels in found)


@pytest.mark.parametrize("tree", TREES)
def test_the_families_of_the_node_are_there_once(tree: str) -> None:
    found = [(name, {key for key, _ in labels}) for name, labels in golden_series(tree)]

    for row in NODE_ROWS:
        keys = [keys for name, keys in found if name == row.name]
        assert keys == [set(row.labels)] * (1 if row.once else len(keys)), row.name


# The catalogue in itself.


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_says_what_it_is_and_where_its_value_comes_from(family: Family) -> None:
    assert family.help.endswith(".")
    assert set(family.help).isdisjoint('"\\\n')  # the two formats escape these differently
    assert family.source
    assert (family.value is None) != (family.rows is None)
    assert not (family.part is Part.SNAPSHOT and family.value)


def test_only_counters_end_in_total_but_for_names_that_cadvisor_gave_otherwise() -> None:
    counters = {family.name for family in FAMILIES if family.type is Type.COUNTER}
    total = {family.name for family in FAMILIES if family.name.endswith("_total")}

    assert counters - total == {"container_memory_failcnt", "container_hugetlb_failcnt"}
    assert total - counters == {
        *(f"container_network_{what}_usage_total" for what in ("tcp", "tcp6", "udp", "udp6")),
        *("container_network_advance_tcp_stats_total", "container_fs_inodes_total"),
    }


def test_the_configuration_switches_every_group_there_is() -> None:
    assert {each.encode_name for each in structs.fields(Groups)} == GROUPS


def test_without_any_group_there_is_what_is_always_there() -> None:
    assert {family.name for family in enabled(frozenset())} == {
        "container_last_seen",
        "container_creation_time_seconds",
        "container_start_time_seconds",
        "container_health_state",
        "container_scrape_error",
        "cadvisor_version_info",
    }


@pytest.mark.parametrize("group", sorted(GROUPS - {"percpu"}))
def test_a_group_that_is_on_adds_its_families(group: str) -> None:
    added = {family.name for family in enabled(frozenset({group}))} - {
        family.name for family in enabled(frozenset())
    }

    assert added == {family.name for family in FAMILIES if family.group == group} != set()


@pytest.mark.parametrize(
    ("groups", "cpus"), [({"cpu", "percpu"}, [("cpu00",), ("cpu02",)]), ({"cpu"}, [("total",)])]
)
def test_cpu_time_is_by_cpu_where_the_kernel_says_it_unless_percpu_is_off(
    groups: set[str], cpus: list[tuple[str]]
) -> None:
    cpu = CpuStats(usage_seconds=3.0, usage_seconds_by_cpu=(1.0, 0.0, 2.0))
    usage = [each for each in enabled(frozenset(groups)) if each.name == "container_cpu_usage_seconds_total"]

    found = walk(snapshot_of(Sample(container(), cpu=cpu)), usage, lambda _: {})

    assert sorted(tuple(dict(labels).values()) for _, labels in found) == cpus
    assert sum(found.values()) == 3.0


@pytest.mark.parametrize("by_cpu", [None, (0.0, 0.0)])
def test_a_cgroup_that_never_ran_has_no_cpu_time(by_cpu: tuple[float, ...] | None) -> None:
    cpu = CpuStats(usage_seconds=0.0, usage_seconds_by_cpu=by_cpu)

    assert values("container_cpu_usage_seconds_total", Sample(container(), cpu=cpu)) == {}


@pytest.mark.parametrize("quota", [math.inf, None])
def test_without_a_quota_there_is_none_and_nothing_of_its_periods(quota: float | None) -> None:
    sample = Sample(container(), cpu=CpuStats(quota_microseconds=quota, periods_total=5, burst_seconds=1.0))

    for name in ("container_spec_cpu_quota", "container_cpu_cfs_periods_total"):
        assert values(name, sample) == {}
    assert values("container_cpu_cfs_burst_seconds_total", sample) == {}


def test_a_quota_is_in_microseconds() -> None:
    cpu = CpuStats(quota_microseconds=50_000, period_microseconds=100_000, throttled_seconds=1.5)
    sample = Sample(container(), cpu=cpu)

    assert values("container_spec_cpu_quota", sample) == {(): 50_000}
    assert values("container_spec_cpu_period", sample) == {(): 100_000}
    assert values("container_cpu_cfs_throttled_seconds_total", sample) == {(): 1.5}


@pytest.mark.parametrize(
    ("weight", "shares"), [(1, 2), (39, 998), (50, 1286), (101, 2623), (10_000, 262_144)]
)
def test_a_weight_is_shown_as_shares_by_cadvisors_formula(weight: int, shares: int) -> None:
    assert values("container_spec_cpu_shares", Sample(container(), cpu=CpuStats(weight=weight))) == {
        (): shares
    }


def test_shares_of_v1_are_shown_as_they_are() -> None:
    assert values("container_spec_cpu_shares", Sample(container(), cpu=CpuStats(shares=512))) == {(): 512}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("container_spec_memory_limit_bytes", "limit_bytes"),
        ("container_spec_memory_swap_limit_bytes", "swap_limit_bytes"),
        ("container_spec_memory_swap_limit_bytes", "memory_and_swap_limit_bytes"),
        ("container_spec_memory_reservation_limit_bytes", "low_bytes"),
        ("container_spec_memory_reservation_limit_bytes", "soft_limit_bytes"),
    ],
)
def test_no_limit_is_shown_as_0_and_an_unknown_one_not_at_all(name: str, field: str) -> None:
    for limit, shown in ((math.inf, {(): 0}), (4096, {(): 4096}), (None, {})):
        assert (
            values(name, Sample(container(), memory=structs.replace(MemoryStats(), **{field: limit})))
            == shown
        )


def test_no_limit_on_threads_is_shown_as_0() -> None:
    assert values("container_threads_max", Sample(container(), pids=PidsStats(limit=math.inf))) == {(): 0}
    assert values("container_threads_max", Sample(container(), pids=PidsStats(limit=7))) == {(): 7}


def test_the_limits_of_the_root_are_the_machines() -> None:
    root = Sample(container("/"), memory=MemoryStats(limit_bytes=math.inf, swap_limit_bytes=math.inf))

    assert values("container_spec_memory_limit_bytes", root, machine=MACHINE) == {(): 4096}
    assert values("container_spec_memory_swap_limit_bytes", root, machine=MACHINE) == {(): 1024}
    assert values("container_spec_memory_limit_bytes", root) == {}


def test_the_swap_of_the_root_is_the_machines_where_the_cgroup_has_none() -> None:
    root, other = (Sample(container(path), memory=MemoryStats()) for path in ("/", "/docker/a"))
    memory = Meminfo(4096, swap_total_bytes=1024, swap_free_bytes=1000)

    assert values("container_memory_swap", root, memory=memory) == {(): 24}
    assert values("container_memory_swap", other, memory=memory) == {}
    assert values("container_memory_swap", root, memory=Meminfo(4096)) == {}


def test_the_working_set_is_usage_without_inactive_page_cache_and_never_negative() -> None:
    for usage, inactive, shown in (
        (100, 30, {(): 70}),
        (100, 130, {(): 0}),
        (100, None, {(): 100}),
        (None, 1, {}),
    ):
        memory = MemoryStats(usage_bytes=usage, stat=MemoryStat(inactive_file_bytes=inactive))
        assert values("container_memory_working_set_bytes", Sample(container(), memory=memory)) == shown


def test_page_faults_of_the_container_alone_are_told_from_its_descendants_on_v1() -> None:
    stat = MemoryStat(
        page_faults_total=9, own_page_faults_total=4, major_page_faults_total=3, own_major_page_faults_total=0
    )

    assert values("container_memory_failures_total", Sample(container(), memory=MemoryStats(stat=stat))) == {
        ("pgfault", "container"): 4,
        ("pgfault", "hierarchy"): 9,
        ("pgmajfault", "container"): 0,
        ("pgmajfault", "hierarchy"): 3,
    }


def test_page_faults_of_v2_stand_for_both_scopes_as_in_cadvisor() -> None:
    memory = MemoryStats(stat=MemoryStat(page_faults_total=9, major_page_faults_total=3))

    assert values("container_memory_failures_total", Sample(container(), memory=memory)) == {
        ("pgfault", "container"): 9,
        ("pgfault", "hierarchy"): 9,
        ("pgmajfault", "container"): 3,
        ("pgmajfault", "hierarchy"): 3,
    }


def test_devices_without_a_name_show_their_numbers_and_stay_apart() -> None:
    devices = tuple(IoDevice(259, minor, read_bytes_total=minor) for minor in range(3))
    sample = Sample(container(), io=IoStats(devices=devices))

    assert values("container_fs_reads_bytes_total", sample, devices={(259, 0): "/dev/nvme0n1"}) == {
        ("/dev/nvme0n1",): 0,
        ("259:1",): 1,
        ("259:2",): 2,
    }


def test_bytes_by_operation_are_the_kernels_own_on_v1_and_reads_and_writes_on_v2() -> None:
    v1 = IoDevice(8, 0, read_bytes_total=1, bytes_by_operation=(("Read", 1), ("Sync", 2)))
    v2 = IoDevice(8, 16, read_bytes_total=3, written_bytes_total=4)

    assert values(
        "container_blkio_device_usage_total", Sample(container(), io=IoStats(devices=(v1, v2)))
    ) == {
        ("8:0", "8", "0", "Read"): 1,
        ("8:0", "8", "0", "Sync"): 2,
        ("8:16", "8", "16", "Read"): 3,
        ("8:16", "8", "16", "Write"): 4,
    }


def test_a_line_of_pressure_that_the_kernel_does_not_print_is_absent() -> None:
    some = PressureLine(0.1, 0.2, 0.3, 4.5)
    sample = Sample(container(), pressure=PressureStats(cpu=Pressure(some=some)))

    assert values("container_pressure_cpu_waiting_seconds_total", sample) == {(): 4.5}
    assert values("container_pressure_cpu_stalled_seconds_total", sample) == {}
    assert values("container_pressure_memory_waiting_seconds_total", sample) == {}


@pytest.mark.parametrize(("health", "shown"), [(None, -1), ("healthy", 1), ("unhealthy", 0), ("starting", 0)])
def test_health_is_1_0_or_minus_1(health: str | None, shown: int) -> None:
    said = Description(Runtime.DOCKER, "a", "a", "", {}, "running", health=health)

    assert values("container_health_state", Sample(container(description=said))) == {(): shown}
    assert values("container_health_state", Sample(container())) == {(): -1}


def test_the_runtimes_times_come_before_the_directorys_and_a_start_before_a_creation() -> None:
    said = Description(Runtime.DOCKER, "a", "a", "", {}, "running", created_seconds=20, started_seconds=30)
    never_started = Description(Runtime.DOCKER, "a", "a", "", {}, "created", created_seconds=20)
    created, started = "container_creation_time_seconds", "container_start_time_seconds"

    for description, both in ((None, (10, 10)), (never_started, (20, 20)), (said, (20, 30))):
        sample = Sample(container(created_seconds=10, description=description))
        assert (values(created, sample), values(started, sample)) == ({(): both[0]}, {(): both[1]})


def test_the_root_is_as_old_as_the_boot() -> None:
    root = Sample(container("/", created_seconds=10))

    assert values("container_creation_time_seconds", root, machine=MACHINE) == {(): 77}
    assert values("container_creation_time_seconds", root) == {}


@pytest.mark.parametrize(
    ("machine", "error"),
    [(None, 1), (MACHINE, 0), (structs.replace(MACHINE, cores=None), 1)],
    ids=["no machine", "a machine", "a machine without CPUs"],
)
def test_a_machine_that_cannot_be_read_is_an_error_and_not_zeros(machine: Machine | None, error: int) -> None:
    sample = Sample(container())

    assert values("machine_scrape_error", sample, machine=machine) == {(): error}
    assert len(values("machine_cpu_cores", sample, machine=machine)) == 1 - error
