"""Real OOM kills, agents and receivers: whoever is to be told is told, whatever happens in between."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cgwatch.notify.journal import Journal
from cgwatch.storage import DATABASE, Storage
from tests.notify.alertmanager import Alertmanager
from tests.notify.receiver import Receiver, Request, free_port, hangs, status
from tests.oom.hogs import MEGABYTE, Hogs
from tests.real.agent_process import AgentProcess, Page
from tests.real.dockerd import IMAGE, Dockerd

pytestmark = pytest.mark.real

LIMIT_BYTES = 16 * MEGABYTE
HOG = "tail /dev/zero"
RESULTS = "cgwatch_notifications_total"
NO_DOCKER = "unix:///nonexistent/docker.sock"
RECEIVERS = {
    "CGWATCH_NOTIFY_NODE": "node-1",
    "CGWATCH_NOTIFY_OOM_AFTER": "1s",
    "CGWATCH_NOTIFY_RETRY_FIRST": "100ms",
    "CGWATCH_NOTIFY_RETRY_LONGEST": "500ms",
}


def agent_of(state_dir: Path, docker_url: str = NO_DOCKER, **environment: str) -> AgentProcess:
    return AgentProcess(
        docker_url,
        interval="500ms",
        state_dir=str(state_dir),
        environment=RECEIVERS | {f"CGWATCH_NOTIFY_{name}": value for name, value in environment.items()},
    )


def told(receiver: Receiver, *paths: str, messages: int = 1) -> list[Request]:
    """Wait for messages of these cgroups: others of this machine may have kills of their own meanwhile."""

    def of_them(requests: list[Request]) -> list[Request]:
        return [request for request in requests if _container(request) in paths]

    return of_them(receiver.wait_for(lambda requests: len(of_them(requests)) >= messages))


def _container(request: Request) -> object:
    """Give whose kill a message is of, ours or Alertmanager's."""
    said = request.json
    return said["alerts"][0]["labels"].get("name") if "alerts" in said else said["container"]


def counted(page: Page, result: str, channel: str) -> float:
    """Give how many messages have come to this."""
    return sum(value for _, value in page.find(RESULTS, channel=channel, result=result))


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

        (request,) = told(webhook, path)
        said = request.json
        assert (said["kind"], said["node"]) == ("oom_kill", "node-1")
        # The kernel's log may be silent about the cause, if it told of other kills just before.
        assert said["labels"]["cause"] in ("own_limit", "unknown")
        assert said["title"] == f"OOM kill of {path} on node-1"
        assert "its own limit of 16MiB was hit" in said["text"]
        assert abs(said["seconds"] - killed_seconds) < 30
        signed = request.headers["X-Cgwatch-Timestamp"].encode() + b"." + request.body
        expected = hmac.new(b"a secret", signed, hashlib.sha256).hexdigest()
        assert request.headers["X-Cgwatch-Signature"] == f"sha256={expected}"

        (fired,) = told(pager, path)
        assert fired.json["status"] == "firing"
        (alert,) = fired.json["alerts"]
        assert alert["labels"] == {
            "alertname": "CgwatchOomKill",
            "severity": "warning",
            "instance": "node-1",
            "runtime": "none",
            "name": path,
            "container": path,
            "cause": said["labels"]["cause"],
        }
        assert alert["annotations"]["summary"] == said["title"]
        *_, resolved = told(pager, path, messages=2)
        assert resolved.json["status"] == "resolved"
        assert resolved.json["alerts"][0]["labels"] == alert["labels"]
        alertmanager.wait_for_alerts(0, path)

        page = agent.page()
        for channel in ("webhook", "alertmanager"):
            assert counted(page, "delivered", channel) >= 1
            assert page.find("cgwatch_notification_queue_length", channel=channel)
            succeeded = page.value("cgwatch_notification_last_success_timestamp_seconds", channel=channel)
            assert killed_seconds < succeeded <= time.time()


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
        agent.wait_for(lambda page: counted(page, "retried", "webhook") >= 2)
        agent.wait_for(lambda page: page.value("cgwatch_notification_queue_length", channel="webhook") >= 2)
        agent.kill()
    with Receiver(port=port) as receiver, agent_of(tmp_path, **settings) as agent:
        requests = told(receiver, *paths, messages=2)
        assert sorted(request.json["container"] for request in requests) == paths
        agent.wait_for(lambda page: page.value("cgwatch_notification_queue_length", channel="webhook") == 0)
    with Receiver(port=port) as receiver, agent_of(tmp_path, **settings) as agent:
        third = hogs.make("third", LIMIT_BYTES)
        agent.wait_for(lambda page: page.shows(third))
        hogs.kill_in(third)
        told(receiver, third)
        assert not {_container(request) for request in receiver.requests} & set(paths)


def test_a_kill_while_no_agent_ran_is_told_by_the_next_one(hogs: Hogs, tmp_path: Path) -> None:
    path = hogs.make("down", LIMIT_BYTES)
    with Receiver() as receiver:
        settings = {"WEBHOOK_URLS": receiver.url}
        with agent_of(tmp_path, **settings) as agent:
            agent.wait_for(lambda page: page.shows(path))
        hogs.kill_in(path)
        with agent_of(tmp_path, **settings) as agent:
            (request,) = told(receiver, path)
            assert "while cgwatch did not run" in " ".join(request.json["facts"])


