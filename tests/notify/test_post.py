"""One attempt, at receivers that answer badly or not at all."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cgwatch.notify.outcome import Delivered, Outcome, Refused, Retry
from cgwatch.notify.post import Poster
from tests.notify.receiver import Answer, Receiver, free_port, hangs, raw, status, trickles
from tests.real.needs import require

NOW = 1_800_000_000.0


def post(url: str, timeout_seconds: float = 10) -> Outcome:
    return Poster(url, timeout_seconds).post(b"{}", {"X-Test": "1"}, NOW)


def answered(answer: Answer, timeout_seconds: float = 10) -> Outcome:
    with Receiver(answer) as receiver:
        outcome = post(receiver.url, timeout_seconds)
        (request,) = receiver.requests
        assert (request.path, request.body) == ("/told", b"{}")
        assert request.headers["X-Test"] == "1"
        assert request.headers["Content-Type"] == "application/json"
    return outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(200), Delivered()),
        (status(204), Delivered()),
        (status(500, b"<h1>no\r\n\x1b[31m"), Retry("answered 500 (<h1>no ?[31m)")),
        (status(429, Retry_After="17"), Retry("answered 429", 17)),
        (status(503, Retry_After="Fri, 15 Jan 2027 08:00:30 GMT"), Retry("answered 503", 30)),
        (status(400, b"x" * 100_000), Refused(f"answered 400 ({'x' * 120})")),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal"), Delivered()),
        (raw(b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nhal"), Retry("answered 500 (hal)")),
        (
            raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
            Retry("what it answered is no HTTP (BadStatusLine): is it this port, or https?"),
        ),
        (
            raw(b"HTTP/1.1 2"),
            Retry("what it answered is no HTTP (BadStatusLine): is it this port, or https?"),
        ),
        (
            raw(b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000),
            Retry("what it answered is no HTTP (LineTooLong): is it this port, or https?"),
        ),
        (raw(b""), Retry("it hung up without an answer: look at its log")),
    ],
)
def test_what_an_answer_means(answer: Answer, outcome: Outcome) -> None:
    assert answered(answer) == outcome


def test_a_redirect_is_not_followed() -> None:
    with Receiver() as target:
        outcome = answered(status(307, Location=target.url))
        assert isinstance(outcome, Refused)
        assert target.requests == []


@pytest.mark.parametrize("answer", [hangs, trickles])
def test_an_attempt_ends_in_time_whatever_comes(answer: Answer) -> None:
    began = time.monotonic()
    assert answered(answer, 0.3) == Retry("did not answer within 0.3 s: look at it, or at notify.timeout")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("answer", [hangs, trickles])
def test_an_attempt_can_be_ended_from_another_thread(answer: Answer) -> None:
    with Receiver(answer) as receiver:
        poster = Poster(receiver.url, 60)
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(poster.post(b"{}", {}, NOW)))
        thread.start()
        receiver.wait_for(bool)
        poster.stop()
        thread.join(5)
        assert not thread.is_alive()
        assert isinstance(outcomes[0], Retry)
        assert isinstance(poster.post(b"{}", {}, NOW), Retry)
        assert len(receiver.requests) == 1


def test_who_does_not_listen_or_is_not_known_is_tried_again() -> None:
    assert post(f"http://127.0.0.1:{free_port()}") == Retry(
        "nothing listens there: does it run, and is it this port?"
    )
    unknown = post("http://receiver.invalid/")
    assert isinstance(unknown, Retry)
    assert unknown.problem.startswith("its name is not known (")


def test_the_path_of_the_url_may_hold_a_token_which_no_log_shows() -> None:
    poster = Poster("https://hooks.example.org:8443/services/token?key=secret", 1)

    assert poster.receiver == "hooks.example.org:8443"


def test_a_certificate_that_nobody_has_signed_is_not_trusted_and_its_authority_is_by_the_systems_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(None if shutil.which("openssl") else "needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", certificate, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Receiver() as receiver:
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        url = receiver.url.replace("http:", "https:")
        distrusted = post(url)
        assert isinstance(distrusted, Retry)
        assert distrusted.problem.startswith("its certificate is not trusted (self-signed certificate): ")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert post(url) == Delivered()
