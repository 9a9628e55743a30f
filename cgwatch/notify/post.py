"""One POST, with a deadline from its beginning to its end."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from cgwatch import __version__
from cgwatch.notify.outcome import Outcome, Retry, outcome_of

_EXCERPT_BYTES = 512
_EXCERPT = 120


class Poster:
    """Posts JSON to one URL, one at a time. Redirects are not followed, proxies not asked.

    ``stop``, from any other thread, ends an attempt that is under way, and all later ones.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        parts = urlsplit(url)
        self.receiver = parts.netloc
        """Host and port, without the path: there may be a token in it."""
        self._is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._target = parts.path or "/"
        if parts.query:
            self._target += f"?{parts.query}"
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = False

    def post(self, body: bytes, headers: Mapping[str, str], now_seconds: float) -> Outcome:
        """Make one attempt. ``now_seconds``: the time since the epoch."""
        connection = self._connect()
        # The timeout of a socket is for each read: a receiver that says a byte a second never runs into it.
        is_late = threading.Event()
        deadline = threading.Timer(self._timeout_seconds, _end, [connection, is_late])
        deadline.daemon = True
        with self._lock:
            if self._stopped:
                return Retry("cgwatch is stopping")
            self._connection = connection
        deadline.start()
        try:
            connection.request(
                "POST",
                self._target,
                body,
                {
                    "Content-Type": "application/json",
                    "User-Agent": f"cgwatch/{__version__}",
                    "Connection": "close",
                    **headers,
                },
            )
            answer = connection.getresponse()
            return outcome_of(answer.status, answer.headers.get("Retry-After"), _excerpt(answer), now_seconds)
        except (OSError, http.client.HTTPException) as error:
            if is_late.is_set() or isinstance(error, TimeoutError):
                return Retry(
                    f"did not answer within {self._timeout_seconds:g} s: look at it, or at notify.timeout"
                )
            return Retry(_problem(error))
        finally:
            deadline.cancel()
            with self._lock:
                self._connection = None
            connection.close()

    def stop(self) -> None:
        """End an attempt that is under way."""
        with self._lock:
            self._stopped = True
            connection = self._connection
        if connection is not None:
            _end(connection, threading.Event())

    def _connect(self) -> http.client.HTTPConnection:
        if not self._is_secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_seconds)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_seconds, context=ssl.create_default_context()
        )


def _end(connection: http.client.HTTPConnection, ended: threading.Event) -> None:
    """End whatever is under way there; ``ended`` says so before it can be noticed."""
    ended.set()
    opened = connection.sock
    if opened is not None:
        with contextlib.suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)


def _excerpt(answer: http.client.HTTPResponse) -> str:
    """Return the beginning of an error's body on one line: it is the status that counts."""
    if answer.status < http.HTTPStatus.MULTIPLE_CHOICES:
        return ""
    try:
        body = answer.read(_EXCERPT_BYTES)
    except (OSError, http.client.HTTPException):
        return ""
    text = re.sub(r"\s+", " ", body.decode("utf-8", "replace")).strip()
    return "".join(character if character.isprintable() else "?" for character in text[:_EXCERPT])


def _problem(error: Exception) -> str:
    """Say what went wrong, and where to look."""
    match error:
        case ssl.SSLCertVerificationError():
            problem = (
                f"its certificate is not trusted ({error.verify_message}): have the system trust its "
                "authority, or name that in SSL_CERT_FILE"
            )
        case ssl.SSLError():
            problem = f"TLS failed ({error.reason or error}): does it speak TLS on this port?"
        case socket.gaierror():
            problem = f"its name is not known ({error.strerror}): look at the host in the URL"
        case ConnectionRefusedError():
            problem = "nothing listens there: does it run, and is it this port?"
        case http.client.RemoteDisconnected():
            problem = "it hung up without an answer: look at its log"
        case http.client.HTTPException():
            problem = f"what it answered is no HTTP ({type(error).__name__}): is it this port, or https?"
        case _:
            problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return problem
