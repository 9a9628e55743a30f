"""A worker's own thread, and what it owes to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cgwatch.notify.journal import Entry
from cgwatch.notify.message import Message
from cgwatch.notify.outcome import Delivered, Outcome, Refused, Retry
from cgwatch.notify.webhook import Webhook
from cgwatch.notify.worker import Worker
from cgwatch.storage import Storage
from tests.notify.means import NOW, FakeChannel, Seen, means_of, quick
from tests.notify.receiver import Receiver, hangs, status


def entry(number: int) -> Entry:
    return Entry(Message("oom_kill", f"key-{number}", "node", f"Title {number}", "", NOW), NOW)


def test_what_fails_is_tried_again_until_it_is_delivered_and_the_others_are_not_kept_waiting() -> None:
    seen = Seen()
    done = threading.Event()
    given: list[str] = []

    class Picky(FakeChannel):
        def deliver(self, message: Message) -> Outcome:
            given.append(message.key)
            if message.key == "key-1" and given.count("key-1") < 3:
                return Retry("not this one")
            if len(set(given)) == 3 and given.count("key-1") == 3:
                done.set()
            return Delivered()

    worker = Worker(Picky(), means_of(None, seen, time.monotonic, notify=quick()))
    for number in (1, 2, 3):
        worker.put(entry(number))
    worker.start()
    assert done.wait(10)
    worker.stop()
    worker.join(5)

    assert given[:4] == ["key-1", "key-2", "key-3", "key-1"]
    assert sorted(given) == ["key-1"] * 3 + ["key-2", "key-3"]
    assert seen.results["fake", "delivered"] == 3
    assert seen.results["fake", "retried"] == 2
    assert seen.lengths["fake"] == 0


def test_no_attempt_comes_before_the_time_that_the_receiver_asked_for() -> None:
    moments: list[float] = []
    done = threading.Event()
    answers: Iterator[Outcome] = iter([Retry("busy", 0.4), Delivered()])

    def answer() -> Outcome:
        moments.append(time.monotonic())
        outcome = next(answers)
        if isinstance(outcome, Delivered):
            done.set()
        return outcome

    notify = quick()
    notify = type(notify)(retry=type(notify.retry)(0.01, 5))
    worker = Worker(FakeChannel(answer=answer), means_of(None, Seen(), time.monotonic, notify=notify))
    worker.put(entry(1))
    worker.start()
    assert done.wait(10)
    worker.stop()
    worker.join(5)

    assert moments[1] - moments[0] >= 0.4


def test_a_receiver_that_fails_is_logged_once_and_once_when_it_answers_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    answers: list[Outcome] = [Retry("busy"), Retry("busy"), Retry("busy"), Delivered()]
    worker = Worker(FakeChannel(answer=lambda: answers.pop(0)), means_of(None, Seen(), lambda: 0.0))
    worker.put(entry(1))
    for _ in range(4):
        worker.step()

    assert [record.message for record in caplog.records] == [
        "a receiver of notifications fails; it is tried again",
        "a receiver of notifications answers again",
    ]


def test_the_upkeep_comes_when_it_is_due_though_there_is_no_message() -> None:
    channel = FakeChannel()
    kept = threading.Event()
    channel.keep_up = lambda: (kept.set(), setattr(channel, "upkeep_seconds", None), Refused("no"))[2]  # type: ignore[method-assign, func-returns-value]
    channel.upkeep_seconds = NOW + time.monotonic() + 0.2
    worker = Worker(channel, means_of(None, Seen(), time.monotonic))
    worker.start()
    assert kept.wait(10)
    worker.stop()
    worker.join(5)

    assert channel.given == []


def test_the_end_does_not_wait_for_a_receiver_that_hangs_and_nothing_is_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "cgwatch.db")
    with Receiver(hangs) as receiver, Storage.open(path) as storage:
        means = means_of(storage, Seen(), time.monotonic)
        webhook = Webhook("webhook", receiver.url, None, 60, lambda: NOW)
        worker = Worker(webhook, means)
        for number in (1, 2):
            means.journal.add([webhook.identity], entry(number), [number])
            worker.put(entry(number))
        worker.start()
        receiver.wait_for(bool)
        began = time.monotonic()
        worker.stop()
        worker.join(5)
        assert time.monotonic() - began < 2
        port = receiver.port
    with Receiver(status(200), port=port) as receiver, Storage.open(path) as storage:
        seen = Seen()
        worker = Worker(webhook_of(receiver), means_of(storage, seen, time.monotonic))
        assert seen.lengths == {"webhook": 2}
        worker.start()
        requests = receiver.wait_for(lambda requests: len(requests) == 2)
        worker.stop()
        worker.join(5)
        assert [request.headers["Idempotency-Key"] for request in requests] == ["key-1", "key-2"]


def webhook_of(receiver: Receiver) -> Webhook:
    return Webhook("webhook", receiver.url, None, 60, lambda: NOW)
