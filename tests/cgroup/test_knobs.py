"""The table of limits, and values as people and as the kernel write them."""

from __future__ import annotations

import contextlib
import errno
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup.knob import Combine, How, Knob, Per, Unit, Value
from cgwatch.cgroup.knob_values import (
    format_value,
    parse_assignment,
    parse_cpus,
    parse_value,
    quota_of_cpus,
)
from cgwatch.cgroup.knobs import KNOBS, knob_of, knob_of_flag, near_names
from cgwatch.cgroup.limit_text import Write, is_limit_file, parse_file, settled, write_of
from cgwatch.cgroup.refusals import refused, why
from cgwatch.errors import (
    AccessDeniedError,
    CgroupGoneError,
    CgwatchError,
    FileMissingError,
    LimitBusyError,
    LimitValueError,
    NotSupportedError,
    ReadFailedError,
    ReclaimedLessError,
    UnknownLimitError,
    ValueRefusedError,
)

DETAILS = {Per.CGROUP: "", Per.DEVICE: "8:0", Per.SIZE: "2MB"}


def concrete(row: Knob) -> Knob:
    return knob_of(row.key.replace("DEVICE", "8:0").replace("SIZE", "2MB"))


ALL = [concrete(row) for row in KNOBS]
every = pytest.mark.parametrize("knob", ALL, ids=lambda knob: knob.key)


@every
def test_a_row_is_complete(knob: Knob) -> None:
    assert knob.v1 or knob.v2
    assert (knob.v1 is None or knob.v2 is None) == bool(knob.absent), (
        "what a version has not got, it says why"
    )
    assert knob.detail == DETAILS[knob.per]
    assert knob.family in {row.key for row in KNOBS}
    assert "DEVICE" not in knob.key + (knob.v2.file if knob.v2 else "")
    assert "SIZE" not in f"{knob.v1} {knob.v2}"
    assert all(knob_of(key) for key in knob.coupled)
    assert knob.least <= knob.most
    assert knob.unlimited or knob.default != math.inf
    if knob.unit is Unit.NUMBERS:
        assert knob.combine is Combine.INTERSECTION
    elif knob.default != math.inf:
        assert not isinstance(knob.default, str)
        assert knob.least <= knob.default <= knob.most


def test_every_flag_of_docker_update_that_limits_has_a_row() -> None:
    flags = {flag for knob in KNOBS for flag in knob.flags}
    assert flags >= {
        *("--memory", "--memory-swap", "--memory-reservation", "--cpus", "--cpu-quota", "--cpu-period"),
        *("--cpu-shares", "--cpuset-cpus", "--cpuset-mems", "--pids-limit", "--blkio-weight"),
        *("--device-read-bps", "--device-write-bps", "--device-read-iops", "--device-write-iops"),
    }


@pytest.mark.parametrize(
    ("flag", "version", "key"),
    [
        ("--memory-reservation", 1, "memory.soft_limit_in_bytes"),
        ("--memory-reservation", 2, "memory.low"),
        ("--cpu-shares", 1, "cpu.shares"),
        ("--memory", 1, "memory.max"),
        ("--blkio-weight", 1, "blkio.bfq.weight"),
        ("--blkio-weight", 2, "io.weight"),
    ],
)
def test_a_flag_means_what_the_version_has(flag: str, version: int, key: str) -> None:
    versions = dict.fromkeys(("memory", "cpu", "io"), version)
    assert knob_of_flag(flag, versions).key == key
    with pytest.raises(UnknownLimitError):
        knob_of_flag("--colour", versions)


def test_docker_counts_swap_together_with_memory() -> None:
    docker = knob_of("memory.swap.max").docker
    assert docker is not None
    assert docker.how is How.PLUS_MEMORY


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("memory.maximum", "memory.max"),
        ("memmory.max", "memory.max"),
        ("io.max.rbps", "io.max.rbps[8:0]"),
        ("cpu.quota", "cpu.max"),
        ("io.max.rbps[DEVICE]", "io.max.rbps[8:0]"),
        ("hugetlb.SIZE.max", "hugetlb.2MB.max"),
        ("hugetlb.2MB.min", "hugetlb.2MB.max"),
        ("io.max.rbps[sda]", "io.max.rbps[8:0]"),
    ],
)
def test_a_wrong_name_is_told_what_is_near(key: str, near: str) -> None:
    with pytest.raises(UnknownLimitError, match="there is no limit") as caught:
        knob_of(key)
    assert near in caught.value.near
    assert near in str(caught.value)


