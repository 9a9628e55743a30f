from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup.knobs import KNOBS
from cgwatch.change import Target, Via
from cgwatch.discovery.recognise import recognise
from cgwatch.limits.protect import protection
from cgwatch.limits.verify import same
from cgwatch.limits.writers.choice import choose
from cgwatch.limits.writers.docker import UNLIMITED_BYTES, update_of
from cgwatch.limits.writers.systemd import UNLIMITED, Property, mask_of, properties_of

ID = "0123456789abcdef" * 4
PLAIN_DOCKER = f"/docker/{ID}"
SCOPE = f"/system.slice/docker-{ID}.scope"
SERVICE = "/system.slice/web.service"
NESTED = f"{PLAIN_DOCKER}/docker/{ID[::-1]}"
V2 = dict.fromkeys({knob.controller for knob in KNOBS}, 2)
V1 = dict.fromkeys(V2, 1)


def way(path: str, key: str, wanted: Via = Via.AUTO, *, versions: dict[str, int] = V2) -> Via | None:
    return choose(wanted, Target(path, 1, recognise(path)), [key], versions=versions).ways.get(key)


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        (PLAIN_DOCKER, "memory.max", Via.DOCKER),
        (PLAIN_DOCKER, "memory.high", Via.CGROUPFS),
        (SCOPE, "memory.max", Via.DOCKER),
        (SCOPE, "memory.high", Via.SYSTEMD),
        (SCOPE, "memory.oom.group", Via.CGROUPFS),
        (SERVICE, "memory.max", Via.SYSTEMD),
        (SERVICE, "io.max.rbps[8:0]", Via.SYSTEMD),
        (SERVICE, "hugetlb.2MB.max", Via.CGROUPFS),
        (f"/system.slice/cri-containerd-{ID}.scope", "memory.max", Via.SYSTEMD),
        (f"/k8s.io/{ID}", "memory.max", Via.CGROUPFS),
        ("/batch/job", "memory.max", Via.CGROUPFS),
        (NESTED, "memory.max", Via.CGROUPFS),
    ],
)
def test_a_limit_goes_the_way_that_its_owner_knows_of(path: str, key: str, expected: Via) -> None:
    assert way(path, key) is expected


def test_on_v1_systemd_is_asked_only_for_what_it_manages_there() -> None:
    assert way(SERVICE, "cpuset.cpus") is Via.SYSTEMD
    assert way(SERVICE, "cpuset.cpus", versions=V1) is Via.CGROUPFS
    choice = choose(Via.AUTO, Target(SERVICE, 1, recognise(SERVICE)), ["cpuset.cpus"], versions=V1)
    assert not [each for each in choice.warnings if "lost" in each]  # nobody sets it again


def test_a_way_that_cannot_be_gone_is_passed_by_with_a_warning_and_refused_when_it_was_named() -> None:
    target = Target(PLAIN_DOCKER, 1, recognise(PLAIN_DOCKER))
    unable = {Via.DOCKER: "Docker does not answer"}

    choice = choose(Via.AUTO, target, ["memory.max"], versions=V2, unable=unable)
    assert choice.ways == {"memory.max": Via.CGROUPFS}
    [warning] = choice.warnings
    assert "Docker does not answer" in warning
    assert "lost when the container is started again" in warning

    choice = choose(Via.DOCKER, target, ["memory.max"], versions=V2, unable=unable)
    assert choice.ways == {}
    assert "Docker does not answer" in choice.refusals[0].message


def test_of_a_pods_limits_it_is_said_that_the_kubelet_may_set_them_again() -> None:
    path = f"/kubepods.slice/kubepods-pod12345678_1234_1234_1234_123456789012.slice/cri-containerd-{ID}.scope"
    choice = choose(Via.AUTO, Target(path, 1, recognise(path)), ["memory.max"], versions=V2)
    assert choice.ways == {"memory.max": Via.SYSTEMD}
    assert "kubelet" in choice.warnings[0]


def test_systemd_is_not_asked_for_what_is_no_unit() -> None:
    choice = choose(Via.SYSTEMD, Target("/batch", 1, recognise("/batch")), ["memory.max"], versions=V2)
    assert "not a unit of systemd" in choice.refusals[0].message


@pytest.mark.parametrize("path", [PLAIN_DOCKER, SCOPE, SERVICE, NESTED, "/batch"])
def test_by_auto_every_limit_has_a_way(path: str) -> None:
    keys = [knob.key.replace("DEVICE", "8:0").replace("SIZE", "2MB") for knob in KNOBS]
    for versions in (V1, V2):
        choice = choose(Via.AUTO, Target(path, 1, recognise(path)), keys, versions=versions)
        assert choice.ways.keys() == set(keys)
        assert choice.refusals == ()


# -- Docker's words ----------------------------------------------------------------------------------------

NOW = {
    "memory.max": 128 << 20,
    "memory.swap.max": 64 << 20,
    "cpu.max": 50_000,
    "cpu.max.period": 100_000,
    "pids.max": math.inf,
}


