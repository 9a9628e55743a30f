"""The agent's pages over HTTP: ``Server`` binds, serves from a thread of its own, and stops in bounded time.

Three parts, top to bottom: what the pages are (``build_app``), the thread that serves an app on a listening
socket (``ServerThread``), and both together on a TCP address (``Server``). Everything here reads immutable
values through ``Pages``; nothing here can change what the agent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import ipaddress
import logging
import re
import socket
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

import uvicorn
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from cgwatch.errors import ListenError
from cgwatch.metrics.landing import PLAIN_HEADERS, Pages, failed, not_allowed, not_found, small_pages
from cgwatch.metrics.negotiation import CONTENT_TYPES, Format, choose_format, wants_gzip

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

LOG = logging.getLogger(__name__)

SCRAPE_THREADS = 2
"""Threads that render and compress; more than that only fight for the interpreter's lock."""

SEND_SECONDS = 30
"""A client that has not taken its page by then loses its connection."""

KEEP_ALIVE_SECONDS = 75
"""An idle connection is kept that long: past the usual scrape intervals of 15, 30 and 60 seconds."""

MAX_CONNECTIONS = 128
"""Clients connected at a time; each is a file descriptor, and the agent needs those for cgroups."""

GZIP_LEVEL = 1

_CHUNK_BYTES = 256 * 1024


class Observer(Protocol):
    """Told of every scrape once it is over, refused and failed ones too; called from the server's thread."""

    def __call__(
        self, handler: str, exposition: str, seconds: float, size_bytes: int, status: int, /
    ) -> None:
        """Take the path, the format, the duration, the bytes of the body as sent, and the HTTP status."""


class _Body(Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    content: bytes


class Scrapes(Struct, eq=False):
    """The exposition, for a bounded number of clients at a time (an ASGI application)."""

    pages: Pages
    pool: Executor
    """Renders and compresses."""
    max_requests: int = 40
    """Scrapes that are answered at a time; more get status 503 and are told to come again."""
    compression: bool = True
    observe: Observer | None = None
    clock: Callable[[], float] = time.monotonic
    send_seconds: float = SEND_SECONDS
    running: int = 0
    """Scrapes that are being answered now; only the server's thread touches it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one scrape."""
        started = self.clock()
        request = Request(scope, receive)
        exposition = choose_format(", ".join(request.headers.getlist("accept")))
        if self.running >= self.max_requests:
            reason = f"{self.max_requests} scrapes are running already; try again in a second"
            body = _failure(503, reason, {"Retry-After": "1"})
            await self._send(body, send)
        else:
            self.running += 1
            try:
                body = await self._body(request, exposition)
                await self._send(body, send)
            finally:
                self.running -= 1
        if self.observe is not None:
            size_bytes = 0 if request.method == "HEAD" else len(body.content)
            self.observe(scope["path"], exposition, self.clock() - started, size_bytes, body.status)

    async def _body(self, request: Request, exposition: Format) -> _Body:
        names = frozenset(name for name in request.query_params.getlist("name[]") if name)
        compress = self.compression and wants_gzip(", ".join(request.headers.getlist("accept-encoding")))
        render = partial(self._render, exposition, names, compress=compress)
        return await asyncio.get_running_loop().run_in_executor(self.pool, render)

    def _render(self, exposition: Format, names: frozenset[str], *, compress: bool) -> _Body:
        try:
            content = self.pages.page(exposition, names)
        except (
            Exception
        ) as error:  # the top of a worker: whatever was wrong with this page, the next may be right
            LOG.exception("a page of metrics could not be rendered")
            return _failure(
                500, f"the page could not be rendered: {type(error).__name__}; the agent's log says more"
            )
        headers = {"Content-Type": CONTENT_TYPES[exposition], "Vary": "Accept, Accept-Encoding"}
        if compress:
            content = gzip.compress(content, GZIP_LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
        return _Body(200, headers, content)

    async def _send(self, body: _Body, send: Send) -> None:
        """Send piece by piece, so that a client that reads slowly holds one piece and not the whole page."""
        headers = {**PLAIN_HEADERS, **body.headers, "Content-Length": str(len(body.content))}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        try:
            async with asyncio.timeout(self.send_seconds):
                await send({"type": "http.response.start", "status": body.status, "headers": raw})
                for offset in range(0, len(body.content), _CHUNK_BYTES):
                    piece = body.content[offset : offset + _CHUNK_BYTES]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            LOG.warning("a client did not take its page in %g s; its connection is closed", self.send_seconds)


def _failure(status: int, reason: str, headers: Mapping[str, str] | None = None) -> _Body:
    plain = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
    return _Body(status, plain, f"{reason}\n".encode())


def build_app(pages: Pages, scrapes: Scrapes) -> Starlette:
    """Make the application of the agent's pages, without a socket or a thread."""
    app = Starlette(
        routes=[
            Route("/metrics", scrapes, methods=["GET"]),
            Route("/metrics/cadvisor", scrapes, methods=["GET"]),
            *small_pages(pages),
        ],
        exception_handlers={404: not_found, 405: not_allowed, Exception: failed},
    )
    app.router.redirect_slashes = False  # a redirect would repeat the client's Host header
    return app


class _Connection(H11Protocol):
    """One client. uvicorn accepts any number of them and waits for their requests for ever; an agent cannot.

    h11 also where httptools is installed: that parser puts no bound on the size of a request's headers.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
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


_LISTEN = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})"
)
_MAX_PORT = 65535


def parse_listen(listen: str) -> tuple[str, int]:
    """Read ``host:port``, ``[::1]:port`` or ``:port`` (every address, host ``""``). Raises ListenError."""
    match = _LISTEN.fullmatch(listen)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ListenError(
            f"{listen!r} is no address to listen on; give --listen as 127.0.0.1:9753, [::1]:9753,"
            " or :9753 for all addresses"
        )
    return match["v6"] or match["host"] or "", int(match["port"])


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


class Server:
    """The agent's pages on a TCP address: ``bind``, ``start``, ``stop``.

    ``listen`` is what ``parse_listen`` reads; the other arguments are those of ``Scrapes``.
    """

    def __init__(  # two collaborators, and four choices that have a default
        self,
        listen: str,
        pages: Pages,
        *,
        max_requests: int = 40,
        compression: bool = True,
        observe: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listen = listen
        self._pool = ThreadPoolExecutor(SCRAPE_THREADS, thread_name_prefix="scrape")
        self._app = build_app(pages, Scrapes(pages, self._pool, max_requests, compression, observe, clock))
        self._thread: ServerThread | None = None
        self._host, self._port = "", 0

    def bind(self) -> None:
        """Open the listening socket, before anything else is started. Raises ListenError."""
        listener = open_listener(self._listen)
        self._host, self._port = listener.getsockname()[:2]
        self._thread = ServerThread(self._app, listener)

    @property
    def address(self) -> str:
        """The address bound, as ``--listen`` takes it and with the actual port; known after ``bind``."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """Where a client on this machine finds the landing page; known after ``bind``."""
        every = ipaddress.ip_address(self._host).is_unspecified
        return f"http://127.0.0.1:{self._port}/" if every else f"http://{self.address}/"

    def start(self) -> None:
        """Bind, unless that is done, and serve; return once connections are accepted. Raises ListenError."""
        if self._thread is None:
            self.bind()
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        """End within three seconds: no new connections, then what is under way, then the rest."""
        if self._thread is not None:
            self._thread.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
