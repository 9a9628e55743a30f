"""What test_limits_machines.py runs in its machine: limits of real units and scopes, by a real systemd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.limit_files import inode_of
from cgwatch.change import Report, Result, Target, Via
from cgwatch.discovery.recognise import recognise
from tests.limits.sandbox import MEBIBYTE, SOMEBODY, Bench, wish
from tests.real.dockerd import IMAGE, Docker
from tests.real.systemd_machine import SOCKET

pytestmark = pytest.mark.real

ROOT = Path("/sys/fs/cgroup")
SERVICE = "cgwtest-limits.service"


def reload() -> None:
    subprocess.run(["systemctl", "daemon-reload"], check=True)


def shown(unit: str, name: str) -> str:
    done = subprocess.run(
        ["systemctl", "show", "--value", f"--property={name}", unit],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def ways(report: Report) -> dict[str, tuple[Result, Via]]:
    return {each.change.key: (each.result, each.via) for each in report.outcomes}


@pytest.fixture
def service() -> Iterator[Target]:
    limits = ("--property=MemoryMax=256M", "--property=TasksMax=100")
    subprocess.run(["systemd-run", f"--unit={SERVICE}", *limits, "/bin/sleep", "100000"], check=True)
    path = f"/system.slice/{SERVICE}"
    yield Target(path, inode_of(hierarchy.find("/proc", None), path), recognise(path))
    subprocess.run(["systemctl", "stop", SERVICE], check=True)


@pytest.fixture(scope="module")
def daemon() -> Docker:
    found = Docker(SOCKET)
    found.wait_until_ready()
    found.import_image()
    return found


@pytest.fixture
def scope(daemon: Docker) -> Iterator[Target]:
    container = daemon.run("--name=till", "--memory=128m", IMAGE, "sleep", "100000")
    path = f"/system.slice/docker-{container}.scope"
    yield Target(path, inode_of(hierarchy.find("/proc", None), path), recognise(path), "till")
    daemon.docker("rm", "--force", container)


@pytest.fixture
def bench(tmp_path: Path, daemon: Docker) -> Iterator[Bench]:
    made = Bench(tmp_path, docker_url=daemon.url)
    yield made
    made.close()


def test_a_units_limits_are_set_by_systemd_and_survive_a_daemon_reload(service: Target, bench: Bench) -> None:
    wanted = {"memory.max": 64 * MEBIBYTE, "memory.high": 48 * MEBIBYTE, "pids.max": 40, "cpu.max": 25_000}
    wanted |= {"cpu.weight": 50}

    report = bench.office.enforcer.apply(structs.replace(wish(service, 600), wanted=wanted))

    assert ways(report) == dict.fromkeys(wanted, (Result.APPLIED, Via.SYSTEMD)), report
    reload()
    place = ROOT / service.path.lstrip("/")
    assert (place / "memory.max").read_text() == f"{64 * MEBIBYTE}\n"
    assert (place / "memory.high").read_text() == f"{48 * MEBIBYTE}\n"
    assert (place / "pids.max").read_text() == "40\n"
    assert (place / "cpu.max").read_text() == "25000 100000\n"
    assert (place / "cpu.weight").read_text() == "50\n"
    assert shown(SERVICE, "MemoryMax") == str(64 * MEBIBYTE)

    bench.ahead_seconds = 601
    bench.office.terms.expire(bench.now())
    reload()

    assert (place / "memory.max").read_text() == f"{256 * MEBIBYTE}\n"
    assert (place / "memory.high").read_text() == "max\n"
    assert (place / "pids.max").read_text() == "100\n"
    assert (place / "cpu.max").read_text() == "max 100000\n"
    assert (place / "cpu.weight").read_text() == "100\n"
    assert shown(SERVICE, "MemoryMax") == str(256 * MEBIBYTE)
    assert bench.office.records.overrides() == []


def test_a_write_to_the_kernel_alone_does_not_survive_and_the_warning_says_so(
    service: Target, bench: Bench
) -> None:
    request = structs.replace(wish(service, 600, memory_max=64 * MEBIBYTE), via=Via.CGROUPFS)

    report = bench.office.enforcer.apply(request)

    assert ways(report) == {"memory.max": (Result.APPLIED, Via.CGROUPFS)}
    assert "daemon-reload" in report.warnings[0]
    reload()
    file = ROOT / service.path.lstrip("/") / "memory.max"
    assert file.read_text() == f"{256 * MEBIBYTE}\n"
    bench.office.terms.watch(bench.now())
    assert bench.told.counts["memory.max drift"] == 1


def test_a_quota_is_rounded_up_to_what_systemd_keeps_over_a_reload(service: Target, bench: Bench) -> None:
    wanted = {"cpu.max": 12_345}

    report = bench.office.enforcer.apply(structs.replace(wish(service), wanted=wanted))

    [outcome] = report.outcomes
    assert (outcome.result, outcome.read_back) == (Result.APPLIED, 13_000)
    reload()
    assert (ROOT / service.path.lstrip("/") / "cpu.max").read_text() == "13000 100000\n"


def test_what_lies_below_a_unit_is_none_and_is_written_to_the_kernel(service: Target, bench: Bench) -> None:
    path = f"{service.path}/below"
    (ROOT / path.lstrip("/")).mkdir()
    try:
        target = Target(path, inode_of(hierarchy.find("/proc", None), path), recognise(path))
        report = bench.office.enforcer.apply(structs.replace(wish(target, memory_max=1), dry_run=True))
        assert all(each.via is not Via.SYSTEMD for each in report.outcomes)
    finally:
        (ROOT / path.lstrip("/")).rmdir()


def test_a_container_goes_by_docker_and_what_docker_has_not_got_by_its_scope(
    scope: Target, bench: Bench, daemon: Docker
) -> None:
    wanted = {"memory.max": 64 * MEBIBYTE, "memory.high": 48 * MEBIBYTE}

    report = bench.office.enforcer.apply(structs.replace(wish(scope, 600), wanted=wanted))

    assert ways(report) == {
        "memory.max": (Result.APPLIED, Via.DOCKER),
        "memory.high": (Result.APPLIED, Via.SYSTEMD),
    }, report
    reload()
    place = ROOT / scope.path.lstrip("/")
    assert (place / "memory.max").read_text() == f"{64 * MEBIBYTE}\n"
    assert (place / "memory.high").read_text() == f"{48 * MEBIBYTE}\n"
    [inspected] = json.loads(daemon.docker("inspect", "till"))
    assert inspected["HostConfig"]["Memory"] == 64 * MEBIBYTE

    bench.office.enforcer.reset(scope, None, SOMEBODY)
    reload()

    assert (place / "memory.max").read_text() == f"{128 * MEBIBYTE}\n"
    assert (place / "memory.high").read_text() == "max\n"


def test_process_1s_own_cgroup_is_protected(bench: Bench) -> None:
    path = "/init.scope"
    target = Target(path, inode_of(hierarchy.find("/proc", None), path), recognise(path))
    [outcome] = bench.office.enforcer.apply(wish(target, pids_max=5)).outcomes
    assert outcome.result is Result.REFUSED
    assert "process 1" in outcome.message