def test_a_name_that_is_near_to_nothing_is_told_how_names_look() -> None:
    assert near_names("zzz") == ()
    with pytest.raises(UnknownLimitError, match=r"such as memory\.max"):
        knob_of("z" * 1000)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("memory.max", "512m", 512 << 20),
        ("memory.max", "512MiB", 512 << 20),
        ("memory.max", "536870912", 512 << 20),
        ("memory.max", "max", math.inf),
        ("memory.max", "-1", math.inf),
        ("memory.max", "infinity", math.inf),
        ("memory.low", "0", 0),
        ("cpu.max", "50000", 50_000),
        ("cpu.max", "50ms", 50_000),
        ("cpu.max", "max", math.inf),
        ("cpu.max.period", "1s", 1_000_000),
        ("cpu.weight", "100", 100),
        ("cpu.idle", "on", 1),
        ("cgroup.freeze", "0", 0),
        ("cpuset.cpus", "8,0-2,3", "0-3,8"),
        ("cpuset.cpus", "", ""),
        ("pids.max", "-1", math.inf),
        ("io.max.rbps[8:0]", "1MiB", 1 << 20),
        ("io.max.riops[8:0]", "100", 100),
        ("hugetlb.2MB.max", "4MiB", 4 << 20),
    ],
)
def test_values_are_read_as_people_write_them(key: str, text: str, value: Value) -> None:
    assert parse_value(key, text) == value


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("memory.max", "50%", "does not say of what"),
        ("cpu.max", "200%", "--cpus 1.5"),
        ("memory.max", "-5", "is negative, use max"),
        ("memory.max", "NaN", "is not a size"),
        ("memory.max", "512mb", "write 512MiB"),
        ("memory.max", "9999999999999999999999", "more than the kernel counts"),
        ("cpu.weight", "max", "cannot be without limit; write a number from 1 to 10000"),
        ("cpu.max", "1.5", "has no unit"),
        ("cpu.idle", "2", "neither 0 nor 1"),
        ("cpuset.cpus", "3-1", "is not a list"),
        ("cpuset.cpus", "a", "is not a list"),
        ("pids.max", "many", "is not a whole number; write a number from 0 to 4194304, or max"),
        ("pids.max", "18446744073709551616", "more than the kernel counts"),
    ],
)
def test_what_is_no_value_is_told_how_to_write_it(key: str, text: str, words: str) -> None:
    with pytest.raises(LimitValueError, match=words) as caught:
        parse_value(key, text)
    assert caught.value.name == key
    assert str(caught.value).startswith(f"{key}: ")


def values_of(knob: Knob) -> st.SearchStrategy[Value]:
    if knob.unit is Unit.NUMBERS:
        return st.sampled_from(("", "0", "0-3", "1,3,5-7"))
    numbers = st.integers(knob.least, knob.most)
    return st.one_of(numbers, st.just(math.inf)) if knob.unlimited else numbers


@given(data=st.data())
def test_what_is_written_for_people_reads_as_the_same_value(data: st.DataObject) -> None:
    knob = data.draw(st.sampled_from(ALL))
    value = data.draw(values_of(knob))
    assert parse_value(knob.key, format_value(knob.key, value)) == value


@given(key=st.sampled_from([knob.key for knob in ALL]), text=st.text())
def test_no_text_raises_anything_but_what_is_documented(key: str, text: str) -> None:
    try:
        value = parse_value(key, text)
    except LimitValueError:
        return
    assert isinstance(value, (int, float, str))
    assert isinstance(value, str) or value >= 0


@given(st.text())
def test_no_assignment_raises_anything_but_errors_of_ours(text: str) -> None:
    with contextlib.suppress(CgwatchError):
        parse_assignment(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("memory.high=400MiB", {"memory.high": 400 << 20}),
        (" memory.high = 400MiB ", {"memory.high": 400 << 20}),
        ("cpu.max=50000 100000", {"cpu.max": 50_000, "cpu.max.period": 100_000}),
        ("cpu.max=max", {"cpu.max": math.inf}),
        ("io.max=8:0 rbps=1MiB wiops=max", {"io.max.rbps[8:0]": 1 << 20, "io.max.wiops[8:0]": math.inf}),
        ("io.max=/dev/sda rbps=1MiB", {"io.max.rbps[8:0]": 1 << 20}),
        ("io.max.wbps[/dev/sda]=5", {"io.max.wbps[8:0]": 5}),
        ("cpuset.cpus=", {"cpuset.cpus": ""}),
    ],
)
def test_assignments_name_a_limit_and_its_value(text: str, values: dict[str, Value]) -> None:
    assert parse_assignment(text, {"/dev/sda": "8:0"}.__getitem__) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory.high", "write LIMIT=VALUE"),
        ("=5", "write LIMIT=VALUE"),
        ("io.max=8:0", "write a device and what to bound"),
        ("io.max=8:0 speed=1", "none of rbps"),
        ("io.max=/dev/sda rbps=1", "there is no limit"),
    ],
)
def test_wrong_assignments_are_told_how_to_write_them(text: str, words: str) -> None:
    with pytest.raises(CgwatchError, match=words):
        parse_assignment(text)


