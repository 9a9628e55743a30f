"""Real containers with known limits and known work, against the kernel's own files and Docker's own numbers.

The same file runs natively (v1, or what this machine has) and, through test_uml.py, on pure v2.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.real import busy as containers
from tests.real.agent_process import AgentProcess, Page
from tests.real.busy import MEBIBYTE, Busy, ByHand, busy_containers, container_by_hand, disk, disk_device
from tests.real.checked import MEMORY_TOLERANCE_BYTES, check
from tests.real.dockerd import IMAGE, Dockerd, inside_uml
from tests.real.kernel_says import Says, is_v1, kernel_says, network_says
from tests.real.kernel_says_more import kernel_says_more
from tests.real.needs import require

pytestmark = pytest.mark.real

INTERVAL = "500ms" if inside_uml() else "200ms"
ANON_SLACK_BYTES = 4 * MEBIBYTE
"""What the shells and sleeps of a container need besides what it holds."""
CPU_TOLERANCE_CORES = 0.03
"""Quotas are refilled each 100 ms, so of a second up to a tenth (0.01 cores) falls into the next; as much
again for the two samples that docker stats takes by itself, and for the clock of a busy machine."""
PERIODS_TOLERANCE = 2
"""One period that has just begun at either end."""
BINARY_DIGITS = 5e-4
"""docker stats shows memory with four digits."""
DECIMAL_DIGITS = 5e-3
"""docker stats shows I/O with three digits."""
CLOCK_SECONDS = 0.05
"""Kernel time stamps of files are those of the last timer tick: 4 to 10 ms old."""
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
NAMES = ("holder", "burner", "writer", "joined", "host")


@pytest.fixture(scope="module")
def folder(root: None) -> Iterator[Path]:  # noqa: ARG001 - asked for first
    require(containers.no_disk())
    with disk() as place:
        yield place


@pytest.fixture(scope="module")
def busy(docker: Dockerd, folder: Path) -> Iterator[Busy]:
    with busy_containers(docker, folder) as found:
        yield found


@pytest.fixture(scope="module")
def by_hand(root: None) -> Iterator[ByHand]:  # noqa: ARG001 - asked for first
    with container_by_hand() as made:
        yield made


@pytest.fixture(scope="module")
def agent(docker: Dockerd) -> Iterator[AgentProcess]:
    labels = {
        "CGWATCH_METRICS_CONTAINER_LABELS": "com.docker.compose.*",
        # Of a group that is off by default.
        "CGWATCH_METRICS_INCLUDE": "container_processes,container_threads*",
    }
    with AgentProcess(docker.url, interval=INTERVAL, environment=labels) as process:
        yield process


def says(busy: Busy, name: str) -> Callable[[], Says]:
    pid = busy.inspect(name, ".State.Pid")
    # Who shares a network namespace shows nothing of it: neither joined nor host.
    network = name not in ("joined", "host")
    cgroup = busy.cgroup(name)
    return lambda: kernel_says(cgroup) | kernel_says_more(cgroup) | (network_says(pid) if network else {})


@pytest.mark.parametrize("name", NAMES)
def test_every_series_of_a_container_is_what_the_kernel_files_say(
    busy: Busy, agent: AgentProcess, name: str
) -> None:
    # What Docker was asked for, such as shares, shows from when it was told.
    agent.wait_for(lambda page: page.name_of(busy.cgroup(name)) != "")
    check(agent, busy.cgroup(name), says(busy, name))


@pytest.mark.parametrize("name", NAMES)
def test_every_series_of_a_container_says_its_name_image_and_allowed_labels(
    busy: Busy, agent: AgentProcess, name: str
) -> None:
    cgroup = busy.cgroup(name)
    page = agent.wait_for(lambda page: page.name_of(cgroup) != "")
    labels = {"id": cgroup, "name": name, "image": IMAGE}
    if name == "holder":
        labels["container_label_com_docker_compose_project"] = "shop"
        labels["container_label_com_docker_compose_service"] = "till"
    assert page.identities(cgroup) == {frozenset(labels.items())}


@pytest.mark.parametrize("name", NAMES)
def test_creation_and_start_are_those_of_docker_inspect(busy: Busy, agent: AgentProcess, name: str) -> None:
    cgroup = busy.cgroup(name)
    page = agent.wait_for(lambda page: page.name_of(cgroup) != "")
    for series, template in (
        ("container_creation_time_seconds", ".Created"),
        ("container_start_time_seconds", ".State.StartedAt"),
    ):
        said = re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", busy.inspect(name, template))
        expected = datetime.fromisoformat(said).timestamp()
        assert page.value(series, id=cgroup) == pytest.approx(expected, abs=1e-3, rel=0)


def test_memory_that_is_held_is_on_the_page(busy: Busy, agent: AgentProcess) -> None:
    page, cgroup = agent.page_after(time.time()), busy.cgroup("holder")
    cache = page.value("container_memory_cache", id=cgroup)
    anon = page.value("container_memory_rss", id=cgroup)
    usage = page.value("container_memory_usage_bytes", id=cgroup)
    assert cache == pytest.approx(containers.SHM_BYTES, abs=MEBIBYTE)
    assert containers.ANON_BYTES <= anon <= containers.ANON_BYTES * 3 + ANON_SLACK_BYTES
    assert cache + anon <= usage <= containers.LIMIT_BYTES
    assert (
        page.value("container_memory_working_set_bytes", id=cgroup) >= cache + anon - MEMORY_TOLERANCE_BYTES
    )
    assert page.value("container_memory_max_usage_bytes", id=cgroup) >= usage


def test_limits_are_those_that_docker_was_asked_for(busy: Busy, agent: AgentProcess) -> None:
    cgroup = busy.cgroup("holder")
    page = agent.wait_for(lambda page: page.name_of(cgroup) != "")  # then it knows what Docker was asked for
    assert page.value("container_spec_memory_limit_bytes", id=cgroup) == containers.LIMIT_BYTES
    # v1 counts memory and swap together, v2 swap alone; 0 would be no limit, as on cAdvisor's pages.
    swap = containers.LIMIT_BYTES if is_v1() else 0
    assert [value for _, value in page.find("container_spec_memory_swap_limit_bytes", id=cgroup)] in (
        [swap],
        [],
    )
    assert page.value("container_spec_memory_reservation_limit_bytes", id=cgroup) == 32 * MEBIBYTE
    assert page.value("container_spec_cpu_shares", id=cgroup) == 512
    assert page.value("container_threads_max", id=cgroup) == 50
    assert page.value("container_threads", id=cgroup) == containers.SLEEPERS + 1
    assert page.value("container_processes", id=cgroup) == containers.SLEEPERS + 1
    burner = busy.cgroup("burner")
    period = page.value("container_spec_cpu_period", id=burner)
    assert page.value("container_spec_cpu_quota", id=burner) == containers.BURNER_CPUS * period


def test_a_limit_that_docker_updates_is_on_the_page_of_a_running_container(
    busy: Busy, agent: AgentProcess
) -> None:
    cgroup = busy.cgroup("joined")
    busy.docker.docker("update", "--memory=48m", "--memory-swap=48m", busy.ids["joined"])
    agent.wait_for(
        lambda page: page.value("container_spec_memory_limit_bytes", id=cgroup) == 48 * MEBIBYTE, 5
    )


def test_cpu_time_under_a_quota_is_used_and_throttled(busy: Busy, agent: AgentProcess) -> None:
    cgroup = busy.cgroup("burner")
    first = agent.page_after(time.time())
    second = agent.page_after(first.sampled_seconds + 2)
    seconds = second.sampled_seconds - first.sampled_seconds

    def more(name: str) -> float:
        before, after = (sum(v for _, v in page.find(name, id=cgroup)) for page in (first, second))
        return after - before

    used = more("container_cpu_usage_seconds_total") / seconds
    assert used == pytest.approx(containers.BURNER_CPUS, abs=CPU_TOLERANCE_CORES)
    periods = more("container_cpu_cfs_periods_total")
    assert periods == pytest.approx(seconds / 0.1, abs=PERIODS_TOLERANCE)
    assert periods - PERIODS_TOLERANCE <= more("container_cpu_cfs_throttled_periods_total") <= periods
    # Two loops that want all of each period and get a part of it, wait for the rest (summed over CPUs).
    cpus = min(2, os.cpu_count() or 1)
    waited = more("container_cpu_cfs_throttled_seconds_total")
    assert 0 < waited <= seconds * cpus


def test_bytes_to_and_from_a_real_disk_are_counted_for_its_device(
    busy: Busy, agent: AgentProcess, folder: Path
) -> None:
    page, cgroup = agent.page_after(time.time()), busy.cgroup("writer")
    path, numbers = disk_device(folder)
    written = page.value("container_fs_writes_bytes_total", id=cgroup, device=path)
    # The page cache writes back in its own name on v1, unless fsync does it; and a journal is extra.
    most = (containers.DIRECT_BYTES + containers.BUFFERED_BYTES) * 1.1
    assert containers.DIRECT_BYTES <= written <= most
    if not is_v1():
        assert written >= containers.DIRECT_BYTES + containers.BUFFERED_BYTES
    assert page.value("container_fs_reads_bytes_total", id=cgroup, device=path) >= containers.DIRECT_BYTES
    assert page.value("container_fs_writes_total", id=cgroup, device=path) >= containers.DIRECT_BYTES // 65536
    major, minor = numbers.split(":")
    by_operation = {"device": path, "major": major, "minor": minor, "operation": "Write"}
    assert page.value("container_blkio_device_usage_total", id=cgroup, **by_operation) == written


def test_page_cache_that_runs_into_the_limit_is_reclaimed_and_counted(
    busy: Busy, agent: AgentProcess
) -> None:
    page, cgroup = agent.page_after(time.time()), busy.cgroup("writer")
    assert page.value("container_memory_failcnt", id=cgroup) > 0
    assert page.value("container_memory_usage_bytes", id=cgroup) <= containers.WRITER_LIMIT_BYTES
    peak = page.value("container_memory_max_usage_bytes", id=cgroup)
    # A file system asks for several pages at once, and reclaims before it gets the last of them.
    assert 0.75 * containers.WRITER_LIMIT_BYTES <= peak <= containers.WRITER_LIMIT_BYTES
    if not is_v1():
        assert page.value("container_memory_pgsteal_total", id=cgroup) > 0


def test_pressure_is_that_of_the_unified_hierarchy(busy: Busy, agent: AgentProcess) -> None:
    require(None if Path("/proc/pressure/cpu").exists() else "needs pressure stall information")
    cgroup = busy.cgroup("burner")
    page = check(agent, cgroup, says(busy, "burner"))
    assert page.value("container_pressure_cpu_waiting_seconds_total", id=cgroup) > 0
    assert {name for name, _ in page.of(cgroup) if "pressure" in name} == {
        f"container_pressure_{resource}_{word}_seconds_total"
        for resource in ("cpu", "memory", "io")
        for word in ("waiting", "stalled")
    }


def test_a_shared_network_namespace_is_counted_once(busy: Busy, agent: AgentProcess) -> None:
    said = network_says(busy.inspect("joined", ".State.Pid"))
    series = ("container_network_receive_bytes_total", frozenset({("interface", "eth0")}))
    assert said[series] > 0
    page = agent.page_after(time.time())
    ((labels, value),) = [
        found
        for found in page.find("container_network_receive_bytes_total", interface="eth0")
        if found[0]["id"] in (busy.cgroup("holder"), busy.cgroup("joined"))
    ]
    assert labels["id"] == busy.cgroup("holder")
    assert said[series] <= value <= network_says(busy.inspect("holder", ".State.Pid"))[series]


def test_the_root_alone_has_the_network_of_the_host(busy: Busy, agent: AgentProcess) -> None:
    before = network_says(1)
    page = agent.page_after(time.time())
    after = network_says(1)
    shown = {key: value for key, value in page.of("/").items() if key[0].startswith("container_network_")}
    assert before, "no interface to count"
    assert shown.keys() == before.keys() == after.keys()
    assert all(before[key] <= value <= after[key] for key, value in shown.items())
    assert page.find("container_network_receive_bytes_total", id=busy.cgroup("host")) == []


def test_docker_stats_agrees(busy: Busy, agent: AgentProcess) -> None:
    names = ("holder", "writer", "burner")
    identities = [busy.ids[name] for name in names]
    first = agent.page_after(time.time())
    lines = busy.docker.docker("stats", "--no-stream", "--no-trunc", "--format={{json .}}", *identities)
    page = agent.page_after(time.time())
    stats = {said["Name"]: said for said in map(json.loads, lines.splitlines())}
    assert stats.keys() == set(names)

    def total(page: Page, series: str, name: str, **labels: str) -> float:
        return sum(value for _, value in page.find(series, id=busy.cgroup(name), **labels))

    def between(series: str, name: str, word: float, **labels: str) -> None:
        low, high = (total(one, series, name, **labels) for one in (first, page))
        assert low * (1 - DECIMAL_DIGITS) <= word <= high * (1 + DECIMAL_DIGITS), (name, series, labels)

    for name, said in stats.items():
        used, limit = amounts(said["MemUsage"])
        # docker takes the inactive page cache off, as the kubelet does for the working set.
        working_set = total(page, "container_memory_working_set_bytes", name)
        assert working_set == pytest.approx(used, rel=BINARY_DIGITS, abs=MEMORY_TOLERANCE_BYTES)
        if name != "burner":
            page_limit = total(page, "container_spec_memory_limit_bytes", name)
            assert page_limit == pytest.approx(limit, rel=BINARY_DIGITS)
        assert total(page, "container_threads", name) == int(said["PIDs"])
        for word, operation in zip(amounts(said["BlockIO"]), ("Read", "Write"), strict=True):
            between("container_blkio_device_usage_total", name, word, operation=operation)
        for word, direction in zip(amounts(said["NetIO"]), ("receive", "transmit"), strict=True):
            between(f"container_network_{direction}_bytes_total", name, word)
    assert amounts(stats["writer"]["BlockIO"])[1] > 0
    assert amounts(stats["holder"]["NetIO"])[1] > 0
    spent = [total(one, "container_cpu_usage_seconds_total", "burner") for one in (first, page)]
    rate = (spent[1] - spent[0]) / (page.sampled_seconds - first.sampled_seconds)
    percent = float(stats["burner"]["CPUPerc"].removesuffix("%"))
    assert rate == pytest.approx(percent / 100, abs=CPU_TOLERANCE_CORES)


def amounts(text: str) -> list[float]:
    """Read ``40.5MiB / 64MiB``."""
    found = [re.fullmatch(r"([0-9.]+)([A-Za-z]+)", part) for part in text.split(" / ")]
    return [float(match[1]) * UNITS[match[2]] for match in found if match]


def test_a_container_that_no_runtime_made_is_sampled_like_any_other(
    by_hand: ByHand, agent: AgentProcess
) -> None:
    cgroup = by_hand.cgroup
    page = check(
        agent, cgroup, lambda: kernel_says(cgroup) | kernel_says_more(cgroup) | network_says(by_hand.pid)
    )
    assert page.identities(by_hand.cgroup) == {frozenset({("id", by_hand.cgroup)})}
    created = page.value("container_creation_time_seconds", id=by_hand.cgroup)
    assert by_hand.made_seconds - CLOCK_SECONDS <= created <= by_hand.made_seconds + 1
    assert page.value("container_spec_memory_limit_bytes", id=by_hand.cgroup) == containers.LIMIT_BYTES
    assert page.value("container_spec_cpu_quota", id=by_hand.cgroup) == 50_000
    assert page.value("container_memory_rss", id=by_hand.cgroup) >= containers.ANON_BYTES
    assert page.value("container_processes", id=by_hand.cgroup) == 1
    sent = page.value("container_network_transmit_packets_total", id=by_hand.cgroup, interface="eth0")
    assert sent > 0


def health(page: Page, cgroup: str) -> float:
    return page.value("container_health_state", id=cgroup)


def test_health_is_that_of_the_health_check(docker: Dockerd, agent: AgentProcess) -> None:
    checks = ("--health-cmd=test -e /well", "--health-interval=1s", "--health-retries=1")
    container = docker.run(*checks, IMAGE, "sleep", "100000")
    try:
        cgroup = f"/docker/{container}"
        agent.page_after(time.time())
        agent.wait_for(lambda page: health(page, cgroup) == 0)
        docker.docker("exec", container, "touch", "/well")
        agent.wait_for(lambda page: health(page, cgroup) == 1)
        docker.docker("exec", container, "rm", "/well")
        agent.wait_for(lambda page: health(page, cgroup) == 0)
    finally:
        docker.docker("rm", "--force", container)


def test_a_container_without_a_health_check_has_the_state_minus_one(busy: Busy, agent: AgentProcess) -> None:
    assert agent.page().value("container_health_state", id=busy.cgroup("holder")) == -1


def test_a_container_appears_and_vanishes_with_the_next_sample(docker: Dockerd, agent: AgentProcess) -> None:
    container = docker.run("--name=passing", IMAGE, "sleep", "100000")
    try:
        page = agent.page_after(time.time())
        assert page.shows(f"/docker/{container}")
        assert page.value("container_last_seen", id=f"/docker/{container}") == int(page.sampled_seconds)
        agent.wait_for(lambda page: page.name_of(f"/docker/{container}") == "passing")
        docker.docker("rename", "passing", "renamed")
        agent.wait_for(lambda page: page.name_of(f"/docker/{container}") == "renamed", 5)
        docker.docker("kill", container)
        assert not agent.page_after(time.time()).shows(f"/docker/{container}")
    finally:
        docker.docker("rm", "--force", container)


def test_a_container_that_is_started_again_is_shown_again_with_its_name(
    docker: Dockerd, agent: AgentProcess
) -> None:
    container = docker.run("--name=again", IMAGE, "sleep", "100000")
    try:
        cgroup = f"/docker/{container}"
        first = agent.wait_for(lambda page: page.name_of(cgroup) == "again")
        docker.docker("restart", "--time=0", container)
        page = agent.page_after(time.time())
        assert page.shows(cgroup)
        started = first.value("container_start_time_seconds", id=cgroup)
        agent.wait_for(
            lambda page: (
                page.name_of(cgroup) == "again"
                and page.value("container_start_time_seconds", id=cgroup) > started
            )
        )
    finally:
        docker.docker("rm", "--force", container)


def test_nothing_that_the_agent_read_was_unreadable_or_missing(
    busy: Busy, by_hand: ByHand, agent: AgentProcess
) -> None:
    page = agent.page_after(time.time())
    assert page.shows(busy.cgroup("holder"))
    assert page.shows(by_hand.cgroup)
    assert "# TYPE cgwatch_read_failures" in agent.get()
    assert page.find("cgwatch_read_failures_total") == [], agent.log
