"""The agent's end of the control socket: it is opened, served from a thread of its own, and removed."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import stat
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

from cgwatch.control import SOCKET_NAME, socket_path
from cgwatch.control.access import access_of
from cgwatch.errors import ListenError

if TYPE_CHECKING:
    from cgwatch.control.routes import Limits, NoLimits
    from cgwatch.metrics.pages import LatestPages
    from cgwatch.metrics.serving import ServerThread

LOG = logging.getLogger(__name__)


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


def serve(
    state_dir: str, pages: LatestPages, limits: Limits | NoLimits, group: str | None = None
) -> ControlServer | None:
    """Serve ``pages`` to the command line; ``None`` where that cannot be, and the log says why.

    An agent without a control socket still serves metrics, so nothing is raised. ``limits``: what changes
    them, or why nobody does. ``group``: whose members may use the socket, too.
    """
    path = socket_path(state_dir)
    try:
        return _serve(state_dir, path, pages, limits, group)
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


def _serve(
    state_dir: str, path: str, pages: LatestPages, limits: Limits | NoLimits, group: str | None
) -> ControlServer:
    """Open the socket and start the thread; raises ``OSError`` or ``ListenError`` and then leaves nothing."""
    from cgwatch.control.routes import make_app  # noqa: PLC0415 - starlette, not for clients
    from cgwatch.metrics.serving import ServerThread  # noqa: PLC0415 - the same, and uvicorn

    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    with ExitStack() as undo:
        directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
        undo.callback(os.close, directory)
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_stale(path)
        access = access_of(group, directory)
        listener = undo.enter_context(closing(socket.socket(socket.AF_UNIX)))
        os.fchmod(listener.fileno(), 0o600)  # before bind: so the file never has a wider mode
        listener.bind(path)
        undo.callback(os.unlink, SOCKET_NAME, dir_fd=directory)
        if access.group_id is not None:
            os.chown(SOCKET_NAME, -1, access.group_id, dir_fd=directory, follow_symlinks=False)
            os.chmod(SOCKET_NAME, 0o660, dir_fd=directory)
        listener.listen()
        thread = ServerThread(make_app(pages, limits, access), listener, name="control")
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
