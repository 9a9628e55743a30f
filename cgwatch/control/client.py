"""The command line's end of the control socket."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TypeVar
from urllib.parse import urlencode

from cgwatch import usage
from cgwatch.change import Report, Request
from cgwatch.control import WRITE_SECONDS, Reset, socket_path
from cgwatch.errors import AgentRefusedError, AgentUnreachableError
from cgwatch.limits.resolve import Candidate
from cgwatch.limits.wire import WireError, decode, encode

T = TypeVar("T")

TIMEOUT_SECONDS = 2.0
"""An agent that has not answered by then is as good as none."""
_PATIENT_SECONDS = 10.0
"""For who does nothing without its answer: a node whose memory is short is slow."""
_SHOWN_WORDS = 500


class _Connection(HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("cgwatch", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)
        self.sock.settimeout(self.timeout)


def fetch_rows(state_dir: str) -> usage.Listing:
    """Ask the agent with this state directory what every cgroup uses.

    Raises ``AgentUnreachableError``: there is no socket, nobody listens on it, it is not ours to use, no
    answer comes within ``TIMEOUT_SECONDS``, or not one that this version of cgwatch understands.
    """
    return _get(state_dir, "/ps", usage.Listing, TIMEOUT_SECONDS)


def fetch_candidates(state_dir: str) -> tuple[Candidate, ...]:
    """Ask the agent which cgroups there are, with patience. Raises ``AgentUnreachableError``."""
    return _get(state_dir, "/cgroups", tuple[Candidate, ...], _PATIENT_SECONDS)


def apply(state_dir: str, request: Request) -> Report:
    """Let the agent carry out a request; whom it is from, the agent finds out by itself.

    Raises ``AgentRefusedError`` with the agent's words, or ``AgentUnreachableError``.
    """
    return _post(state_dir, "/limits", encode(request), Report)


def reset(state_dir: str, wanted: Reset) -> Report:
    """Let the agent bring back limits; errors as those of ``apply``."""
    return _post(state_dir, "/limits/reset", encode(wanted), Report)


def fetch(state_dir: str, place: str, query: Mapping[str, str], kind: type[T]) -> T:
    """Ask the agent for what a place has; errors as those of ``apply``."""
    text = urlencode(query, errors="surrogateescape")
    status, content = _exchange(state_dir, "GET", f"{place}?{text}", None, WRITE_SECONDS)
    return _understood(state_dir, status, content, kind)


def _get(state_dir: str, place: str, kind: type[T], timeout_seconds: float) -> T:
    status, content = _exchange(state_dir, "GET", place, None, timeout_seconds)
    if status != HTTPStatus.OK:
        words = f": {_words(content)}" if status == HTTPStatus.FORBIDDEN else ""
        raise _unreachable(state_dir, HTTPException(f"status {status}{words}"))
    return _understood(state_dir, status, content, kind)


def _post(state_dir: str, place: str, body: bytes, kind: type[T]) -> T:
    status, content = _exchange(state_dir, "POST", place, body, WRITE_SECONDS)
    return _understood(state_dir, status, content, kind)


def _exchange(
    state_dir: str, method: str, place: str, body: bytes | None, timeout_seconds: float
) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        with closing(_Connection(socket_path(state_dir), timeout_seconds)) as connection:
            connection.request(method, place, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
    except TimeoutError as error:
        seen = "; cgwatch changes shows what became of it" if body is not None else ""
        raise _unreachable(state_dir, error, f"nothing in {timeout_seconds:g} s{seen}") from error
    except (OSError, HTTPException) as error:
        raise _unreachable(state_dir, error) from error


def _understood(state_dir: str, status: int, content: bytes, kind: type[T]) -> T:
    if status != HTTPStatus.OK:
        raise AgentRefusedError(f"the agent says: {_words(content) or f'status {status}'}")
    try:
        return decode(content, kind)
    except WireError as error:
        reason = f"its answer is of another version of cgwatch: {error}"
        raise _unreachable(state_dir, error, reason) from error


def _words(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())[:_SHOWN_WORDS]


def _unreachable(state_dir: str, error: Exception, reason: str = "") -> AgentUnreachableError:
    known = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    nobody = isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError)
    if isinstance(error, PermissionError):
        return AgentUnreachableError(
            f"{socket_path(state_dir)} may not be used by this user ({known}); try as root, as the agent's"
            " user, or as a member of the group that control.group names"
        )
    return AgentUnreachableError(
        f"no agent answers on {socket_path(state_dir)} ({reason or known}); start one with cgwatch run, or"
        " name the running one's directory with --state-dir",
        nobody=nobody,
    )
