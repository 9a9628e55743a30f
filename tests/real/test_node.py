"""The node's own numbers on the page of a live agent, against what the machine says by other ways."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.agent_process import AgentProcess, Page
from tests.real.needs import require

pytestmark = pytest.mark.real

FAMILIES = (
    *("container_fs_usage_bytes", "container_fs_limit_bytes"),
    *("container_fs_inodes_total", "container_fs_inodes_free"),
    *("machine_pressure_cpu_waiting_seconds_total", "machine_pressure_memory_stalled_ratio"),
    *("machine_thread_siblings_count", "machine_memory_bytes", "machine_node_memory_capacity_bytes"),
    *("machine_cpu_cores", "cgwatch_last_sample_timestamp_seconds", "cgwatch_read_failures_total"),
)


class Agent(AgentProcess):
    """The agent, asked for these families alone."""

    def page(self) -> Page:
        """Scrape once."""
        return Page(self.get("/metrics?" + "&".join(f"name[]={family}" for family in FAMILIES)))


@pytest.fixture(scope="module")
def agent(root: None) -> Iterator[Agent]:  # noqa: ARG001 - asked for first
    groups = {
        "CGWATCH_DISCOVERY_DOCKER_ENABLED": "false",
        "CGWATCH_METRICS_GROUPS_CPU_TOPOLOGY": "true",
        "CGWATCH_METRICS_GROUPS_PRESSURE_AVERAGE": "true",
    }
    with Agent("unix:///nonexistent", environment=groups) as process:
        yield process


def df(what: str) -> dict[str, int]:
    """Give what df says of each file system of a disk, by its device."""
    done = subprocess.run(
        ["df", "--local", "--block-size=1", f"--output=source,{what}"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return {source: int(value) for source, value in rows if source.startswith("/dev/")}


def test_disks_are_as_full_as_df_says(agent: Agent) -> None:
    expected = df("size")
    require(None if expected else "needs a file system on a block device")
    page = agent.page()
    shown = {labels["device"]: value for labels, value in page.find("container_fs_limit_bytes", id="/")}
    assert expected.items() <= shown.items()
    assert (
        df("itotal").items()
        <= {
            labels["device"]: value for labels, value in page.find("container_fs_inodes_total", id="/")
        }.items()
    )
    for device, used in df("used").items():
        # Others write to it meanwhile, and it is asked once a minute.
        assert page.value("container_fs_usage_bytes", device=device) == pytest.approx(used, rel=0.2)


def test_only_the_root_has_file_systems_and_each_of_them_once(agent: Agent) -> None:
    found = agent.page().find("container_fs_usage_bytes")
    devices = [labels["device"] for labels, _ in found]
    assert {labels["id"] for labels, _ in found} == {"/"}
    assert len(devices) == len(set(devices))
    assert not any(device.startswith(("overlay", "proc")) for device in devices)


def test_pressure_of_the_node_is_that_of_the_kernel(agent: Agent) -> None:
    file = Path("/proc/pressure/cpu")
    require(None if file.exists() else "needs pressure stall information")

    def said() -> float:
        return int(file.read_text().split()[4].removeprefix("total=")) / 1e6

    before = said()
    page = agent.page_after(time.time())
    assert before <= page.value("machine_pressure_cpu_waiting_seconds_total") <= said()
    windows = {labels["window"] for labels, _ in page.find("machine_pressure_memory_stalled_ratio")}
    assert windows == {"10s", "60s", "300s"}


def test_every_cpu_is_a_thread_of_some_core_and_every_node_has_its_memory(agent: Agent) -> None:
    page = agent.page()
    threads = page.find("machine_thread_siblings_count")
    require(None if threads else "needs the topology of the CPUs in sysfs")
    assert len(threads) == page.value("machine_cpu_cores") == os.cpu_count()
    nodes = {labels["node_id"]: value for labels, value in page.find("machine_node_memory_capacity_bytes")}
    files = Path("/sys/devices/system/node").glob("node*/meminfo")
    words = [re.search(r"Node (\d+) MemTotal: +(\d+) kB", file.read_text()) for file in files]
    assert nodes == {word[1]: int(word[2]) * 1024 for word in words if word}


def test_nothing_of_it_was_unreadable(agent: Agent) -> None:
    assert agent.page().find("cgwatch_read_failures_total") == [], agent.log
