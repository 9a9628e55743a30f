"""A thread that serves an ASGI application on a listening socket, within bounds, and ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import threading

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cgwatch.errors import ListenError, UnitError
from cgwatch.keys import parse_address
from cgwatch.peer import peer_of

LOG = logging.getLogger(__name__)

SEND_SECONDS = 30
"""A client that has not taken its page by then loses its connection."""

KEEP_ALIVE_SECONDS = 75
"""An idle connection is kept that long: past the usual scrape intervals of 15, 30 and 60 seconds."""

MAX_CONNECTIONS = 128
"""Clients connected at a time; each is a file descriptor, and the agent needs those for cgroups."""


class _Connection(H11Protocol):
    """One client. uvicorn accepts any number of them and waits for their requests for ever; an agent cannot.

    h11 also where httptools is installed: that parser puts no bound on the size of a request's headers.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        channel = transport.get_extra_info("socket")
        if channel is not None and channel.family == socket.AF_UNIX:
            self.app_state = {**self.app_state, "peer": peer_of(channel)}
        self._seen: object = None
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._look)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Hang up on a client that has not completed a request since the last look."""
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self.cycle is self._seen:
            self.transport.abort()
        else:
            self._seen = self.cycle
            self._timer = self.loop.call_later(self.timeout_keep_alive, self._look)


class _Loop(uvicorn.Server):
    """uvicorn's server; it says when it accepts, wakes once a second and not ten times, and ends in time."""

    def __init__(self, config: uvicorn.Config, grace_seconds: float) -> None:
        super().__init__(config)
        self.accepting = threading.Event()
        self._grace_seconds = grace_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)
        self.accepting.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # 0 brings the Date header up to date
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self._grace_seconds, self._cut)
        await super().shutdown(sockets=sockets)

    def leave(self) -> None:
        """Begin to stop; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has left already
                self._loop.call_soon_threadsafe(self._woken.set)

    def _cut(self) -> None:
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class ServerThread:
    """Serves an ASGI application on a listening socket (TCP or unix) from one thread, and closes the socket.

    It installs no signal handlers, leaves logging as it is, and gives clients ``grace_seconds`` to take what
    they asked for before it stops.
    """

    def __init__(  # two collaborators, and four bounds that have a default
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        name: str = "http",
        grace_seconds: float = 2,
        keep_alive_seconds: int = KEEP_ALIVE_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            loop="asyncio",
            interface="asgi3",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            workers=1,  # as the other two: given, so that no environment variable is asked
            forwarded_allow_ips="",
            timeout_keep_alive=keep_alive_seconds,
            limit_concurrency=max_connections + 1,  # counted with the newcomer, who is the one turned away
        )
        self._loop = _Loop(config, grace_seconds)
        self._listener = listener
        self._grace_seconds = grace_seconds
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, and return once it accepts. Raises ListenError; the reason is in the log."""
        self._thread.start()
        self._loop.accepting.wait()
        if not self._loop.started:
            raise ListenError("the HTTP server did not start; the log above says why")

    def stop(self) -> None:
        """Accept no more, let the answers under way be taken, and end the thread; again is harmless."""
        self._loop.leave()
        if self.running:
            self._thread.join(self._grace_seconds + 1)
        self._listener.close()

    def _run(self) -> None:
        try:
            self._loop.run(sockets=[self._listener])
        except Exception:  # the top of a thread: the agent goes on without its pages, and says so
            LOG.exception("the HTTP server ended")
        finally:
            self._loop.accepting.set()


def parse_listen(listen: str) -> tuple[str, int]:
    """Read ``host:port``, ``[::1]:port`` or ``:port`` (every address, host ``""``). Raises ListenError."""
    try:
        return parse_address(listen)
    except UnitError as error:
        raise ListenError(
            f"{listen!r} is no address to listen on; give --listen as 127.0.0.1:9753, [::1]:9753,"
            " or :9753 for all addresses"
        ) from error


def open_listener(listen: str) -> socket.socket:
    """Open the TCP socket that ``listen`` describes; it listens already, so what is wrong shows now.

    Port 0 is any free one; every address is IPv4 and IPv6 where the machine has both. Raises ListenError.
    """
    host, port = parse_listen(listen)
    host = host or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104  # it was asked for
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        dual = address[0] == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(address, family=family, dualstack_ipv6=dual)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"{listen} {_advice(error)}") from error
    # Connections inherit both. Without the first, every answer on a kept connection waits 40 ms for an
    # acknowledgement (asyncio sets it only where the socket names its protocol); by the second the kernel
    # ends a connection whose client takes nothing for that long, even after we have closed it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SEND_SECONDS * 1000)
    return listener


def _advice(error: OSError | UnicodeError) -> str:
    """Say what is wrong with an address, and what to do about it."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "has a host name that does not resolve; give --listen an IP address"
    match error.errno:
        case errno.EADDRINUSE:
            return "is in use; stop the other program or give --listen another address"
        case errno.EACCES:
            return "needs root or CAP_NET_BIND_SERVICE; give --listen a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return "is no address of this machine; give --listen one of its own, or :PORT for all of them"
        case _:
            return f"cannot be listened on: {error.strerror or error}; give --listen another address"
