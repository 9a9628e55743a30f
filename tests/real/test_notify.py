"""Real OOM kills, agents and receivers: whoever is to be told is told, whatever happens in between."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notify.alertmanager import Alertmanager
from tests.notify.receiver import Receiver, hangs, status
from tests.oom.hogs import MEGABYTE, Hogs
from tests.real.agent_process import AgentProcess

pytestmark = pytest.mark.real

LIMIT_BYTES = 16 * MEGABYTE
NO_DOCKER = "unix:///nonexistent/docker.sock"
RECEIVERS = {
    "CGWATCH_NOTIFY_NODE": "node-1",
    "CGWATCH_NOTIFY_OOM_AFTER": "1s",
    "CGWATCH_NOTIFY_RETRY_FIRST": "100ms",
    "CGWATCH_NOTIFY_RETRY_LONGEST": "500ms",
}


def agent_of(state_dir: Path, **environment: str) -> AgentProcess:
    return AgentProcess(
        NO_DOCKER,
        interval="500ms",
        state_dir=str(state_dir),
        environment=RECEIVERS | {f"CGWATCH_NOTIFY_{name}": value for name, value in environment.items()},
    )


@pytest.fixture
def hogs() -> Iterator[Hogs]:
    found = Hogs()
    yield found
    found.close()


def test_a_kill_reaches_a_webhook_and_alertmanager_with_its_cause_and_is_resolved(
    hogs: Hogs, tmp_path: Path
) -> None:
    path = hogs.make("told", LIMIT_BYTES)
    secret = tmp_path / "secret"
    secret.write_text("a secret\n")
    with (
        Receiver() as webhook,
        Receiver() as pager,
        Alertmanager(tmp_path / "alertmanager", pager.url) as alertmanager,
        agent_of(
            tmp_path / "state",
            WEBHOOK_URLS=webhook.url,
            WEBHOOK_SECRET_FILE=str(secret),
            ALERTMANAGER_URLS=alertmanager.url,
            ALERTMANAGER_RESOLVE_AFTER="4s",
        ) as agent,
    ):
        agent.wait_for(lambda page: page.shows(path))
        killed_seconds = time.time()
        hogs.kill_in(path)

        (request,) = webhook.wait_for(bool)
        told = request.json
        assert (told["kind"], told["container"], told["node"]) == ("oom_kill", path, "node-1")
        assert told["labels"]["cause"] == "own_limit"
        assert told["title"] == f"OOM kill of {path} on node-1"
        assert "its own limit of 16MiB was hit" in told["text"]
        assert abs(told["seconds"] - killed_seconds) < 30
        signed = request.headers["X-Cgwatch-Timestamp"].encode() + b"." + request.body
        expected = hmac.new(b"a secret", signed, hashlib.sha256).hexdigest()
        assert request.headers["X-Cgwatch-Signature"] == f"sha256={expected}"

        (fired,) = pager.wait_for(bool)
        assert fired.json["status"] == "firing"
        (alert,) = fired.json["alerts"]
        assert alert["labels"] == {
            "alertname": "CgwatchOomKill",
            "severity": "warning",
            "instance": "node-1",
            "runtime": "none",
            "name": path,
            "container": path,
            "cause": "own_limit",
        }
        assert alert["annotations"]["summary"] == told["title"]
        *_, resolved = pager.wait_for(lambda requests: len(requests) > 1)
        assert resolved.json["status"] == "resolved"
        assert resolved.json["alerts"][0]["labels"] == alert["labels"]
        assert alertmanager.alerts() == []

        page = agent.page()
        for channel in ("webhook", "alertmanager"):
            labels = {"channel": channel, "result": "delivered"}
            assert page.value("cgwatch_notifications_total", **labels) == 1
            assert page.value("cgwatch_notification_queue_length", channel=channel) == 0
            succeeded = page.value("cgwatch_notification_last_success_timestamp_seconds", channel=channel)
            assert killed_seconds < succeeded <= time.time()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_was_queued_when_the_agent_was_killed_is_sent_by_the_next_one_and_only_once(
    hogs: Hogs, tmp_path: Path
) -> None:
    paths = [hogs.make(name, LIMIT_BYTES) for name in ("first", "second")]
    port = free_port()
    settings = {"WEBHOOK_URLS": f"http://127.0.0.1:{port}/told"}
    with agent_of(tmp_path, **settings) as agent:
        agent.wait_for(lambda page: all(map(page.shows, paths)))
        for path in paths:
            hogs.kill_in(path)
        agent.wait_for(
            lambda page: ({"channel": "webhook"}, 2) in page.find("cgwatch_notification_queue_length")
        )
        agent.kill()
    with Receiver(port=port) as receiver, agent_of(tmp_path, **settings) as agent:
        requests = receiver.wait_for(lambda requests: len(requests) >= 2)
        assert {request.json["container"] for request in requests} == set(paths)
        agent.wait_for(
            lambda page: ({"channel": "webhook"}, 0) in page.find("cgwatch_notification_queue_length")
        )
    with Receiver(port=port) as receiver, agent_of(tmp_path, **settings) as agent:
        agent.wait_for(lambda page: page.shows(paths[0]))
        third = hogs.make("third", LIMIT_BYTES)
        agent.wait_for(lambda page: page.shows(third))
        hogs.kill_in(third)
        receiver.wait_for(bool)
        assert [request.json["container"] for request in receiver.requests] == [third]


def test_a_kill_while_no_agent_ran_is_told_by_the_next_one(hogs: Hogs, tmp_path: Path) -> None:
    path = hogs.make("down", LIMIT_BYTES)
    with Receiver() as receiver:
        settings = {"WEBHOOK_URLS": receiver.url}
        with agent_of(tmp_path, **settings) as agent:
            agent.wait_for(lambda page: page.shows(path))
        hogs.kill_in(path)
        with agent_of(tmp_path, **settings) as agent:
            (request,) = receiver.wait_for(bool)
            assert request.json["container"] == path
            assert "while cgwatch did not run" in " ".join(request.json["facts"])


def test_a_receiver_that_hangs_holds_up_no_other_one_and_not_the_end(hogs: Hogs, tmp_path: Path) -> None:
    path = hogs.make("hangs", LIMIT_BYTES)
    with Receiver(hangs) as deaf, Receiver(status(503), status(200)) as other:
        settings = {"WEBHOOK_URLS": f"{deaf.url},{other.url}", "WEBHOOK_TIMEOUT": "1m"}
        with agent_of(tmp_path, **settings) as agent:
            agent.wait_for(lambda page: page.shows(path))
            hogs.kill_in(path)
            deaf.wait_for(bool)
            refused, taken = other.wait_for(lambda requests: len(requests) >= 2)
            assert refused.body == taken.body
            assert refused.headers["Idempotency-Key"] == taken.headers["Idempotency-Key"]
            before = agent.page().sampled_seconds
            agent.wait_for(lambda page: page.sampled_seconds > before + 1)  # the core goes on
            began = time.monotonic()
            assert agent.stop() == 0
            assert time.monotonic() - began < 2
