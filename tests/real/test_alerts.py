"""A container that is killed and gone before anyone scraped it: a real Alertmanager hears of it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct

from tests.prometheus.rules import CONFIG
from tests.real.agent_process import AgentProcess
from tests.real.dockerd import Dockerd
from tests.real.kills import HOG, KERNEL_SILENT_SECONDS, ended, run
from tests.real.needs import require
from tests.real.prometheus import Alertmanager, Prometheus, monitoring_available

pytestmark = pytest.mark.real

TARGETS = {"127.0.0.1:9753": "agent", "127.0.0.1:9093": "alertmanager"}
"""Who has these addresses in the examples."""


def quick(example: str, addresses: dict[str, str]) -> str:
    """Give the example of a configuration with the addresses of this test, and each second what is seldom."""
    for address, whose in TARGETS.items():
        assert address in example
        example = example.replace(address, addresses[whose])
    quicker, changed = re.subn(
        r"^(  (?:scrape|evaluation)_interval): 15s$", r"\1: 1s", example, flags=re.MULTILINE
    )
    assert changed == 2
    return quicker


class Watched(Struct, frozen=True):
    """An agent beside Docker, who scrapes it, and who is told."""

    daemon: Dockerd
    agent: AgentProcess
    prometheus: Prometheus
    alertmanager: Alertmanager

    @property
    def instance(self) -> str:
        return "{}:{}".format(*self.agent.address)

    def kill_unseen(self, name: str) -> None:
        """Have a container run, be killed and be removed while nobody scrapes."""
        with self.prometheus.paused():
            assert ended(run(self.daemon, name, HOG, "--rm")) == 137
            self.agent.page_after(time.time())


@pytest.fixture(scope="module")
def watched(docker: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    require(monitoring_available())
    folder = tmp_path_factory.mktemp("alerts")
    shutil.copytree(CONFIG / "prometheus" / "rules", folder / "rules")
    alertmanager = Alertmanager(folder, CONFIG / "alertmanager" / "alertmanager.yml")
    with AgentProcess(docker.url, interval="500ms") as agent, alertmanager:
        address = "{}:{}".format(*agent.address)
        prometheus = Prometheus(folder, address)
        addresses = {"agent": address, "alertmanager": alertmanager.address}
        prometheus.config.write_text(quick((CONFIG / "prometheus" / "prometheus.yml").read_text(), addresses))
        with prometheus:
            prometheus.wait_for("cgwatch_oom_node_kills_total")
            # Whose limit it was the kernel says ten times in five seconds, whoever asks.
            time.sleep(KERNEL_SILENT_SECONDS)
            yield Watched(docker, agent, prometheus, alertmanager)


def is_active(alert: dict[str, Any]) -> bool:
    return bool(alert["status"]["state"] == "active")


def is_suppressed(alert: dict[str, Any]) -> bool:
    return bool(alert["status"]["state"] == "suppressed")


def test_a_container_that_was_killed_and_removed_between_two_scrapes_makes_its_alert_fire(
    watched: Watched,
) -> None:
    watched.kill_unseen("unseen")
    alert = watched.alertmanager.wait_for(is_active, alertname="ContainerOomKilled", name="unseen")

    assert watched.prometheus.query('count_over_time({id!="", name="unseen"}[1h])') == {}, "it was scraped"
    assert alert["labels"] == {
        "alertname": "ContainerOomKilled",
        "severity": "warning",
        "cluster": "example",
        "job": "cadvisor",
        "instance": watched.instance,
        "runtime": "docker",
        "name": "unseen",
        "container": "unseen",
        "cause": "own_limit",
        "scope": alert["labels"]["scope"],
    }
    assert alert["labels"]["scope"] in {"main", "unknown"}, "nobody saw its first process"
    assert alert["annotations"]["summary"] == f"unseen was killed for memory on {watched.instance}"
    assert "`cgwatch oom explain NUMBER`" in alert["annotations"]["description"]
    assert [receiver["name"] for receiver in alert["receivers"]] == ["team"]
    assert watched.alertmanager.alerts(alertname="ContainerOomLoop") == []


def test_one_that_is_killed_again_and_again_is_one_alert_that_silences_the_others(watched: Watched) -> None:
    last: dict[str, float] = {}
    for _ in range(3):
        watched.kill_unseen("again")
        kills = 'cgwatch_oom_last_kill_timestamp_seconds{name="again"}'
        last = watched.prometheus.wait_for(f"{kills} > {last.get('again', 0)}", 60)
    alert = watched.alertmanager.wait_for(is_active, alertname="ContainerOomLoop", name="again")

    assert [receiver["name"] for receiver in alert["receivers"]] == ["duty"]
    watched.alertmanager.wait_for(is_suppressed, alertname="ContainerOomKilled", name="again")
    # That the test's Prometheus stood still is no fault of the agent's.
    blind = watched.alertmanager.alerts(alertname="CgwatchBlind")
    assert {alert["labels"]["reason"] for alert in blind} <= {"late"}
