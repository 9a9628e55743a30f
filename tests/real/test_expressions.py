"""Expressions of kubernetes-mixin, of Docker dashboards and of alert rules, asked of a real Prometheus."""

from __future__ import annotations

import contextlib
import http.server
import json
import math
import re
import shutil
import threading
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from cgwatch.settings import KEYS
from tests.real.agent_process import AgentProcess
from tests.real.busy import NETWORK, busy_containers, disk, disk_device, no_disk
from tests.real.dockerd import IMAGE, Dockerd
from tests.real.expressions import CADVISOR, EXPRESSIONS, KUBELET, OF_THE_NODE, Expression
from tests.real.kernel_says import is_v1
from tests.real.moments import moment_with
from tests.real.needs import require
from tests.real.prometheus import Prometheus

pytestmark = pytest.mark.real

SCHEME = KEYS["metrics.scheme"]
"""The key that chooses the labels."""
RATE = "15s"
APP_CPUS = 0.01
"""What Docker allows at least: used up in each period, however busy the machine is."""
APP = 'job="cadvisor",name="k8s_app_till-0_shop_0_0"'
READY = (
    "sum(up) == 3",
    f'min(count_over_time(container_last_seen{{name!=""}}[{RATE}])) >= 4',
    f"sum(container_fs_writes_bytes_total{{{APP}}}) > 0",
    f"sum(increase(container_cpu_cfs_throttled_periods_total{{{APP}}}[{RATE}])) > 0",
)
# kube-prometheus makes a label of the path, and says which node it is.
SCRAPE = """\
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: cadvisor
    static_configs: [{{targets: ["{cadvisor}"], labels: {{node: worker}}}}]
  - job_name: kubelet
    metrics_path: /metrics/cadvisor
    honor_labels: true
    honor_timestamps: false
    relabel_configs: [{{source_labels: [__metrics_path__], target_label: metrics_path}}]
    static_configs: [{{targets: ["{kubelet}"], labels: {{node: worker}}}}]
  - job_name: kube-state-metrics
    honor_labels: true
    static_configs: [{{targets: ["{cluster}"]}}]
"""
POD = {
    "io.kubernetes.pod.name": "till-0",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": "0",
}
CLUSTER = """\
kube_pod_info{namespace="shop",pod="till-0",node="worker"} 1
kube_pod_container_resource_limits{namespace="shop",pod="till-0",container="app",resource="cpu"} 0.1
kube_pod_container_resource_limits{namespace="shop",pod="till-0",container="app",resource="memory"} 67108864
"""
WORK = """
dd if=/dev/zero of=/disk/pod bs=64k count=16 oflag=direct
dd if=/disk/pod of=/dev/null bs=64k iflag=direct
while :; do :; done
"""


