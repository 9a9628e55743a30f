from __future__ import annotations

import math
from typing import Any

import pytest

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knobs import knob_of
from cgwatch.limits.docker_view import stored_limits

MIB = 1 << 20
V1, V2 = {"memory": 1, "cpu": 1, "io": 1}, {"memory": 2, "cpu": 2, "io": 2}
PLAIN = {
    **dict.fromkeys(
        "Memory MemorySwap MemoryReservation NanoCpus CpuQuota CpuPeriod CpuShares BlkioWeight".split(), 0
    ),
    "CpusetCpus": "",
    "CpusetMems": "",
    "PidsLimit": None,
}
"""Of a container that was made without any limit, as Docker 20.10 stores it."""


def stored(versions: dict[str, int] = V2, **fields: Any) -> dict[str, Value]:
    return stored_limits({**PLAIN, **fields}, versions)


def test_a_container_without_limits_has_those_of_the_kernel() -> None:
    found = stored()
    assert found == {
        "memory.max": math.inf,
        "memory.swap.max": math.inf,
        "memory.low": 0,
        "cpu.max": math.inf,
        "cpu.max.period": 100_000,
        "pids.max": math.inf,
    }
    assert found.items() <= {**{knob_of(key).key: knob_of(key).default for key in found}}.items()


@pytest.mark.parametrize(
    ("fields", "key", "value"),
    [
        ({"Memory": 512 * MIB, "MemorySwap": 512 * MIB}, "memory.swap.max", 0),
        ({"Memory": 512 * MIB, "MemorySwap": 1024 * MIB}, "memory.swap.max", 512 * MIB),
        ({"Memory": 512 * MIB, "MemorySwap": -1}, "memory.swap.max", math.inf),
        ({"Memory": 512 * MIB}, "memory.max", 512 * MIB),
        ({"Memory": 9223372036854771712}, "memory.max", math.inf),
        ({"MemoryReservation": 64 * MIB}, "memory.low", 64 * MIB),
        ({"NanoCpus": 1_500_000_000}, "cpu.max", 150_000),
        ({"CpuQuota": 50_000, "CpuPeriod": 20_000}, "cpu.max", 50_000),
        ({"CpuQuota": 50_000, "CpuPeriod": 20_000}, "cpu.max.period", 20_000),
        ({"CpuQuota": -1}, "cpu.max", math.inf),
        ({"PidsLimit": 100}, "pids.max", 100),
        ({"PidsLimit": -1}, "pids.max", math.inf),
        ({"PidsLimit": 0}, "pids.max", math.inf),
        ({"CpusetCpus": "0-1"}, "cpuset.cpus", "0-1"),
    ],
)
def test_what_docker_stores_is_said_in_the_kernels_words(
    fields: dict[str, Any], key: str, value: Value
) -> None:
    assert stored(**fields)[key] == value


def test_weights_are_there_only_where_the_kernel_has_the_number_that_was_asked_for() -> None:
    asked = {"CpuShares": 512, "BlkioWeight": 300}
    assert not {"cpu.weight", "cpu.shares", "io.weight"} & stored(V2, **asked).keys()
    found = stored(V1, **asked)
    assert (found["cpu.shares"], found["blkio.weight"]) == (512, 300)
    assert stored(V1)["cpu.shares"] == 1024