def test_cpus_become_a_quota_for_the_period() -> None:
    assert quota_of_cpus("1.5") == 150_000
    assert quota_of_cpus("0.333333", 50_000) == 16_666
    assert quota_of_cpus("max") == math.inf
    assert parse_cpus("0.1") * 10 == 1
    for text in ("0", "-2", "x", "150%", "1e3", "nan"):
        with pytest.raises(LimitValueError):
            quota_of_cpus(text)


FILES = [
    (2, "memory.max", "536870912", {"memory.max": 536_870_912}),
    (2, "memory.max", "max", {"memory.max": math.inf}),
    (2, "cpu.max", "max 50000", {"cpu.max": math.inf, "cpu.max.period": 50_000}),
    (2, "cpu.idle", "1", {"cpu.idle": 1}),
    (2, "cpuset.cpus", "0-3", {"cpuset.cpus": "0-3"}),
    (2, "io.weight", "default 100\n8:0 50", {"io.weight": 100}),
    (2, "hugetlb.2MB.rsvd.max", "max", {"hugetlb.2MB.rsvd.max": math.inf}),
    (1, "memory.limit_in_bytes", "9223372036854771712", {"memory.max": math.inf}),
    (1, "memory.memsw.limit_in_bytes", "8192", {"memory.memsw": 8192}),
    (1, "cpu.cfs_quota_us", "-1", {"cpu.max": math.inf}),
    (1, "cpu.cfs_period_us", "100000", {"cpu.max.period": 100_000}),
    (1, "cpu.shares", "1024", {"cpu.shares": 1024}),
    (1, "blkio.throttle.read_bps_device", "8:0 5\n8:16 6", {"io.max.rbps[8:0]": 5, "io.max.rbps[8:16]": 6}),
    (1, "blkio.bfq.weight", "default 100", {"blkio.bfq.weight": 100}),
    (1, "freezer.self_freezing", "1", {"cgroup.freeze": 1}),
    (1, "hugetlb.1GB.limit_in_bytes", "9223372035781033984", {"hugetlb.1GB.max": math.inf}),
    (1, "pids.max", "max", {"pids.max": math.inf}),
]


@pytest.mark.parametrize(("version", "file", "text", "values"), FILES)
def test_the_kernels_files_become_limits(
    version: int, file: str, text: str, values: dict[str, Value]
) -> None:
    assert is_limit_file(version, file)
    assert parse_file(version, file, text.encode() + b"\n") == values


def test_what_is_no_limit_is_not_read() -> None:
    assert not is_limit_file(2, "memory.current")
    assert not is_limit_file(1, "memory.max")
    assert not is_limit_file(2, "hugetlb.2MB.current")
    assert not is_limit_file(1, "freezer.state"), "what it shows may be an ancestor's doing"


def test_a_bound_on_one_device_says_nothing_of_others() -> None:
    found = parse_file(2, "io.max", b"8:0 rbps=1 wbps=max riops=max wiops=max\n")
    assert found["io.max.rbps[8:0]"] == 1
    assert found["io.max.wiops[8:0]"] == math.inf
    assert not any("8:16" in key for key in found)


@pytest.mark.parametrize(
    ("values", "swap"),
    [
        ({"memory.max": 100, "memory.memsw": 150}, 50),
        ({"memory.max": 100, "memory.memsw": math.inf}, math.inf),
        ({"memory.max": math.inf, "memory.memsw": math.inf}, math.inf),
        ({"memory.max": 100, "memory.memsw": 100}, 0),
        ({"memory.max": 100}, None),
    ],
)
def test_swap_of_v1_is_what_memory_leaves_of_both(values: dict[str, Value], swap: Value | None) -> None:
    assert settled(values).get("memory.swap.max") == swap
    assert "memory.memsw" not in settled(values)