@pytest.mark.parametrize(
    ("wanted", "stored", "fields"),
    [
        ({"memory.max": 64 << 20}, {}, {"Memory": 64 << 20, "MemorySwap": 128 << 20}),
        ({"memory.swap.max": 0}, {}, {"Memory": 128 << 20, "MemorySwap": 128 << 20}),
        ({"memory.swap.max": math.inf}, {}, {"Memory": 128 << 20, "MemorySwap": UNLIMITED_BYTES}),
        (
            {"memory.max": math.inf, "memory.swap.max": math.inf},
            {},
            {"Memory": UNLIMITED_BYTES, "MemorySwap": UNLIMITED_BYTES},
        ),
        ({"cpu.max": 25_000}, {"NanoCpus": 0}, {"CpuPeriod": 100_000, "CpuQuota": 25_000}),
        ({"cpu.max": math.inf}, {}, {"CpuPeriod": 100_000, "CpuQuota": -1}),
        ({"cpu.max": 150_000}, {"NanoCpus": 500_000_000}, {"NanoCpus": 1_500_000_000}),
        ({"pids.max": math.inf}, {}, {"PidsLimit": -1}),
        ({"cpuset.cpus": "0-1"}, {}, {"CpusetCpus": "0-1"}),
        ({"memory.low": 32 << 20}, {}, {"MemoryReservation": 32 << 20}),
    ],
)
def test_limits_in_dockers_words(wanted: dict[str, int], stored: dict[str, int], fields: object) -> None:
    update = update_of(wanted, NOW, stored)
    assert update.fields == fields
    assert update.impossible == {}


@pytest.mark.parametrize(
    ("wanted", "stored"),
    [
        ({"memory.max": math.inf}, {}),  # and swap keeps its limit
        ({"cpu.max": math.inf}, {"NanoCpus": 500_000_000}),
        ({"cpu.max.period": 50_000}, {"NanoCpus": 500_000_000}),
        ({"memory.low": 0}, {}),
        ({"pids.max": 0}, {}),
        ({"cpuset.cpus": ""}, {}),
        ({"blkio.weight": 5}, {}),
    ],
)
def test_what_docker_cannot_do_is_said_for_each_limit(wanted: dict[str, int], stored: dict[str, int]) -> None:
    update = update_of(wanted, NOW, stored)
    assert update.impossible.keys() == wanted.keys()
    assert all(update.impossible.values())
    assert update.fields == {}


# -- systemd's words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "properties"),
    [
        ({"memory.max": 64 << 20}, [Property("MemoryMax", "t", 64 << 20)]),
        ({"memory.max": math.inf}, [Property("MemoryMax", "t", UNLIMITED)]),
        ({"pids.max": 40}, [Property("TasksMax", "t", 40)]),
        (
            {"cpu.max": 12_345},
            [Property("CPUQuotaPeriodUSec", "t", 100_000), Property("CPUQuotaPerSecUSec", "t", 130_000)],
        ),
        (
            {"cpu.max.period": 50_000},
            [Property("CPUQuotaPeriodUSec", "t", 50_000), Property("CPUQuotaPerSecUSec", "t", 1_000_000)],
        ),
        (
            {"io.max.rbps[8:0]": 1000, "io.max.rbps[8:16]": math.inf},
            [
                Property(
                    "IOReadBandwidthMax", "a(st)", (("/dev/block/8:0", 1000), ("/dev/block/8:16", UNLIMITED))
                )
            ],
        ),
        ({"cpuset.cpus": "0,8-9"}, [Property("AllowedCPUs", "ay", b"\x01\x03")]),
        ({"cpuset.cpus": ""}, [Property("AllowedCPUs", "ay", b"")]),
    ],
)
def test_limits_in_systemds_words(wanted: dict[str, int], properties: list[Property]) -> None:
    assert list(properties_of(wanted, NOW)) == properties


@given(st.sets(st.integers(0, 300)))
def test_a_mask_has_a_bit_for_each_number(numbers: set[int]) -> None:
    mask = mask_of(",".join(map(str, sorted(numbers))))
    assert {index for index in range(len(mask) * 8) if mask[index // 8] >> index % 8 & 1} == numbers


# -- what is protected, and what is the same ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "root"),
        ("/init.scope", "process 1"),
        ("/init.scope/below", "process 1"),
        ("/kubepods", "kubelet"),
        ("/kubepods.slice/kubepods-burstable.slice", "kubelet"),
        ("/system.slice/cgwatch.service", "itself runs in it"),
        ("/system.slice", "in a cgroup below it"),
        ("/batch/important", "limits.protect"),
    ],
)
def test_what_is_protected_and_why(path: str, words: str) -> None:
    own = ("/", "/system.slice/cgwatch.service")
    reason = protection(path, recognise(path), own_paths=own, globs=("/batch/imp*",))
    assert reason is not None
    assert words in reason


@pytest.mark.parametrize("path", [PLAIN_DOCKER, SERVICE, "/batch/other", "/system.slice/cgwatch.service.d"])
def test_what_is_not_protected(path: str) -> None:
    own = ("/", "/system.slice/cgwatch.service")
    assert protection(path, recognise(path), own_paths=own, globs=("/batch/imp*",)) is None


@pytest.mark.parametrize(
    ("key", "one", "other", "via", "expected"),
    [
        ("memory.max", 10_000_001, 9_998_336, Via.CGROUPFS, True),  # a page
        ("memory.max", 4096, 8192, Via.CGROUPFS, False),
        ("memory.max", math.inf, UNLIMITED_BYTES, Via.DOCKER, True),
        ("memory.max", math.inf, 1 << 40, Via.DOCKER, False),
        ("cpu.max", 12_345, 13_000, Via.SYSTEMD, True),  # one step
        ("cpu.max", 12_345, 13_000, Via.CGROUPFS, False),
        ("cpu.max", math.inf, 13_000, Via.SYSTEMD, False),
        ("pids.max", 40, 41, Via.SYSTEMD, False),
        ("cpuset.cpus", "0-1", "0", Via.SYSTEMD, False),
        ("memory.max", None, 4096, Via.CGROUPFS, False),
    ],
)
def test_values_are_the_same_as_far_as_the_way_keeps_them(
    key: str, one: float | str | None, other: float | str | None, via: Via, *, expected: bool
) -> None:
    assert same(key, one, other, page_bytes=4096, via=via) is expected
    assert same(key, other, one, page_bytes=4096, via=via) is expected
