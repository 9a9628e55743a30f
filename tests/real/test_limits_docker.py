"""Limits of real containers, by a real Docker: what ``docker inspect`` says stays true."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.knob import Per, Unit
from cgwatch.cgroup.knobs import knob_of
from cgwatch.cgroup.limit_files import inode_of, read_limits
from cgwatch.change import Result, Target, Via
from cgwatch.discovery.recognise import recognise
from tests.limits.sandbox import MEBIBYTE, SOMEBODY, Bench, wish
from tests.real.dockerd import IMAGE, Dockerd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cgwatch.cgroup.knobs import Value
    from cgwatch.change import Report

pytestmark = pytest.mark.real


class Container:
    """A container that sleeps, as Docker and as the kernel have it."""

    def __init__(self, daemon: Dockerd, *args: str) -> None:
        self.daemon = daemon
        self.id = daemon.run("--network=none", *args, IMAGE, "sleep", "100000")
        self._hierarchies = hierarchy.find("/proc", None)

    @property
    def target(self) -> Target:
        path = f"/docker/{self.id}"
        return Target(path, inode_of(self._hierarchies, path), recognise(path), "till")

    def stored(self) -> Mapping[str, Any]:
        [inspected] = json.loads(self.daemon.docker("inspect", self.id))
        stored: Mapping[str, Any] = inspected["HostConfig"]
        return stored

    def kernel(self) -> Mapping[str, Value]:
        return read_limits(self._hierarchies, self.target.path).values

    def remove(self) -> None:
        self.daemon.docker("rm", "--force", self.id)


@pytest.fixture
def bench(tmp_path: Path, docker: Dockerd) -> Iterator[Bench]:
    made = Bench(tmp_path, docker_url=docker.url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def container(docker: Dockerd) -> Iterator[Container]:
    made = Container(docker)
    yield made
    made.remove()


@pytest.fixture
def limited(docker: Dockerd) -> Iterator[Container]:
    made = Container(docker, "--memory=128m", "--memory-swap=192m", "--cpus=0.75", "--pids-limit=100")
    yield made
    made.remove()


def ways(report: Report) -> dict[str, tuple[Result, Via]]:
    return {each.change.key: (each.result, each.via) for each in report.outcomes}


def test_docker_is_told_of_every_limit_that_it_knows_and_inspect_stays_true(
    limited: Container, bench: Bench
) -> None:
    before = limited.kernel()
    wanted = {"memory.max": 64 * MEBIBYTE, "cpu.max": 50_000, "pids.max": 40}

    report = bench.office.enforcer.apply(structs.replace(wish(limited.target, 600), wanted=wanted))

    assert ways(report) == dict.fromkeys(wanted, (Result.APPLIED, Via.DOCKER)), report
    stored, kernel = limited.stored(), limited.kernel()
    assert (stored["Memory"], kernel["memory.max"]) == (64 * MEBIBYTE, 64 * MEBIBYTE)
    assert stored["MemorySwap"] == 128 * MEBIBYTE  # what swap alone may be stays as it was
    assert kernel["memory.swap.max"] == before["memory.swap.max"] == 64 * MEBIBYTE
    assert (stored["NanoCpus"], kernel["cpu.max"], kernel["cpu.max.period"]) == (500_000_000, 50_000, 100_000)
    assert (stored["PidsLimit"], kernel["pids.max"]) == (40, 40)

    bench.ahead_seconds = 601
    bench.office.terms.expire(bench.now())

    stored = limited.stored()
    assert limited.kernel() == before
    assert (stored["Memory"], stored["MemorySwap"]) == (128 * MEBIBYTE, 192 * MEBIBYTE)
    assert (stored["NanoCpus"], stored["PidsLimit"]) == (750_000_000, 100)
    assert bench.office.records.overrides() == []


def test_a_container_without_limits_gets_some_and_loses_them_again(
    container: Container, bench: Bench
) -> None:
    before = container.kernel()
    wanted = {"memory.max": 64 * MEBIBYTE, "cpu.max": 50_000, "pids.max": 40}

    report = bench.office.enforcer.apply(structs.replace(wish(container.target, 600), wanted=wanted))

    assert ways(report) == dict.fromkeys(wanted, (Result.APPLIED, Via.DOCKER)), report
    stored, kernel = container.stored(), container.kernel()
    assert (stored["Memory"], kernel["memory.max"]) == (64 * MEBIBYTE, 64 * MEBIBYTE)
    assert (stored["CpuQuota"], stored["CpuPeriod"], kernel["cpu.max"]) == (50_000, 100_000, 50_000)
    assert (stored["PidsLimit"], kernel["pids.max"]) == (40, 40)

    report = bench.office.enforcer.reset(container.target, None, SOMEBODY)

    assert {each.result for each in report.outcomes} == {Result.APPLIED}, report
    after = container.kernel()
    assert after == before
    assert after["memory.max"] == after["cpu.max"] == math.inf


def test_swap_alone_is_changed_without_another_limit_of_memory(limited: Container, bench: Bench) -> None:
    wanted = {"memory.swap.max": 16 * MEBIBYTE}

    report = bench.office.enforcer.apply(structs.replace(wish(limited.target), wanted=wanted))

    assert ways(report) == {"memory.swap.max": (Result.APPLIED, Via.DOCKER)}, report
    stored, kernel = limited.stored(), limited.kernel()
    assert (stored["Memory"], stored["MemorySwap"]) == (128 * MEBIBYTE, 144 * MEBIBYTE)
    assert (kernel["memory.max"], kernel["memory.swap.max"]) == (128 * MEBIBYTE, 16 * MEBIBYTE)


def test_what_docker_has_not_got_is_written_to_the_kernel_with_a_warning_of_what_it_does_not_survive(
    limited: Container, bench: Bench
) -> None:
    wanted = {"cpu.max.burst": 10_000, "pids.max": 40}

    report = bench.office.enforcer.apply(structs.replace(wish(limited.target), wanted=wanted))

    assert ways(report) == {
        "cpu.max.burst": (Result.APPLIED, Via.CGROUPFS),
        "pids.max": (Result.APPLIED, Via.DOCKER),
    }, report
    [warning] = [each for each in report.warnings if each.startswith("cpu.max.burst")]
    assert "Docker's API cannot set cpu.max.burst" in warning
    assert "lost when the container is started again" in warning


def test_the_period_of_a_container_that_was_made_with_cpus_is_not_dockers_to_change(
    limited: Container, bench: Bench
) -> None:
    wanted = {"cpu.max": 25_000, "cpu.max.period": 50_000}
    report = bench.office.enforcer.apply(structs.replace(wish(limited.target), wanted=wanted, via=Via.DOCKER))
    assert {each.result for each in report.outcomes} == {Result.REFUSED}
    assert "made with --cpus" in report.outcomes[0].message
    assert limited.kernel()["cpu.max"] == 75_000


def test_limits_follow_a_container_that_is_started_again_and_still_end_in_time(
    limited: Container, bench: Bench
) -> None:
    wanted = {"pids.max": 40, "cpu.max.burst": 10_000}  # the one is stored by Docker, the other one is not
    bench.office.enforcer.apply(structs.replace(wish(limited.target, 600), wanted=wanted))
    old = limited.target
    limited.daemon.docker("restart", "--time=0", limited.id)
    assert limited.target.inode != old.inode
    assert limited.kernel()["cpu.max.burst"] == 0

    bench.office.terms.watch(bench.now())

    kernel = limited.kernel()
    assert (kernel["pids.max"], kernel["cpu.max.burst"]) == (40, 10_000)
    held = bench.office.terms.watch(bench.now())
    assert {each.key: each.baseline for each in held} == {"pids.max": 100, "cpu.max.burst": 0}
    assert {each.target.inode for each in held} == {limited.target.inode}

    bench.ahead_seconds = 601
    bench.office.terms.expire(bench.now())

    kernel = limited.kernel()
    assert (kernel["pids.max"], kernel["cpu.max.burst"]) == (100, 0)
    assert limited.stored()["PidsLimit"] == 100


def test_a_limit_that_is_wanted_once_more_is_still_dockers_when_the_container_is_started_again(
    limited: Container, bench: Bench
) -> None:
    bench.office.enforcer.apply(wish(limited.target, 600, pids_max=40))
    report = bench.office.enforcer.apply(wish(limited.target, 900, pids_max=40))
    assert {each.result for each in report.outcomes} == {Result.UNCHANGED}
    limited.daemon.docker("restart", "--time=0", limited.id)
    bench.office.terms.watch(bench.now())

    bench.ahead_seconds = 901
    bench.office.terms.expire(bench.now())

    assert limited.kernel()["pids.max"] == limited.stored()["PidsLimit"] == 100


def test_docker_is_told_of_the_end_of_an_override_also_while_the_container_does_not_run(
    limited: Container, bench: Bench
) -> None:
    wanted = {"pids.max": 40, "memory.max": 64 * MEBIBYTE}
    bench.office.enforcer.apply(structs.replace(wish(limited.target, 600), wanted=wanted))
    limited.daemon.docker("stop", "--time=0", limited.id)

    bench.ahead_seconds = 601
    bench.office.terms.expire(bench.now())
    limited.daemon.docker("start", limited.id)

    kernel = limited.kernel()
    assert (kernel["pids.max"], kernel["memory.max"]) == (100, 128 * MEBIBYTE)
    assert kernel["memory.swap.max"] == 64 * MEBIBYTE
    assert bench.office.records.overrides() == []


OTHER: dict[str, Value] = {
    "memory.max": 64 * MEBIBYTE,
    "memory.swap.max": 32 * MEBIBYTE,
    "memory.swap.high": 16 * MEBIBYTE,
    "memory.high": 48 * MEBIBYTE,
    "memory.low": 16 * MEBIBYTE,
    "memory.min": 8 * MEBIBYTE,
    "memory.soft_limit_in_bytes": 32 * MEBIBYTE,
    "cpu.max": 50_000,
    "cpu.max.period": 50_000,
    "cpu.max.burst": 10_000,
    "cpuset.cpus": "0",
    "cpuset.mems": "0",
    "pids.max": 42,
}
SWITCHED_ON, ANY_WEIGHT = 1, 300


def other(key: str) -> Value:
    knob = knob_of(key)
    return OTHER.get(key, SWITCHED_ON if knob.unit is Unit.SWITCH else ANY_WEIGHT)


def test_every_limit_of_a_container_is_set_by_some_way_and_comes_back(
    limited: Container, bench: Bench
) -> None:
    before = limited.kernel()
    tried = []
    for key in before:
        if knob_of(key).per is not Per.CGROUP or before[key] == other(key):
            continue  # of a device or a size of pages; or this machine has no other CPU or node
        report = bench.office.enforcer.apply(
            structs.replace(wish(limited.target, 600), wanted={key: other(key)})
        )
        # Nothing is protected in a cgroup whose parent, Docker's own, protects nothing.
        is_protection = key in ("memory.low", "memory.min")
        result = Result.APPLIED_NOT_EFFECTIVE if is_protection else Result.APPLIED
        assert {each.result for each in report.outcomes} == {result}, report
        assert limited.kernel()[key] == other(key)

        report = bench.office.enforcer.reset(limited.target, None, SOMEBODY)
        assert {each.result for each in report.outcomes} <= {Result.APPLIED, Result.UNCHANGED}, report
        assert limited.kernel() == before, key
        tried.append(key)
    assert {"memory.max", "cpu.max", "cpu.max.period", "pids.max", "cgroup.freeze"} <= set(tried)
    stored = limited.stored()
    assert (stored["Memory"], stored["MemorySwap"]) == (128 * MEBIBYTE, 192 * MEBIBYTE)
    assert stored["PidsLimit"] == 100


def test_while_docker_does_not_answer_a_limit_goes_to_the_kernel_and_docker_is_named(
    container: Container, bench: Bench, docker: Dockerd
) -> None:
    docker.kill()
    try:
        report = bench.office.enforcer.apply(wish(container.target, 600, pids_max=40))
    finally:
        docker.start()

    assert ways(report) == {"pids.max": (Result.APPLIED, Via.CGROUPFS)}, report
    assert "Docker does not answer" in report.warnings[0]
