"""Every file of every controller: any text, captured texts, and texts made from chosen numbers."""

from __future__ import annotations

import functools
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.cgroup import controllers, core, cpu, hierarchy, io, memory, pids, pressure
from cgwatch.cgroup.controllers import CONTROLLERS, parse_cgroups
from cgwatch.cgroup.files import Descriptors, Fault, File, KernelFile, Reader
from cgwatch.cgroup.formats import FormatError, Pressure, PressureLine
from cgwatch.errors import KernelFileError, MalformedFileError
from tests.cgroup.fake_trees import TREES

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILES = {
    f"{controller.name}-{version}-{file.name}": file
    for controller in CONTROLLERS
    for version, files in (("v1", controller.files_v1), ("v2", controller.files_v2))
    for file in files
} | {"cgroups": File("cgroups", functools.partial(parse_cgroups, name="memory"))}
EVERY_FILE = pytest.mark.parametrize("file", [pytest.param(file, id=name) for name, file in FILES.items()])

COUNTS = st.integers(0, (1 << 63) - 1)
# Pieces of all formats, so that most texts are wrong in one place alone.
PIECES = st.sampled_from(
    [
        *'0 1 100 -1 max default 8:0 253:16 Read Write Total (unknown) = " { [ 1_0 +1 ٣ \xff null'.split(),
        *"some full avg10=0.00 avg60=1.50 avg300=100.00 total=123 rbytes=5 wbytes=x rbps=max".split(),
        *"usage_usec user anon nr_periods populated memory 9223372036854771712 18446744073709551616".split(),
        *("", " ", " ", "\t", "\r", "\n", "\n", "\n", "\n\n"),
        *("9" * 400, "9" * (sys.get_int_max_str_digits() + 1)),
    ]
)
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(str.encode),
    st.lists(PIECES, max_size=30).map(lambda pieces: "".join(pieces).encode()),
    st.lists(PIECES, max_size=30).map(lambda pieces: " ".join(pieces).encode() + b"\n"),
)


@EVERY_FILE
@given(raw=TEXTS)
@example(raw=b"")
@example(raw=b"\n")
@example(raw=b"x " + b"[" * 100_000)
@example(raw=b"9" * 400)
@example(raw=b"usage_usec " + b"9" * 400 + b"\n")
@example(raw=b"user " + b"9" * 400 + b"\n")
@example(raw=b"throttled_time " + b"9" * 400 + b"\n")
def test_any_bytes_give_a_value_or_a_format_error(file: File, raw: bytes) -> None:
    try:
        value = file.parse(raw)
    except FormatError:
        return
    assert value is not None


def read_alone(file: File, path: Path, build: Callable[..., Any]) -> tuple[Any, list[Fault]]:
    """Read one file as the reader of its controller would."""
    reader = Reader((file,), build, lambda _: os.fspath(path), Descriptors(1))
    faults: list[Fault] = []
    try:
        return reader.read(faults), faults
    finally:
        reader.close()


BUILDERS = [
    (controller.name, files, stats)
    for controller in CONTROLLERS
    for files, stats in (
        (controller.files_v1, controller.stats_v1),
        (controller.files_v2, controller.stats_v2),
    )
]


@pytest.mark.parametrize(
    ("files", "stats", "slot"),
    [
        pytest.param(files, stats, slot, id=f"{name}-{files[slot].name}")
        for name, files, stats in BUILDERS
        for slot in range(len(files))
    ],
)
@given(raw=TEXTS)
@example(raw=b"9" * 400 + b"\n")
@example(raw=b"18446744073709551615\n")
@example(raw=b"18446744073709551615 18446744073709551615\n")
def test_any_file_gives_stats_or_an_error_with_its_path(
    tmp_path_factory: pytest.TempPathFactory,
    files: tuple[File, ...],
    stats: Callable[..., Any],
    slot: int,
    raw: bytes,
) -> None:
    path = tmp_path_factory.getbasetemp() / "kernel-file"
    path.write_bytes(raw)

    def build(value: object) -> object:
        return stats(*(value if other == slot else None for other in range(len(files))))

    value, faults = read_alone(files[slot], path, build)
    if faults:
        assert [fault.error.path for fault in faults] == [os.fspath(path)]
        assert isinstance(faults[0].error, MalformedFileError)
        assert str(path) in str(faults[0].error)
    else:
        assert value is not None


