from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knobs import KNOBS
from cgwatch.change import Key
from cgwatch.cli.limit_flags import device_number, read
from cgwatch.cli.set_limit import set_limit
from cgwatch.errors import LimitValueError, UnknownLimitError

MIB = 1 << 20
V1 = {"memory": 1, "cpu": 1, "io": 1, "pids": 1, "cpuset": 1}
V2 = dict.fromkeys(V1, 2)


def wanted(*flags: tuple[str, str], versions: dict[str, int] = V2) -> dict[Key, Value]:
    texts: dict[str, list[str]] = {}
    for flag, text in flags:
        texts.setdefault(flag, []).append(text)
    return read(texts, versions)


def refused(*flags: tuple[str, str], versions: dict[str, int] = V2) -> str:
    with pytest.raises(LimitValueError) as raised:
        wanted(*flags, versions=versions)
    return str(raised.value)


def test_every_flag_of_the_table_is_a_flag_of_the_command() -> None:
    flags = {flag for option in set_limit.params for flag in option.opts}
    assert {flag for knob in KNOBS for flag in knob.flags} <= flags


@pytest.mark.parametrize(
    ("flag", "text", "key", "value"),
    [
        ("--memory", "512m", "memory.max", 512 * MIB),
        ("--memory", "-1", "memory.max", math.inf),
        ("--memory", "max", "memory.max", math.inf),
        ("--memory-reservation", "64MiB", "memory.low", 64 * MIB),
        ("--memory-reservation", "0", "memory.low", 0),
        ("--cpu-quota", "50000", "cpu.max", 50_000),
        ("--cpu-quota", "50ms", "cpu.max", 50_000),
        ("--cpu-period", "20ms", "cpu.max.period", 20_000),
        ("--cpuset-cpus", "0,1,2", "cpuset.cpus", "0-2"),
        ("--pids-limit", "100", "pids.max", 100),
        ("--pids-limit", "-1", "pids.max", math.inf),
        ("--blkio-weight", "200", "io.weight", 200),
        ("--device-write-iops", "8:16:100", "io.max.wiops[8:16]", 100),
        ("--device-read-bps", "8:0:1MiB", "io.max.rbps[8:0]", MIB),
        ("--set", "memory.high=400MiB", "memory.high", 400 * MIB),
    ],
)
def test_dockers_flags_mean_the_kernels_limits(flag: str, text: str, key: str, value: Value) -> None:
    assert wanted((flag, text)) == {key: value}


def test_some_flags_mean_another_limit_on_v1() -> None:
    assert wanted(("--memory-reservation", "1m"), versions=V1) == {"memory.soft_limit_in_bytes": MIB}
    assert wanted(("--cpu-shares", "512"), versions=V1) == {"cpu.shares": 512}
    assert wanted(("--blkio-weight", "200"), versions=V1) == {"blkio.bfq.weight": 200}


def test_cpus_are_a_quota_and_its_period() -> None:
    assert wanted(("--cpus", "1.5")) == {"cpu.max": 150_000, "cpu.max.period": 100_000}
    assert wanted(("--cpus", "0.5"), ("--cpu-period", "20ms")) == {
        "cpu.max": 10_000,
        "cpu.max.period": 20_000,
    }
    assert wanted(("--cpus", "max")) == {"cpu.max": math.inf}


def test_dockers_memory_swap_counts_memory_too() -> None:
    assert wanted(("--memory", "1g"), ("--memory-swap", "1536m"))["memory.swap.max"] == 512 * MIB
    assert wanted(("--memory", "1g"), ("--memory-swap", "1g"))["memory.swap.max"] == 0
    assert wanted(("--memory-swap", "-1"))["memory.swap.max"] == math.inf
    assert "give --memory as well" in refused(("--memory-swap", "1g"))
    assert "less than --memory" in refused(("--memory-swap", "1g"), ("--memory", "2g"))
    assert "less than --memory" in refused(("--memory-swap", "1g"), ("--memory", "max"))


@pytest.mark.parametrize("flag", ["--memory", "--pids-limit", "--cpus", "--cpu-quota", "--cpu-shares"])
def test_a_zero_that_docker_takes_for_no_limit_is_never_taken_for_nothing_at_all(flag: str) -> None:
    assert "write max for no limit" in refused((flag, "0"))


def test_shares_on_v2_are_refused_with_a_weight_that_is_about_the_same() -> None:
    assert "--set cpu.weight=59" in refused(("--cpu-shares", "512"))


def test_two_flags_that_want_different_values_are_refused() -> None:
    assert "--memory and --set want different values" in refused(
        ("--memory", "1g"), ("--set", "memory.max=2g")
    )
    assert wanted(("--memory", "1g"), ("--set", "memory.max=1g")) == {"memory.max": 1 << 30}
    assert "--cpu-quota says the same" in refused(("--cpus", "1"), ("--cpu-quota", "1000"))


@pytest.mark.parametrize(
    ("flag", "text", "says"),
    [
        ("--memory", "50%", "does not say of what"),
        ("--memory", "512mb", "write 512MiB"),
        ("--memory", "-5", "negative"),
        ("--cpus", "lots", "not a number of CPUs"),
        ("--pids-limit", "1.5", "not a whole number"),
        ("--device-read-bps", "1MiB", "is not DEVICE:NUMBER"),
        ("--device-read-bps", "/nonexistent:1MiB", "there is no such device"),
        ("--device-read-bps", "/dev/null:1MiB", "is not a block device"),
        ("--set", "memory.high", "write LIMIT=VALUE"),
    ],
)
def test_what_cannot_be_is_refused_with_how_to_write_it(flag: str, text: str, says: str) -> None:
    assert says in refused((flag, text))


def test_an_unknown_limit_is_told_from_one_that_is_near() -> None:
    with pytest.raises(UnknownLimitError, match=r"memory\.max"):
        wanted(("--set", "memory.maximum=1g"))


def test_a_block_device_is_found_by_its_path() -> None:
    device = next((path for path in Path("/dev").iterdir() if path.is_block_device()), None)
    if device is None:
        pytest.skip("there is no block device here")
    number = device.stat().st_rdev
    assert device_number(str(device)) == f"{os.major(number)}:{os.minor(number)}"
