"""A real Prometheus scrapes a live agent, and answers the queries of cAdvisor's users."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.real.agent_process import STOP_SECONDS, AgentProcess
from tests.real.dockerd import IMAGE, Dockerd
from tests.real.kernel_says import kernel_says
from tests.real.needs import require
from tests.real.prometheus import Prometheus

pytestmark = pytest.mark.real

BURNER_CPUS = 0.2
RATE_TOLERANCE_CORES = 0.08
"""Scrapes and samples are each a second apart and not in step, so a rate over 5 s may have the time of 6;
and an extrapolation adds as much again."""
TYPES = {
    "container_cpu_usage_seconds_total": "counter",
    "container_memory_failures_total": "counter",
    "container_memory_working_set_bytes": "gauge",
    "container_last_seen": "gauge",
    "container_spec_memory_limit_bytes": "gauge",
    "machine_memory_bytes": "gauge",
    "cgwatch_missed_ticks_total": "counter",
    "cgwatch_sample_duration_seconds": "histogram",
    # OpenMetrics has no counter without _total.
    "container_memory_failcnt": "unknown",
}


@pytest.fixture(scope="module")
def scraped(docker: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    require(None if shutil.which("prometheus") else "needs the Debian package prometheus")
    label = "--label=com.docker.compose.service=till"
    burner = docker.run(
        "--name=scraped",
        label,
        "--memory=64m",
        f"--cpus={BURNER_CPUS}",
        IMAGE,
        "sh",
        "-c",
        "while :; do :; done",
    )
    try:
        labels = {"CGWATCH_METRICS_CONTAINER_LABELS": "com.docker.compose.*"}
        with AgentProcess(docker.url, interval="1s", environment=labels) as agent:
            host, port = agent.address
            with Prometheus(tmp_path_factory.mktemp("prometheus"), f"{host}:{port}") as prometheus:
                prometheus.wait_for(
                    'rate(container_cpu_usage_seconds_total{job="cgwatch",name="scraped"}[5s]) > 0.1'
                )
                yield prometheus
    finally:
        docker.docker("rm", "--force", burner)


@pytest.mark.parametrize("job", ["cgwatch", "cadvisor"])
def test_prometheus_scrapes_without_an_error_or_a_warning(scraped: Prometheus, job: str) -> None:
    (target,) = [found for found in scraped.api("targets")["activeTargets"] if found["labels"]["job"] == job]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert min(scraped.query(f'min_over_time(up{{job="{job}"}}[1m])').values()) == 1
    complaints = re.findall(r"^.*level=(?:warn|error).*$", scraped.log, re.MULTILINE)
    assert complaints == []


@pytest.mark.parametrize("job", ["cgwatch", "cadvisor"])
def test_every_sample_of_the_page_is_stored(scraped: Prometheus, job: str) -> None:
    lost = f'scrape_samples_scraped{{job="{job}"}} - scrape_samples_post_metric_relabeling{{job="{job}"}}'
    assert scraped.query(lost) == {"": 0}
    assert scraped.query(f'scrape_samples_scraped{{job="{job}"}}')[""] > 50


@pytest.mark.parametrize("job", ["cgwatch", "cadvisor"])
def test_queries_of_cadvisor_users_give_data(scraped: Prometheus, job: str) -> None:
    where = f'job="{job}"'
    assert scraped.query(f"count(container_last_seen{{{where}}})")[""] >= 2
    usage = f'container_cpu_usage_seconds_total{{{where},image!=""}}'
    rates = scraped.query(f"sum by (name) (rate({usage}[5s]))")
    assert 0 < rates["scraped"] <= BURNER_CPUS + RATE_TOLERANCE_CORES
    used = f'container_memory_working_set_bytes{{{where},image!="",name!=""}}'
    limit = f"container_spec_memory_limit_bytes{{{where}}}"
    shares = scraped.query(f"sum by (name) ({used}) / sum by (name) ({limit} > 0)")
    assert 0 < shares["scraped"] < 1
    by_label = f'container_last_seen{{{where},container_label_com_docker_compose_service="till"}}'
    assert set(scraped.query(by_label)) == {"scraped"}
    assert abs(scraped.query(f"time() - {by_label}")["scraped"]) < 5
    assert scraped.query(f'container_memory_rss{{{where},id="/"}}')[""] > 0


@pytest.mark.parametrize("job", ["cgwatch", "cadvisor"])
def test_cpu_time_in_prometheus_is_that_of_the_kernel(scraped: Prometheus, job: str) -> None:
    (cgroup,) = {
        series["metric"]["id"]
        for series in scraped.api("query", query='container_last_seen{name="scraped"}')["result"]
    }

    def spent() -> float:
        said = kernel_says(cgroup)
        return sum(value for (name, _), value in said.items() if name == "container_cpu_usage_seconds_total")

    usage = f'sum by (name) (container_cpu_usage_seconds_total{{job="{job}",name="scraped"}})'
    stored = scraped.wait_for(f"{usage} >= {spent()}")
    assert stored["scraped"] <= spent()


def test_prometheus_learns_types_and_helps(scraped: Prometheus) -> None:
    for name, kind in TYPES.items():
        family = name.removesuffix("_total") if kind == "counter" else name
        found = scraped.api("targets/metadata", metric=family, match_target='{job="cgwatch"}')
        # OpenMetrics, which Prometheus asks for first, names a counter's family without its _total.
        assert [said["type"] for said in found] == [kind], name
        assert found[0]["help"], name


def test_cadvisors_own_path_has_the_containers_and_prometheus_text_has_types_too(docker: Dockerd) -> None:
    with AgentProcess(docker.url, interval="1s") as agent:
        text = agent.get("/metrics/cadvisor", accept="text/plain")
        assert "# TYPE container_cpu_usage_seconds_total counter\n" in text
        assert "# TYPE container_memory_failcnt counter\n" in text
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        # It dislikes names that are cAdvisor's; what does not parse is another matter.
        assert "error while linting" not in done.stderr, done.stderr


def test_sigterm_ends_the_agent_with_status_0_at_once(docker: Dockerd) -> None:
    with AgentProcess(docker.url, interval="1s") as agent:
        began = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS


def test_sigterm_during_scrapes_ends_the_agent_with_status_0(docker: Dockerd) -> None:
    with AgentProcess(docker.url, interval="1s") as agent:
        address = agent.address
        answered = threading.Event()
        ended = threading.Event()

        def scrape() -> None:
            while not ended.is_set():
                try:
                    agent.get()
                    answered.set()
                except (OSError, http.client.HTTPException):
                    return  # it has ended in the middle of a word

        scraper = threading.Thread(target=scrape)
        scraper.start()
        # One client says half of its request, another one does not read the answer.
        with socket.create_connection(address) as half, socket.create_connection(address) as deaf:
            half.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            deaf.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
            assert answered.wait(10)
            try:
                status = agent.stop()
            finally:
                ended.set()
                scraper.join()
    assert status == 0