CAPTURED = [
    pytest.param(Path(directory), id=os.path.relpath(directory, TREES).replace(os.sep, "-")[:60])
    for tree in sorted(TREES.iterdir())
    for directory, _, _ in os.walk(tree / "cgroup")
]


@pytest.mark.parametrize("directory", CAPTURED)
def test_every_captured_file_is_understood(directory: Path) -> None:
    unified = (directory / "cgroup.controllers").exists()
    for controller in CONTROLLERS:
        for file in controller.files_v2 if unified else controller.files_v1:
            path = directory / file.name
            if path.exists():
                _, faults = read_alone(file, path, lambda value: value)
                assert faults == []


def plain(path: Path) -> dict[str, int]:
    """Read KEY VALUE lines the slow way."""
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


@pytest.mark.parametrize("path", sorted(TREES.glob("*/cgroup/**/memory.stat")))
def test_a_captured_memory_stat_says_what_a_plain_reading_of_it_says(path: Path) -> None:
    lines = plain(path)
    v1 = "total_cache" in lines
    parse = next(
        file for file in (memory.FILES_V1 if v1 else memory.FILES_V2) if file.name == path.name
    ).parse
    stat = parse(path.read_bytes())
    for field, key in (memory.STAT_KEYS_V1 if v1 else memory.STAT_KEYS_V2).items():
        assert getattr(stat, field) == lines.get(key), field


def reading(tree: str, path: str, controller: str) -> Any:
    """Read one controller of a cgroup in a captured tree."""
    root = TREES / tree
    found = hierarchy.find(os.fspath(root / "proc"), os.fspath(root / "cgroup"))
    places = {
        place: 1
        for place in (*found.v1, *([found.unified] if found.unified else []))
        if Path(place.locate(path)).is_dir()
    }
    row = next(row for row in CONTROLLERS if row.name == controller)
    reader = controllers.open_reader(row, found, path, places, Descriptors(100))
    faults: list[Fault] = []
    try:
        return reader.read(faults)
    finally:
        reader.close()
        assert faults == []


def container(tree: str, number: int) -> str:
    """Return the path of one of the containers in a captured tree, in alphabetical order."""
    docker = next(TREES.glob(f"{tree}/cgroup/**/docker"))
    return f"/docker/{sorted(place.name for place in docker.iterdir() if place.is_dir())[number]}"


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("tree", ["docker_v1", "hybrid"])
def test_a_captured_v1_container_shows_its_files(tree: str, number: int) -> None:
    path = container(tree, number)
    cgroup = TREES / tree / "cgroup"
    stats = reading(tree, path, "memory")
    assert stats.usage_bytes == int((cgroup / f"memory{path}/memory.usage_in_bytes").read_text())
    limit = int((cgroup / f"memory{path}/memory.limit_in_bytes").read_text())
    assert stats.limit_bytes == (math.inf if limit > 1 << 62 else limit)
    oom = plain(cgroup / f"memory{path}/memory.oom_control")
    assert stats.events_local.oom_kill == oom["oom_kill"]
    assert stats.oom_kill_disabled is bool(oom["oom_kill_disable"])
    used = reading(tree, path, "cpu")
    assert used.usage_seconds == int((cgroup / f"cpuacct{path}/cpuacct.usage").read_text()) / 1e9
    assert used.throttled_periods_total == plain(cgroup / f"cpu{path}/cpu.stat")["nr_throttled"]
    assert used.shares == int((cgroup / f"cpu{path}/cpu.shares").read_text())
    assert reading(tree, path, "pids").current == int((cgroup / f"pids{path}/pids.current").read_text())


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_captured_v2_container_shows_its_files(number: int) -> None:
    path = container("docker_v2", number)
    directory = TREES / f"docker_v2/cgroup{path}"
    stats = reading("docker_v2", path, "memory")
    assert stats.usage_bytes == int((directory / "memory.current").read_text())
    assert stats.peak_bytes == int((directory / "memory.peak").read_text())
    limit = (directory / "memory.max").read_text().strip()
    assert stats.limit_bytes == (math.inf if limit == "max" else int(limit))
    assert stats.events.oom_kill == plain(directory / "memory.events")["oom_kill"]
    used = reading("docker_v2", path, "cpu")
    assert used.usage_seconds == plain(directory / "cpu.stat")["usage_usec"] / 1_000_000
    quota, period = (directory / "cpu.max").read_text().split()
    assert used.quota_microseconds == (math.inf if quota == "max" else int(quota))
    assert used.period_microseconds == int(period)
    live = reading("docker_v2", path, "core")
    assert live.first_pid == int((directory / "cgroup.procs").read_text().split()[0])
    assert live.populated is True
    assert live.frozen is False


