"""A real Alertmanager, and a clock that a test winds forward."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cgwatch.notify.alertmanager import Alertmanager as Channel
from cgwatch.notify.alerts import RESEND_SECONDS
from cgwatch.notify.journal import Journal
from cgwatch.notify.message import TEST, Message
from cgwatch.notify.outcome import Delivered, Refused, Retry
from cgwatch.storage import Storage
from tests.notify.alertmanager import Alertmanager
from tests.notify.receiver import Receiver, status

pytestmark = pytest.mark.real

RESOLVE_SECONDS = 900.0


class Clock:
    """The time, with a lead that a test sets: Alertmanager has a clock of its own."""

    lead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.lead_seconds


def message(number: int = 1, name: str = "web", kind: str = "oom_kill", seconds_ago: float = 0) -> Message:
    labels = {"name": name, "runtime": "docker", "cause": "own_limit"}
    seconds = time.time() - seconds_ago
    return Message(
        kind, f"{kind}-{number}", "node-1", f"Title {number}", "Text", seconds, name, labels, number
    )


@pytest.fixture
def pager() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def real(tmp_path: Path, pager: Receiver) -> Iterator[Alertmanager]:
    with Alertmanager(tmp_path / "alertmanager", pager.url) as alertmanager:
        yield alertmanager


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Storage.open(str(tmp_path / "cgwatch.db")) as storage:
        yield Journal(storage)


def channel_of(url: str, clock: Clock, journal: Journal | None = None) -> Channel:
    return Channel(
        "alertmanager",
        url,
        {"severity": "warning"},
        resolve_after_seconds=RESOLVE_SECONDS,
        timeout_seconds=10,
        clock=clock,
        store=journal,
    )


def test_an_alert_fires_goes_on_with_a_further_kill_and_is_resolved(
    real: Alertmanager, pager: Receiver, journal: Journal
) -> None:
    clock = Clock()
    channel = channel_of(real.url, clock, journal)
    assert channel.deliver(message(1, seconds_ago=30)) == Delivered()
    (first,) = real.wait_for_alerts(1)
    assert first["labels"] == {
        "alertname": "CgwatchOomKill",
        "instance": "node-1",
        "name": "web",
        "runtime": "docker",
        "cause": "own_limit",
        "severity": "warning",
    }
    assert channel.deliver(message(2)) == Delivered()
    (second,) = real.alerts()
    assert second["startsAt"] == first["startsAt"]
    assert second["endsAt"] > first["endsAt"]
    assert second["annotations"]["summary"] == "Title 2"
    assert [sent.json["status"] for sent in pager.wait_for(bool)] == ["firing"]

    clock.lead_seconds = RESOLVE_SECONDS + 1
    due = channel.upkeep_due_seconds()
    assert due is not None
    assert due <= clock()
    # Alertmanager's clock has not gone on: for it the alert would end in fifteen minutes.
    clock.lead_seconds = 0
    channel._alerts = {
        key: structs.replace(alert, until_seconds=clock()) for key, alert in channel._alerts.items()
    }
    assert channel.keep_up() == Delivered()
    *_, last = pager.wait_for(lambda requests: len(requests) > 1)
    assert last.json["status"] == "resolved"
    assert real.alerts() == []
    assert channel.upkeep_due_seconds() is None
    assert journal.alerts(channel.identity) == []


def test_alerts_that_an_alertmanager_forgot_over_a_restart_are_sent_again(
    tmp_path: Path, pager: Receiver, journal: Journal
) -> None:
    clock = Clock()
    with Alertmanager(tmp_path / "first", pager.url) as first:
        channel_of(first.url, clock, journal).deliver(message())
        (before,) = first.wait_for_alerts(1)
        # The agent is started anew as well: it knows of the alert from its database.
        channel = channel_of(first.url, clock, journal)
        assert channel.upkeep_due_seconds() == pytest.approx(clock() + RESEND_SECONDS, abs=10)
        first.restart()
        assert first.alerts() == []
        assert channel.keep_up() == Delivered()  # nothing is due, and nothing is sent
        clock.lead_seconds = RESEND_SECONDS
        assert channel.keep_up() == Delivered()
        (after,) = first.wait_for_alerts(1)
        assert after["labels"] == before["labels"]
        assert after["endsAt"] == before["endsAt"]
        assert channel.upkeep_due_seconds() == pytest.approx(clock() + RESEND_SECONDS, abs=10)


def test_a_test_is_an_alert_of_another_name_that_ends_by_itself(real: Alertmanager) -> None:
    assert channel_of(real.url + "/", Clock()).deliver(message(kind=TEST)) == Delivered()
    (alert,) = real.wait_for_alerts(1)

    assert alert["labels"]["alertname"] == "CgwatchTest"


def test_what_alertmanager_refuses_is_not_sent_again(real: Alertmanager) -> None:
    channel = Channel(
        "alertmanager",
        real.url,
        {"empty": "", "no name": "x"},
        resolve_after_seconds=1,
        timeout_seconds=10,
        clock=Clock(),
    )
    outcome = channel.deliver(message())

    assert isinstance(outcome, Refused)
    assert "invalid label set" in outcome.problem
    assert channel.upkeep_due_seconds() is None


def test_an_alert_that_could_not_be_sent_again_stays_due() -> None:
    clock = Clock()
    with Receiver(status(200), status(503), status(200)) as receiver:
        channel = channel_of(receiver.url, clock)
        channel.deliver(message())
        clock.lead_seconds = RESOLVE_SECONDS + 1
        assert isinstance(channel.keep_up(), Retry)
        assert channel.upkeep_due_seconds() is not None
        assert channel.keep_up() == Delivered()
        assert channel.upkeep_due_seconds() is None
        fired, _, resolved = (request.json[0] for request in receiver.requests)
        assert resolved["labels"] == fired["labels"]
        assert resolved["startsAt"] == fired["startsAt"]
        assert resolved["endsAt"] > fired["endsAt"]  # by the clock, it is now