def test_a_receiver_that_hangs_holds_up_no_other_one_and_not_the_end(hogs: Hogs, tmp_path: Path) -> None:
    path = hogs.make("hangs", LIMIT_BYTES)
    with Receiver(hangs) as deaf, Receiver(status(503), status(200)) as other:
        settings = {"WEBHOOK_URLS": f"{deaf.url},{other.url}", "TIMEOUT": "1m"}
        with agent_of(tmp_path, **settings) as agent:
            agent.wait_for(lambda page: page.shows(path))
            hogs.kill_in(path)
            deaf.wait_for(bool)
            told(other, path)
            first, *others = other.wait_for(lambda requests: len(requests) >= 2)
            key = first.headers["Idempotency-Key"]  # it was refused, and so comes again
            assert first.body in [each.body for each in others if each.headers["Idempotency-Key"] == key]
            before = agent.page().sampled_seconds
            agent.wait_for(lambda page: page.sampled_seconds > before + 1)  # the core goes on
            began = time.monotonic()
            assert agent.stop() == 0
            assert time.monotonic() - began < 2


def test_an_alert_that_fired_when_the_agent_was_killed_is_resolved_by_the_next_one(
    hogs: Hogs, tmp_path: Path
) -> None:
    path = hogs.make("resolved", LIMIT_BYTES)
    with Receiver() as pager, Alertmanager(tmp_path / "alertmanager", pager.url) as alertmanager:
        settings = {"ALERTMANAGER_URLS": alertmanager.url, "ALERTMANAGER_RESOLVE_AFTER": "1h"}
        with agent_of(tmp_path / "state", **settings) as agent:
            agent.wait_for(lambda page: page.shows(path))
            hogs.kill_in(path)
            alertmanager.wait_for_alerts(1, path)
            agent.wait_for(lambda page: counted(page, "delivered", "alertmanager") >= 1)
            agent.kill()
        end_in_five_seconds(tmp_path / "state")
        with agent_of(tmp_path / "state", **settings):
            fired, resolved = told(pager, path, messages=2)
            assert (fired.json["status"], resolved.json["status"]) == ("firing", "resolved")
            assert resolved.json["alerts"][0]["labels"] == fired.json["alerts"][0]["labels"]
            alertmanager.wait_for_alerts(0, path)


def end_in_five_seconds(state_dir: Path) -> None:
    """Wind the hour forward that an alert would fire: it is over in five seconds."""
    with Storage.open(str(state_dir / DATABASE)) as storage:
        journal = Journal(storage)
        (owner,) = storage.transact(
            lambda connection: connection.execute("SELECT receiver FROM alert").fetchone()
        )
        until = time.time() + 5
        alerts = [structs.replace(alert, until_seconds=until) for alert in journal.alerts(owner)]
        journal.keep_alerts(owner, alerts)


def test_an_alertmanager_that_is_down_has_the_alert_when_it_is_back(hogs: Hogs, tmp_path: Path) -> None:
    path = hogs.make("outage", LIMIT_BYTES)
    with Receiver() as pager:
        late = Alertmanager(tmp_path / "alertmanager", pager.url)
        with agent_of(tmp_path / "state", ALERTMANAGER_URLS=late.url, LOG_ENABLED="true") as agent:
            agent.wait_for(lambda page: page.shows(path))
            hogs.kill_in(path)
            agent.wait_for(lambda page: counted(page, "retried", "alertmanager") >= 2)
            agent.wait_for_log(rf'logger=cgwatch.notify.log msg="OOM kill of {path} on node-1"')
            with late:
                late.wait_for_alerts(1, path)
                agent.wait_for(lambda page: counted(page, "delivered", "alertmanager") >= 1)


def test_a_container_is_told_by_its_name_and_what_was_held_back_comes_with_the_next(
    docker: Dockerd, tmp_path: Path
) -> None:
    with (
        Receiver() as webhook,
        Receiver() as pager,
        Alertmanager(tmp_path / "alertmanager", pager.url) as alertmanager,
        agent_of(
            tmp_path / "state",
            docker.url,
            WEBHOOK_URLS=webhook.url,
            ALERTMANAGER_URLS=alertmanager.url,
            RATE_LIMIT_INTERVAL="12s",
        ) as agent,
    ):
        # A child is killed three times, and the container goes on.
        work = f"sleep 2; {HOG}; sleep 3; {HOG}; {HOG}; sleep 600"
        container = docker.run("--name=told", "--memory=16m", "--memory-swap=16m", IMAGE, "sh", "-c", work)
        try:
            first, later = told(webhook, "told", messages=2)
            alertmanager.wait_for_alerts(1, "told")
        finally:
            docker.docker("rm", "--force", container)
        assert counted(agent.page(), "held_back", "webhook") >= 2

    assert first.json["labels"]["runtime"] == "docker"
    assert first.json["labels"]["name"] == "told"
    assert first.json["held"] is None
    assert later.json["held"]["count"] == 1
    assert "(and 1 more since " in later.json["text"]