def test_a_hybrid_node_shows_pressure_beside_v1_numbers() -> None:
    path = container("hybrid", 0)
    found = reading("hybrid", path, "pressure")
    assert found.memory is not None
    line = (TREES / f"hybrid/cgroup/unified{path}/memory.pressure").read_text().split()
    assert found.memory.some.total_seconds == int(line[4].removeprefix("total=")) / 1_000_000


@given(st.lists(COUNTS, min_size=3, max_size=3), st.integers(0, 10))
def test_cpu_stat_before_bursts_were_known_leaves_them_unsaid(times: list[int], periods: int) -> None:
    raw = "usage_usec {}\nuser_usec {}\nsystem_usec {}\n".format(*times)
    raw += f"nr_periods {periods}\nnr_throttled 0\nthrottled_usec 0\n"
    values = [file.parse(raw.encode()) if file.name == "cpu.stat" else None for file in cpu.FILES_V2]
    stats = cpu.stats_v2(*values)
    assert (stats.usage_seconds, stats.user_seconds, stats.system_seconds) == tuple(
        time / 1_000_000 for time in times
    )
    assert stats.periods_total == periods
    assert stats.bursts_total is None
    assert stats.burst_seconds is None


def test_the_v2_root_shows_cpu_time_without_any_limit() -> None:
    # Linux 6.1 prints three lines for the root.
    raw = b"usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n"
    stats = cpu.stats_v2(cpu.FILES_V2[0].parse(raw), None, None, None, None, None)
    assert stats == cpu.CpuStats(usage_seconds=3.0, user_seconds=2.0, system_seconds=1.0)


@given(st.integers(1_000, 1_000_000), st.integers(1_000, 1_000_000))
def test_cpu_max_is_quota_and_period_in_microseconds(quota: int, period: int) -> None:
    found = cpu.parse_cpu_max(f"{quota} {period}\n".encode())
    assert (found.quota_microseconds, found.period_microseconds) == (quota, period)
    assert cpu.parse_cpu_max(f"max {period}\n".encode()).quota_microseconds == math.inf


@pytest.mark.parametrize("raw", [b"", b"max\n", b"100000\n", b"1 2 3\n", b"1 max\n"])
def test_what_is_no_cpu_max_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        cpu.parse_cpu_max(raw)


def test_any_negative_v1_quota_is_none() -> None:
    assert cpu.parse_quota_v1(b"-1\n") == math.inf
    assert cpu.parse_quota_v1(b"50000\n") == 50000


@pytest.mark.parametrize("pages", ["4096", "65536"])
def test_the_largest_v1_limit_is_no_limit(pages: str) -> None:
    parse = {file.name: file.parse for file in memory.FILES_V1}["memory.limit_in_bytes"]
    assert parse(b"%d\n" % ((1 << 63) - int(pages))) == math.inf
    assert parse(b"-1\n") == math.inf
    assert parse(b"9223372036854775807\n") == math.inf  # before 4.1
    assert parse(b"1073741824\n") == 1 << 30


def test_memory_events_before_group_kills_leave_them_unsaid() -> None:
    parse = {file.name: file.parse for file in memory.FILES_V2}["memory.events"]
    said = parse(b"low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n")
    assert structs.asdict(said) == structs.asdict(memory.MemoryEvents(0, 1, 2, 3, 4))


def test_oom_control_before_4_13_counts_no_kills() -> None:
    parse = {file.name: file.parse for file in memory.FILES_V1}["memory.oom_control"]
    values: list[Any] = [None] * 10
    values[8] = parse(b"oom_kill_disable 0\nunder_oom 0\n")
    stats = memory.stats_v1(*values)
    assert stats.events_local.oom_kill is None
    assert stats.under_oom is False


def test_the_v2_root_has_memory_in_use_although_it_has_no_file_for_it() -> None:
    values: list[Any] = [None] * 15
    values[14] = memory.MemoryStat(anon_bytes=100, file_bytes=200, inactive_file_bytes=50)
    stats = memory.stats_v2(*values)
    assert stats.usage_bytes == 300
    assert stats.working_set_bytes == 250


def test_usage_that_cannot_be_read_is_unsaid_and_not_guessed() -> None:
    values: list[Any] = [None] * 15
    values[12] = memory.MemoryEvents(oom_kill=1)  # the root has no events
    values[14] = memory.MemoryStat(anon_bytes=100, file_bytes=200)
    stats = memory.stats_v2(*values)
    assert stats.usage_bytes is None


