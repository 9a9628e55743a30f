"""The agent's control socket: what the command line asks of a running agent, over HTTP on a unix socket.

The socket is ``control.sock`` in the state directory and only its owner may use it. The directory is locked
(flock(2)) for as long as an agent serves from it, so a socket in an unlocked directory is what a killed agent
left behind.

================  =============================================================
``GET /ps``       ``usage.Listing`` as JSON: what every cgroup uses
================  =============================================================
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
from contextlib import ExitStack, closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import msgspec

from cgwatch import usage
from cgwatch.errors import AgentUnreachableError, ListenError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from cgwatch.metrics.pages import LatestPages
    from cgwatch.metrics.serving import ServerThread

LOG = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
TIMEOUT_SECONDS = 2.0
"""An agent that has not answered by then is as good as none."""


def socket_path(state_dir: str) -> str:
    """Where the agent with this state directory listens."""
    return os.path.join(state_dir, SOCKET_NAME)


class ControlServer:
    """A control socket that is served; ``serve`` makes one."""

    def __init__(self, directory: int, thread: ServerThread) -> None:
        """Take over the descriptor of the locked state directory, and the running thread."""
        self._directory = directory
        self._thread = thread

    def stop(self) -> None:
        """Remove the socket, end the thread within three seconds, and leave the directory to others."""
        with suppress(OSError):  # removed already; or it stays, and the next agent removes it
            os.unlink(SOCKET_NAME, dir_fd=self._directory)
        self._thread.stop()
        os.close(self._directory)


def serve(state_dir: str, pages: LatestPages) -> ControlServer | None:
    """Serve ``pages`` to the command line; ``None`` where that cannot be, and the log says why.

    An agent without a control socket still serves metrics, so nothing is raised.
    """
    path = socket_path(state_dir)
    try:
        return _serve(state_dir, path, pages)
    except BlockingIOError:
        problem = "another agent uses this state directory; give --state-dir another one, or stop that agent"
    except (OSError, ListenError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        problem = f"{reason}; give --state-dir another directory that this user may write to"
    LOG.warning(
        "there is no control socket, so cgwatch ps takes samples of its own",
        extra={"path": path, "problem": problem},
    )
    return None


def _serve(state_dir: str, path: str, pages: LatestPages) -> ControlServer:
    """Open the socket and start the thread; raises ``OSError`` or ``ListenError`` and then leaves nothing."""
    from cgwatch.metrics.serving import ServerThread  # noqa: PLC0415 - starlette and uvicorn, not for clients

    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    with ExitStack() as undo:
        directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
        undo.callback(os.close, directory)
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_stale(path)
        listener = undo.enter_context(closing(socket.socket(socket.AF_UNIX)))
        os.fchmod(listener.fileno(), 0o600)  # before bind: so the file never has another mode
        listener.bind(path)
        undo.callback(os.unlink, SOCKET_NAME, dir_fd=directory)
        listener.listen()
        thread = ServerThread(_app(pages), listener, name="control")
        thread.start()
        undo.pop_all()
        return ControlServer(directory, thread)


def _remove_stale(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(errno.EEXIST, "what is there is no socket: move it away")
    os.unlink(path)


def _app(pages: LatestPages) -> Starlette:
    from starlette.applications import Starlette  # noqa: PLC0415 - not for clients
    from starlette.responses import Response  # noqa: PLC0415 - the same
    from starlette.routing import Route  # noqa: PLC0415 - the same

    async def ps(_: Request) -> Response:
        # In this order: the core may publish in between, and then the two are two intervals apart.
        before, after = pages.previous, pages.snapshot
        if after is None:
            return Response("no sample was taken yet\n", HTTPStatus.SERVICE_UNAVAILABLE)
        content = msgspec.json.encode(usage.listing(before, after))
        return Response(content, media_type="application/json")

    return Starlette(routes=[Route("/ps", ps, methods=["GET"])])


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("cgwatch", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


def fetch_rows(state_dir: str) -> usage.Listing:
    """Ask the agent with this state directory what every cgroup uses.

    Raises ``AgentUnreachableError``: there is no socket, nobody listens on it, it is not ours to use, no
    answer comes within ``TIMEOUT_SECONDS``, or not one that this version of cgwatch understands.
    """
    path = socket_path(state_dir)
    try:
        with closing(_Connection(path)) as connection:
            connection.request("GET", "/ps")
            answer = connection.getresponse()
            content = answer.read()
        return _understood(answer.status, content)
    except (OSError, HTTPException, msgspec.DecodeError) as error:
        raise AgentUnreachableError(
            f"no agent answers on {path} ({_reason(error)}); start one with cgwatch run, or name the"
            " running one's directory with --state-dir"
        ) from error


def _understood(status: int, content: bytes) -> usage.Listing:
    if status != HTTPStatus.OK:
        raise HTTPException(f"status {status}")
    return msgspec.json.decode(content, type=usage.Listing)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing in {TIMEOUT_SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, msgspec.DecodeError):
        return f"its answer is of another version of cgwatch: {error}"
    return str(error) or type(error).__name__