@pytest.mark.parametrize(
    ("version", "key", "values", "file", "text"),
    [
        (2, "memory.max", {"memory.max": math.inf}, "memory.max", "max"),
        (1, "memory.max", {"memory.max": math.inf}, "memory.limit_in_bytes", "-1"),
        (1, "memory.max", {"memory.max": 8192}, "memory.limit_in_bytes", "8192"),
        (
            *(1, "memory.swap.max", {"memory.max": 8192, "memory.swap.max": 4096}),
            *("memory.memsw.limit_in_bytes", "12288"),
        ),
        (
            *(1, "memory.swap.max", {"memory.max": 8192, "memory.swap.max": math.inf}),
            *("memory.memsw.limit_in_bytes", "-1"),
        ),
        (2, "cpu.max", {"cpu.max": math.inf, "cpu.max.period": 50_000}, "cpu.max", "max 50000"),
        (2, "cpu.max.period", {"cpu.max": 10_000, "cpu.max.period": 50_000}, "cpu.max", "10000 50000"),
        (1, "cpu.max", {"cpu.max": math.inf}, "cpu.cfs_quota_us", "-1"),
        (2, "cpuset.cpus", {"cpuset.cpus": ""}, "cpuset.cpus", "\n"),
        (2, "io.max.rbps[8:0]", {"io.max.rbps[8:0]": math.inf}, "io.max", "8:0 rbps=max"),
        (1, "io.max.rbps[8:0]", {"io.max.rbps[8:0]": math.inf}, "blkio.throttle.read_bps_device", "8:0 0"),
        (1, "pids.max", {"pids.max": math.inf}, "pids.max", "max"),
        (1, "cgroup.freeze", {"cgroup.freeze": 1}, "freezer.state", "FROZEN"),
        (2, "cgroup.freeze", {"cgroup.freeze": 1}, "cgroup.freeze", "1"),
        (2, "hugetlb.2MB.max", {"hugetlb.2MB.max": math.inf}, "hugetlb.2MB.max", "max"),
        (1, "hugetlb.2MB.max", {"hugetlb.2MB.max": math.inf}, "hugetlb.2MB.limit_in_bytes", "-1"),
    ],
)
def test_limits_become_the_text_that_the_kernel_takes(
    version: int, key: str, values: dict[str, Value], file: str, text: str
) -> None:
    write = write_of(version, key, values)
    assert (write.file, write.text) == (file, text)
    assert key in write.keys


def test_a_write_names_the_controller_by_v2s_name() -> None:
    assert write_of(1, "io.max.rbps[8:0]", {"io.max.rbps[8:0]": 1}).controller == "io"
    assert write_of(1, "cgroup.freeze", {"cgroup.freeze": 1}).controller == "freezer"
    assert write_of(2, "cgroup.freeze", {"cgroup.freeze": 1}) == Write(
        "", "cgroup.freeze", "1", ("cgroup.freeze",)
    )


@pytest.mark.parametrize(
    ("file", "number", "opened", "there", "kind", "words"),
    [
        ("memory.limit_in_bytes", errno.EBUSY, 1, 1, LimitBusyError, "more is in use"),
        ("cpuset.cpus", errno.EACCES, 1, 1, ValueRefusedError, "the cgroup above"),
        ("cpuset.cpus", errno.EACCES, 0, 1, AccessDeniedError, "it takes root"),
        ("cpuset.cpus", errno.ENOSPC, 1, 1, ValueRefusedError, "it has processes"),
        ("io.max", errno.ENODEV, 1, 1, ValueRefusedError, "no such block device"),
        ("io.max", errno.ENODEV, 1, 0, CgroupGoneError, "the cgroup is gone"),
        ("pids.max", errno.ENODEV, 1, 1, CgroupGoneError, "the cgroup is gone"),
        ("pids.max", errno.ENOENT, 0, 0, FileMissingError, "its controller was switched off"),
        ("pids.max", errno.EROFS, 0, 1, AccessDeniedError, "mounted read-only"),
        ("pids.max", errno.EPERM, 1, 1, AccessDeniedError, "it takes root"),
        ("memory.soft_limit_in_bytes", errno.EOPNOTSUPP, 1, 1, NotSupportedError, "PREEMPT_RT"),
        ("pids.max", errno.EOPNOTSUPP, 1, 1, NotSupportedError, "threaded cgroup"),
        ("memory.reclaim", errno.EAGAIN, 1, 1, ReclaimedLessError, "less could be reclaimed"),
        ("pids.max", errno.ERANGE, 1, 1, ValueRefusedError, "out of range"),
        ("pids.max", errno.EIO, 1, 1, ReadFailedError, "does not say more"),
    ],
)
def test_each_answer_of_the_kernel_is_an_error_with_words(
    file: str, number: int, opened: int, there: int, kind: type[CgwatchError], words: str
) -> None:
    error = refused("/cg", file, "text", number, opened=bool(opened), is_there=bool(there))
    assert type(error) is kind
    assert str(error).startswith(f"/cg/{file}: writing 'text': ")
    assert words in str(error)
    assert errno.errorcode[number] in str(error)
    assert error.errno == number


def test_nobody_knows_every_answer() -> None:
    assert why("memory.max", errno.EIO) is None
