"""The agent's pages over HTTP: ``Server`` binds, serves from a thread of its own, and stops in bounded time.

What the pages are (``build_app``), and their server on a TCP address (``Server``). Everything here reads
immutable values through ``Pages``; nothing here can change what the agent does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from cgwatch.metrics.landing import PLAIN_HEADERS, Pages, failed, not_allowed, not_found, small_pages
from cgwatch.metrics.negotiation import CONTENT_TYPES, Format, choose_format, wants_gzip
from cgwatch.metrics.serving import SEND_SECONDS, ServerThread, open_listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

LOG = logging.getLogger(__name__)

SCRAPE_THREADS = 2
"""Threads that render and compress; more than that only fight for the interpreter's lock."""

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
    content: Sequence[bytes]

    @property
    def size_bytes(self) -> int:
        """Of the whole body."""
        return sum(map(len, self.content))


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
            size_bytes = 0 if request.method == "HEAD" else body.size_bytes
            self.observe(scope["path"], exposition, self.clock() - started, size_bytes, body.status)

    async def _body(self, request: Request, exposition: Format) -> _Body:
        names = frozenset(name for name in request.query_params.getlist("name[]") if name)
        compress = self.compression and wants_gzip(", ".join(request.headers.getlist("accept-encoding")))
        render = partial(self._render, exposition, names, compress=compress)
        return await asyncio.get_running_loop().run_in_executor(self.pool, render)

    def _render(self, exposition: Format, names: frozenset[str], *, compress: bool) -> _Body:
        try:
            content = (
                (self.pages.compressed(exposition, names),)
                if compress
                else self.pages.page(exposition, names)
            )
        except (
            Exception
        ) as error:  # the top of a worker: whatever was wrong with this page, the next may be right
            LOG.exception("a page of metrics could not be rendered")
            return _failure(
                500, f"the page could not be rendered: {type(error).__name__}; the agent's log says more"
            )
        headers = {"Content-Type": CONTENT_TYPES[exposition], "Vary": "Accept, Accept-Encoding"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        return _Body(200, headers, content)

    async def _send(self, body: _Body, send: Send) -> None:
        """Send piece by piece, so that a client that reads slowly holds one piece and not the whole page."""
        headers = {**PLAIN_HEADERS, **body.headers, "Content-Length": str(body.size_bytes)}
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        try:
            async with asyncio.timeout(self.send_seconds):
                await send({"type": "http.response.start", "status": body.status, "headers": raw})
                for piece in _pieces(body.content):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            LOG.warning("a client did not take its page in %g s; its connection is closed", self.send_seconds)


def _failure(status: int, reason: str, headers: Mapping[str, str] | None = None) -> _Body:
    plain = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
    return _Body(status, plain, (f"{reason}\n".encode(),))


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what is sent at a time: small parts together, large ones piece by piece."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= _CHUNK_BYTES:
            yield bytes(waiting[:_CHUNK_BYTES])
            del waiting[:_CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


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
