"""Checks of the sockets and directories that the agent is going to use."""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.control import socket_path
from cgwatch.doctor.finding import Finding, Level, ok
from cgwatch.errors import ListenError
from cgwatch.metrics.serving import open_listener, parse_listen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host

_PROBE_SECONDS = 2.0
_LANDING = re.compile(rb"<h1>cgwatch <small>([^ <]+)")
_PAGE_BYTES = 16384


def listen_address(host: Host) -> Iterator[Finding]:
    """Whether the address to serve on is free, or an agent answers there already."""
    subject = "listen address"
    listen = host.settings.listen
    try:
        open_listener(listen).close()
    except ListenError as error:
        cause = error.__cause__
        in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
        version = _agent_version(listen) if in_use else None
        if version is not None:
            yield ok(subject, f"{listen}: an agent answers there (cgwatch {version})")
            return
        found, _, advice = str(error).partition("; ")
        yield Finding(Level.WARNING, subject, found, "the agent cannot start", advice)
    else:
        yield ok(subject, f"{listen} is free")


def _agent_version(listen: str) -> str | None:
    name, port = parse_listen(listen)
    connection = http.client.HTTPConnection(name or "127.0.0.1", port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/")
        page = connection.getresponse().read(_PAGE_BYTES)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    found = _LANDING.search(page)
    return found[1].decode("ascii", "replace") if found else None


def state_directory(host: Host) -> Iterator[Finding]:
    """Whether what should outlive a restart can be written. Nothing is made here."""
    subject = "state directory"
    directory = Path(host.settings.state_dir).absolute()
    nearest = next(path for path in (directory, *directory.parents) if _is_there(path))
    if not nearest.is_dir():
        problem = f"{nearest} is not a directory"
    elif not os.access(nearest, os.W_OK | os.X_OK, effective_ids=True):
        problem = f"{nearest} cannot be written"
    else:
        yield ok(subject, f"{directory} can be {'written' if nearest == directory else 'made'}")
        return
    yield Finding(
        Level.WARNING,
        subject,
        problem,
        f"nothing in {directory} would outlive a restart, OOM kills while no agent runs are not found, and no"
        " control socket can be there",
        "give --state-dir one that this user may write; a unit: StateDirectory=cgwatch; container: a volume",
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # of a directory above, which then is the one that cannot be written
        return False


def control_socket(host: Host) -> Iterator[Finding]:
    """Whether the command line could talk to an agent, and whether one listens already."""
    subject = "control socket"
    path = socket_path(host.settings.state_dir)
    problem = ""
    try:
        with closing(socket.socket(socket.AF_UNIX)) as channel:
            channel.settimeout(_PROBE_SECONDS)
            channel.connect(path)
        yield ok(subject, f"{path}: an agent listens")
    except FileNotFoundError:
        yield ok(subject, f"{path}: no agent listens")
    except ConnectionRefusedError:
        if Path(path).is_socket():
            yield ok(subject, f"{path}: no agent listens; the next one replaces this leftover")
        else:
            problem = "what is there is no socket"
    except OSError as error:  # no permission, or longer than the 107 bytes of a unix socket's path
        problem = error.strerror or str(error)
    if problem:
        yield Finding(
            Level.WARNING,
            subject,
            f"{path}: {problem}",
            "cgwatch ps cannot ask the agent, and takes samples of its own",
            "give --state-dir another, short path, that of the agent's user",
        )
