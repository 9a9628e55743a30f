"""What test_systemd.py runs in its machine: systemd is process 1, and Docker lets it make the cgroups."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.agent_process import AgentProcess
from tests.real.checked import check
from tests.real.dockerd import IMAGE, Docker
from tests.real.kernel_says import kernel_says
from tests.real.kernel_says_more import kernel_says_more
from tests.real.leftovers import wait_until
from tests.real.systemd_machine import SOCKET

pytestmark = pytest.mark.real

ROOT = Path("/sys/fs/cgroup")
SERVICE = "cgwtest-known.service"
UNITS = (".service", ".slice", ".scope", ".socket", ".mount", ".swap")
MEBIBYTE = 1 << 20
WORK = """
held=$(head -c 6000000 /dev/zero | tr '\\0' a)
dd if=/dev/zero of=/dev/shm/held bs=1M count=16
echo ready
sleep 100000 & wait
"""


@pytest.fixture(scope="module")
def daemon() -> Docker:
    found = Docker(SOCKET)
    found.wait_until_ready()
    found.import_image()
    return found


@pytest.fixture(scope="module")
def agent(daemon: Docker) -> Iterator[AgentProcess]:
    # Of a group that is off by default.
    shown = {"CGWATCH_METRICS_INCLUDE": "container_processes,container_threads*"}
    with AgentProcess(daemon.url, interval="500ms", environment=shown) as process:
        yield process


@pytest.fixture(scope="module")
def scope(daemon: Docker) -> Iterator[str]:
    limits = ("--memory=64m", "--memory-reservation=32m", "--cpus=0.5", "--pids-limit=50", "--cpu-shares=512")
    container = daemon.run("--name=till", *limits, IMAGE, "sh", "-c", WORK)
    assert wait_until(lambda: "ready" in daemon.docker("logs", container), 30)
    yield f"/system.slice/docker-{container}.scope"
    daemon.docker("rm", "--force", container)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    limits = ("--property=MemoryMax=64M", "--property=CPUQuota=50%", "--property=TasksMax=20")
    subprocess.run(["systemd-run", f"--unit={SERVICE}", *limits, "/bin/sleep", "100000"], check=True)
    yield f"/system.slice/{SERVICE}"
    subprocess.run(["systemctl", "stop", SERVICE], check=True)


def test_systemd_is_process_1_and_cgroups_are_v2() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert (ROOT / "cgroup.controllers").exists()


def test_a_containers_scope_has_its_name_and_image_and_the_kernels_values(
    scope: str, agent: AgentProcess
) -> None:
    agent.wait_for(lambda page: page.name_of(scope) == "till")
    page = check(agent, scope, lambda: kernel_says(scope) | kernel_says_more(scope))
    assert page.identities(scope) == {frozenset({("id", scope), ("name", "till"), ("image", IMAGE)})}
    assert page.value("container_spec_memory_limit_bytes", id=scope) == 64 * MEBIBYTE
    assert page.value("container_spec_memory_reservation_limit_bytes", id=scope) == 32 * MEBIBYTE
    period = page.value("container_spec_cpu_period", id=scope)
    assert page.value("container_spec_cpu_quota", id=scope) == period / 2
    assert page.value("container_threads_max", id=scope) == 50
    assert page.value("container_memory_cache", id=scope) == pytest.approx(16 * MEBIBYTE, abs=MEBIBYTE)
    assert page.value("container_memory_rss", id=scope) >= 6_000_000


def test_a_service_is_shown_as_a_unit_with_its_limits_and_the_kernels_values(
    service: str, agent: AgentProcess
) -> None:
    page = check(agent, service, lambda: kernel_says(service) | kernel_says_more(service))
    assert page.identities(service) == {frozenset({("id", service)})}
    assert page.value("container_spec_memory_limit_bytes", id=service) == 64 * MEBIBYTE
    assert page.value("container_threads_max", id=service) == 20
    period = page.value("container_spec_cpu_period", id=service)
    assert page.value("container_spec_cpu_quota", id=service) == period / 2


def test_a_limit_that_systemd_changes_is_on_the_page(service: str, agent: AgentProcess) -> None:
    agent.page_after(time.time())
    subprocess.run(["systemctl", "set-property", "--runtime", SERVICE, "MemoryMax=96M"], check=True)
    agent.wait_for(
        lambda page: page.value("container_spec_memory_limit_bytes", id=service) == 96 * MEBIBYTE,
        deadline_seconds=45,  # nobody tells of it, and settings are read again each half minute
    )


def test_every_cgroup_but_those_of_mounts_is_shown(scope: str, service: str, agent: AgentProcess) -> None:
    page = agent.page_after(time.time())
    found = {f"/{place.relative_to(ROOT)}" for place in ROOT.rglob("*") if place.is_dir()}
    mounts = {path for path in found if path.endswith(".mount")}
    assert mounts, "systemd makes a cgroup for each mount unit that it mounts"
    shown = {labels["id"] for labels, _ in page.find("container_last_seen")}
    assert shown == (found - mounts) | {"/"}
    assert {scope, service, "/system.slice/docker.service", "/system.slice", "/init.scope"} <= shown
    assert page.value("cgwatch_containers", kind="container", runtime="docker") == 1
    units = {path for path in found if path.endswith(UNITS)} - {scope}
    assert page.value("cgwatch_containers", kind="unit", runtime="systemd") == len(units)


def test_a_slice_counts_all_that_is_below_it(scope: str, agent: AgentProcess) -> None:
    page = agent.page_after(time.time())
    whole = page.value("container_memory_usage_bytes", id="/system.slice")
    assert whole >= page.value("container_memory_usage_bytes", id=scope)
    below = [
        value
        for labels, value in page.find("container_processes")
        if re.fullmatch(r"/system\.slice/[^/]+", labels["id"])
    ]
    assert page.value("container_processes", id="/system.slice") == sum(below)


def test_nothing_that_the_agent_read_was_unreadable_or_missing(agent: AgentProcess) -> None:
    assert "# TYPE cgwatch_read_failures" in agent.get()
    assert agent.page().find("cgwatch_read_failures_total") == [], agent.log