def test_the_working_set_is_never_negative_and_unsaid_without_a_usage() -> None:
    stat = memory.MemoryStat(inactive_file_bytes=100)
    assert memory.MemoryStats(usage_bytes=40, stat=stat).working_set_bytes == 0
    assert memory.MemoryStats(stat=stat).working_set_bytes is None


DEVICES = st.tuples(st.integers(0, (1 << 12) - 1), st.integers(0, (1 << 20) - 1))


@given(st.dictionaries(DEVICES, st.lists(COUNTS, min_size=6, max_size=6)))
def test_io_stat_gives_every_device(devices: dict[tuple[int, int], list[int]]) -> None:
    raw = "".join(
        "{}:{} rbytes={} wbytes={} rios={} wios={} dbytes={} dios={} cost.usage=7\n".format(*device, *counts)
        for device, counts in devices.items()
    )
    assert [
        (
            (found.major, found.minor),
            [
                found.read_bytes_total,
                found.written_bytes_total,
                found.reads_total,
                found.writes_total,
                found.discarded_bytes_total,
                found.discards_total,
            ],
        )
        for found in io.parse_io_stat(raw.encode())
    ] == list(devices.items())


def test_io_stat_before_discards_leaves_them_unsaid() -> None:
    assert io.parse_io_stat(b"8:0 rbytes=1 wbytes=2 rios=3 wios=4\n") == (
        io.IoDevice(8, 0, read_bytes_total=1, written_bytes_total=2, reads_total=3, writes_total=4),
    )


def test_a_device_without_statistics_is_left_out_of_io_stat() -> None:
    assert io.parse_io_stat(b"7:1 \n8:0 rbytes=1\n") == (io.IoDevice(8, 0, read_bytes_total=1),)
    assert io.parse_io_stat(b"7:1 7:2 8:0 rbytes=1\n7:3 ") == (io.IoDevice(8, 0, read_bytes_total=1),)


def test_a_disk_that_the_block_layer_hides_is_left_out() -> None:
    # One path of a multipath NVMe has no number of its own.
    assert io.parse_io_stat(b"(unknown) rbytes=5 wbytes=6\n259:0 rbytes=1\n") == (
        io.IoDevice(259, 0, read_bytes_total=1),
    )
    assert io.parse_io_max(b"(unknown) rbps=5\n") == ()
    assert io.parse_blkio(b"(unknown) Read 5\n(unknown) Total 5\n259:0 Read 1\nTotal 6\n") == {
        (259, 0): {"Read": 1}
    }
    assert io.parse_blkio_bound(b"(unknown) 5\n259:0 1\n") == {(259, 0): 1}


@given(st.dictionaries(DEVICES, st.lists(st.one_of(COUNTS, st.just(math.inf)), min_size=4, max_size=4)))
def test_io_max_gives_every_device_with_its_bounds(devices: dict[tuple[int, int], list[float]]) -> None:
    raw = "".join(
        "{}:{} rbps={} wbps={} riops={} wiops={}\n".format(
            *device, *("max" if bound == math.inf else bound for bound in bounds)
        )
        for device, bounds in devices.items()
    )
    assert io.parse_io_max(raw.encode()) == tuple(
        io.IoLimit(*device, *bounds) for device, bounds in devices.items()
    )


@given(
    st.dictionaries(
        DEVICES,
        st.dictionaries(st.sampled_from(["Read", "Write", "Sync", "Async", "Total"]), COUNTS, min_size=1),
    )
)
def test_blkio_gives_every_device_and_operation(devices: dict[tuple[int, int], dict[str, int]]) -> None:
    lines = [
        f"{major}:{minor} {operation} {count}\n"
        for (major, minor), counts in devices.items()
        for operation, count in counts.items()
    ]
    assert io.parse_blkio("".join([*lines, "Total 123\n"]).encode()) == devices


@pytest.mark.parametrize(
    "raw", [b"8:0 Read\n", b"8:0 Read x\n", b"8 Read 1\n", b"8:0:1 Read 1\n", b"Total x\n", b"\n"]
)
def test_what_is_no_blkio_file_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        io.parse_blkio(raw)