class _ClusterState(http.server.BaseHTTPRequestHandler):
    """What kube-state-metrics would say of the pod."""

    def do_GET(self) -> None:
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(CLUSTER.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def cluster_state() -> Iterator[str]:
    """Serve it on the loopback, and give the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _ClusterState) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def pod(docker: Dockerd, folder: Path) -> Iterator[None]:
    """Run two containers as the kubelet has them run: one that holds the network, one that works in it."""
    labels = [f"--label={key}={value}" for key, value in POD.items()]
    device, _ = disk_device(folder)
    # v1 counts the I/O of a device from its first throttle rule on (kernel 6.9): this one holds nobody up.
    rule = (f"--device-write-bps={device}:1gb",) if is_v1() else ()
    started: list[str] = []
    try:
        name = ("--name=k8s_POD_till-0_shop_0_0", "--label=io.kubernetes.container.name=POD")
        started.append(docker.run(*labels, *name, f"--network={NETWORK}", IMAGE, "sleep", "100000"))
        name = ("--name=k8s_app_till-0_shop_0_0", "--label=io.kubernetes.container.name=app")
        limits = ("--memory=64m", f"--cpus={APP_CPUS}", f"--volume={folder}:/disk", *rule)
        shared = f"--network=container:{started[0]}"
        started.append(docker.run(*labels, *name, *limits, shared, IMAGE, "sh", "-c", WORK))
        yield
    finally:
        if started:
            docker.docker("rm", "--force", *started)


def agent_of(docker: Dockerd, scheme: str) -> AgentProcess:
    """Start an agent as those have it who ask these expressions: these groups are off by default."""
    environment = {
        "CGWATCH_METRICS_CONTAINER_LABELS": "com.docker.compose.*",
        "CGWATCH_METRICS_GROUPS_PROCESS": "true",
        "CGWATCH_METRICS_GROUPS_CPULOAD": "true",
        "CGWATCH_SAMPLING_PROCESSES_INTERVAL": "1s",
        SCHEME.environment: scheme,
    }
    return AgentProcess(docker.url, interval="1s", environment=environment)


class Asked(Struct, frozen=True):
    """A Prometheus with data, the moment to ask about, and which agent shows cAdvisor's labels."""

    prometheus: Prometheus
    moment_seconds: float
    instance: str
    shown: frozenset[str]
    """Names of the metrics that the agents show."""

    def answer(self, promql: str) -> list[float]:
        """Give the values; a failure with Prometheus's words where it does not understand the question."""
        query = promql.replace("$rate", RATE).replace(
            "$instance", re.escape(self.instance).replace("\\", "\\\\")
        )
        try:
            result = self.prometheus.api("query", query=query, time=str(self.moment_seconds))["result"]
        except urllib.error.HTTPError as error:
            with error:
                said = json.load(error)["error"]
            pytest.fail(f"{query}\n{said}", pytrace=False)
        return [float(series["value"][1]) for series in result]


@pytest.fixture(scope="module")
def asked(docker: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    require(None if shutil.which("prometheus") else "needs the Debian package prometheus")
    require(no_disk())
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        disk() as place,
        busy_containers(docker, place),
        pod(docker, place),
        agent_of(docker, CADVISOR) as plain,
        agent_of(docker, KUBELET) as kubelet,
        cluster_state() as cluster,
    ):
        addresses = [f"{host}:{port}" for host, port in (plain.address, kubelet.address)]
        prometheus = Prometheus(folder, addresses[0])
        scrape = SCRAPE.format(cadvisor=addresses[0], kubelet=addresses[1], cluster=cluster)
        (folder / "prometheus.yml").write_text(scrape)
        rules = [{"record": one.record, "expr": one.promql} for one in EXPRESSIONS if one.record]
        (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "recorded", "rules": rules}]}))
        with prometheus:
            moment = moment_with(prometheus, READY, 60)
            named = '{__name__=~"(container|machine|cadvisor)_.*"}'
            series = prometheus.api("query", query=f"count by (__name__) ({named})")["result"]
            shown = frozenset(one["metric"]["__name__"] for one in series)
            yield Asked(prometheus, moment, addresses[0], shown)


def metrics(expression: Expression) -> set[str]:
    """Give the metrics of containers and machines that an expression asks for."""
    labels = r"\{[^}]*\}|\b(by|without|on|group_left)\s*\([^)]*\)"
    rest = re.sub(labels, " ", re.sub(r'"[^"]*"', "", expression.promql))
    return set(re.findall(r"(?<![\w:])(?:container|machine|cadvisor)_\w+", rest))


def name_of(expression: Expression) -> str:
    return f"{expression.source}: {expression.promql}"


def test_prometheus_understands_every_expression(asked: Asked) -> None:
    for expression in EXPRESSIONS:
        asked.answer(expression.promql)


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=name_of)
def test_an_expression_gives_data_or_there_is_a_reason(asked: Asked, expression: Expression) -> None:
    values = asked.answer(expression.promql)
    absent = metrics(expression) - asked.shown
    assert not absent, f"the page lacks {absent}"
    is_of_node = 'id="/"' in expression.promql
    if why := [OF_THE_NODE[one] for one in metrics(expression) & OF_THE_NODE.keys() if not is_of_node]:
        assert not values, f"an answer in spite of: {why}"
    elif expression.empty:
        assert not values, f"an answer in spite of: {expression.empty}"
    else:
        assert values, "no answer"
        assert any(math.isfinite(value) for value in values), f"no number among {values}"


def test_numbers_are_those_of_the_containers(asked: Asked) -> None:
    (cpu,) = asked.answer('sum(rate(container_cpu_usage_seconds_total{job="cadvisor",name="burner"}[$rate]))')
    assert 0 < cpu < 0.3
    (share,) = asked.answer(
        'sum(container_memory_working_set_bytes{job="cadvisor",name="holder"})'
        ' / sum(container_spec_memory_limit_bytes{job="cadvisor",name="holder"})'
    )
    assert 0.5 < share < 1
