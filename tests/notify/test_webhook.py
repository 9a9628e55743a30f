from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import ConfigError
from cgwatch.notify.channels import channels_of
from cgwatch.notify.message import Message
from cgwatch.notify.outcome import Delivered
from cgwatch.notify.webhook import Webhook, signature
from cgwatch.notify_settings import Alertmanager, LogChannel, Notify
from cgwatch.notify_settings import Webhook as WebhookSettings
from tests.notify.means import NOW
from tests.notify.receiver import Receiver

MESSAGE = Message("oom_kill", "oom_kill-boot-1", "node", "Title", "Text", NOW, "web", {"name": "web"}, 1)


def test_it_posts_the_message_signed_with_its_time_and_a_key_of_its_own() -> None:
    with Receiver() as receiver:
        webhook = Webhook("webhook", receiver.url, b"secret", 10, lambda: NOW)
        assert webhook.deliver(MESSAGE) == Delivered()
        (request,) = receiver.requests
    headers = request.headers
    assert headers["Idempotency-Key"] == "oom_kill-boot-1"
    assert headers["X-Cgwatch-Timestamp"] == "1800000000"
    by_hand = hmac.new(b"secret", b"1800000000." + request.body, hashlib.sha256).hexdigest()
    assert headers["X-Cgwatch-Signature"] == f"sha256={by_hand}"
    assert request.json["title"] == "Title"
    assert request.json["labels"] == {"name": "web"}


def test_without_a_secret_nothing_is_signed() -> None:
    with Receiver() as receiver:
        Webhook("webhook", receiver.url, None, 10, lambda: NOW).deliver(MESSAGE)
        assert "X-Cgwatch-Signature" not in receiver.requests[0].headers


@given(st.binary(min_size=1), st.binary(), st.binary())
def test_another_body_time_or_secret_has_another_signature(secret: bytes, one: bytes, two: bytes) -> None:
    assert (signature(secret, "1", one) == signature(secret, "1", two)) == (one == two)
    assert signature(secret, "1", one) != signature(secret, "2", one)
    # A key is filled up with zeros (RFC 2104).
    assert signature(secret, "1", one) != signature(secret + b"x", "1", one)


def test_each_receiver_is_a_channel_with_a_name_and_twice_the_same_is_one(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s\n")
    notify = Notify(
        log=LogChannel(enabled=True),
        webhook=WebhookSettings(
            ("http://a/token", "http://b", "http://a/token", "https://c:1/"), str(secret)
        ),
        alertmanager=Alertmanager(("http://m:9093",)),
    )
    found = [(channel.name, channel.receiver) for channel in channels_of(notify, lambda: NOW)]

    assert found == [
        ("log", "the log"),
        ("webhook", "a"),
        ("webhook-2", "b"),
        ("webhook-3", "c:1"),
        ("alertmanager", "m:9093"),
    ]
    assert channels_of(Notify(), lambda: NOW) == []


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot be read: No such file"), ("\n", "is empty")])
def test_a_secret_that_cannot_be_used_is_an_error_before_anything_is_sent(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    notify = Notify(webhook=WebhookSettings(("http://a",), str(path)))

    with pytest.raises(ConfigError, match=rf"^\$\.notify\.webhook\.secret_file: {path} {problem}"):
        channels_of(notify, lambda: NOW)