def test_the_first_scheduler_that_counted_a_device_tells_of_it() -> None:
    names = [file.name for file in io.FILES_V1]
    values: list[Any] = [None] * len(names)
    values[names.index("blkio.bfq.io_service_bytes_recursive")] = {(8, 0): {"Read": 1, "Write": 2}}
    values[names.index("blkio.bfq.io_serviced_recursive")] = {(8, 0): {"Read": 3, "Write": 4}}
    values[names.index("blkio.throttle.io_service_bytes")] = {(8, 0): {"Read": 99}, (8, 16): {"Read": 5}}
    devices = io.stats_v1(*values).devices or ()
    assert [(device.minor, device.read_bytes_total, device.writes_total) for device in devices] == [
        (0, 1, 4),
        (16, 5, None),
    ]


@pytest.mark.parametrize("raw", [b"default 100\n", b"default 100\n8:16 200\n", b"100\n"])
def test_a_weight_is_the_default_one(raw: bytes) -> None:
    assert io.parse_weight(raw) == 100


@pytest.mark.parametrize("raw", [b"", b"default\n", b"default x\n", b"8:16 200\n"])
def test_what_is_no_weight_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        io.parse_weight(raw)


@given(st.lists(st.integers(1, 4_194_304)))
def test_processes_are_counted_and_the_first_is_told(numbers: list[int]) -> None:
    raw = b"".join(b"%d\n" % number for number in numbers)
    found = core.parse_processes(raw)
    assert found.count == len(numbers)
    assert found.first_pid == (numbers[0] if numbers else None)


def test_a_process_of_another_pid_namespace_counts_but_cannot_be_named() -> None:
    found = core.parse_processes(b"0\n0\n")
    assert (found.count, found.first_pid) == (2, None)


@pytest.mark.parametrize(
    "raw", [b"5", b"5\n6", b"\n", b"x\n", b"-5\n", b" 5\n", b"9" * 5000 + b"\n", "٣\n".encode()]
)
def test_what_is_no_list_of_pids_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        core.parse_processes(raw)


def test_no_file_at_all_is_no_stats_object() -> None:
    reader = Reader((), pids.stats, lambda _: None, Descriptors(1))
    assert reader.read([]) is None


def test_a_resource_without_pressure_is_unsaid() -> None:
    line = PressureLine(0.0, 0.0, 0.0, 1.0)
    stats = pressure.stats(None, Pressure(some=line), None, None)
    assert (stats.cpu, stats.memory, stats.irq) == (None, Pressure(some=line), None)


CGROUPS = (TREES / "docker_v1/proc/cgroups").read_bytes()


def test_proc_cgroups_tells_how_many_cgroups_a_controller_has() -> None:
    counts = {
        line.split()[0]: int(line.split()[2])
        for line in CGROUPS.decode().splitlines()
        if not line.startswith("#")
    }
    assert {name: parse_cgroups(CGROUPS, name) for name in counts} == counts


def test_a_controller_that_proc_cgroups_does_not_list_is_an_error() -> None:
    with pytest.raises(FormatError):
        parse_cgroups(CGROUPS, "mem")


def test_a_counter_without_its_file_does_not_know(tmp_path: Path) -> None:
    unified = hierarchy.Hierarchy(2, frozenset({"memory"}), os.fspath(tmp_path))
    counter = controllers.CgroupCounter(unified, os.fspath(tmp_path), Descriptors(1))
    assert counter.count() is None
    counter.close()


def test_a_counter_of_the_unified_hierarchy_counts_the_root(tmp_path: Path) -> None:
    (tmp_path / "cgroup.stat").write_text("nr_descendants 4\nnr_dying_descendants 9\n")
    unified = hierarchy.Hierarchy(2, frozenset({"memory"}), os.fspath(tmp_path))
    counter = controllers.CgroupCounter(unified, os.fspath(tmp_path), Descriptors(1))
    assert counter.count() == 5
    (tmp_path / "cgroup.stat").write_text("what?\n")
    assert counter.count() is None
    counter.close()


def test_a_counter_whose_file_went_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "cgroup.stat").write_text("nr_descendants 4\n")
    unified = hierarchy.Hierarchy(2, frozenset({"memory"}), os.fspath(tmp_path))
    counter = controllers.CgroupCounter(unified, os.fspath(tmp_path), Descriptors(0))
    (tmp_path / "cgroup.stat").unlink()
    assert counter.count() is None
    counter.close()


@EVERY_FILE
def test_a_file_that_cannot_be_opened_says_which(file: File, tmp_path: Path) -> None:
    path = os.fspath(tmp_path / file.name)
    with pytest.raises(KernelFileError) as error:
        KernelFile(path, file, Descriptors(1))
    assert error.value.path == path
