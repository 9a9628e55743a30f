"""What the control socket answers: who may ask, what is read of a request, and how it is refused."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Protocol, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct, structs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cgwatch import change, usage
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.change import Actor, ActorKind, Key, Report, Target
from cgwatch.control import WRITE_SECONDS, Reset
from cgwatch.control.access import Access
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import CgwatchError
from cgwatch.limits.desk import LimitsDesk
from cgwatch.limits.resolve import candidates
from cgwatch.limits.viewer import Viewer
from cgwatch.limits.wire import WireError, decode, encode
from cgwatch.metrics.pages import LatestPages
from cgwatch.peer import Peer
from cgwatch.proc.machine import read_boot_id
from cgwatch.settings import Settings

LOG = logging.getLogger(__name__)

T = TypeVar("T")

MOST_BYTES = 64 * 1024
"""Of a request's body: many times what every limit there is takes."""
_DESK_SECONDS = WRITE_SECONDS - 10
"""So that the client hears of it, and does not just wait in vain."""
MOST_WAITING = 32
"""Requests that are carried out or wait for it."""


class Desk(Protocol):
    """Changes limits (``limits.desk.LimitsDesk``). Safe for any thread; both raise ``TimeoutError``."""

    def apply(self, request: change.Request, *, timeout_seconds: float) -> Report:
        """Carry out a request. Raises ``CgwatchError`` with words where nothing was done."""

    def reset(
        self, target: Target, keys: Iterable[Key] | None, actor: Actor, *, timeout_seconds: float
    ) -> Report:
        """Bring back what was there before the first change; errors as of ``apply``."""


class Log(Protocol):
    """Knows what was changed (``limits.record.Records``). Safe for any thread."""

    def changes(self, *, since_seconds: float, container: str | None, limit: int) -> Sequence[Struct]:
        """Return rows of the audit log, the newest first. Raises ``CgwatchError``."""


class Views(Protocol):
    """Looks at limits (``limits.viewer.Viewer``). Safe for any thread."""

    def view(self, target: Target) -> Struct:
        """Return all limits of a cgroup. Raises ``CgwatchError``."""


class Limits(Struct, frozen=True):
    """What an agent that changes limits offers on its socket."""

    desk: Desk
    log: Log
    views: Views


class NoLimits(Struct, frozen=True):
    """Of an agent that changes none."""

    why: str
    """Ends a sentence that begins with "this agent changes no limits: "."""


def offered(settings: Settings, desk: LimitsDesk | None, hierarchies: Hierarchies) -> Limits | NoLimits:
    """Return what an agent with this desk offers. Raises a ``KernelFileError``."""
    if desk is None:
        return NoLimits(
            "read_only is set" if settings.read_only else "none can be recorded; its log says why"
        )
    viewer = Viewer(hierarchies, desk.records, settings, read_boot_id(settings.roots.proc))
    return Limits(desk, desk.records, viewer)


class _RefusedError(Exception):
    """A request is not answered; ``status`` and words say why."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


class _Guard:
    """Lets through whom the kernel says to be one of those who may ask."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer: Peer | None = scope["state"].get("peer")
        if peer is not None and self._access.allows(peer):
            await self._app(scope, receive, send)
            return
        LOG.warning(
            "a user may not use the control socket",
            extra={"user": peer.user if peer else "", "pid": peer.pid if peer else 0, "path": scope["path"]},
        )
        whose = f"user {peer.user} ({peer.user_id}) is" if peer else "you are"
        text = (
            f"{whose} neither root nor the agent's user, nor in the group that control.group names: ask for"
            " that, or use sudo\n"
        )
        await Response(text, HTTPStatus.FORBIDDEN, media_type="text/plain")(scope, receive, send)


class _Routes:
    """The handlers; all of them run in the server's thread."""

    def __init__(self, pages: LatestPages, limits: Limits | NoLimits) -> None:
        self._pages = pages
        self._limits = limits
        self._waiting = 0

    async def ps(self, _: Request) -> Response:
        # In this order: the core may publish in between, and then the two are two intervals apart.
        before, after = self._pages.previous, self._pages.snapshot
        if after is None:
            return _no_sample()
        content = msgspec.json.encode(usage.listing(before, after))
        return Response(content, media_type="application/json")

    async def cgroups(self, _: Request) -> Response:
        snapshot = self._pages.snapshot
        if snapshot is None:
            return _no_sample()
        samples = (*snapshot.samples, *snapshot.stopped)
        return _json(encode(candidates(sample.container for sample in samples)))

    async def apply(self, request: Request) -> Response:
        wanted = await _body(request, change.Request)
        asked = structs.replace(wanted, target=self._checked(wanted.target), actor=_actor(request))
        return await self._done(lambda limits: limits.desk.apply(asked, timeout_seconds=_DESK_SECONDS))

    async def reset(self, request: Request) -> Response:
        wanted = await _body(request, Reset)
        target, actor = self._checked(wanted.target), _actor(request)
        return await self._done(
            lambda limits: limits.desk.reset(target, wanted.keys, actor, timeout_seconds=_DESK_SECONDS)
        )

    async def limits(self, request: Request) -> Response:
        target = self._checked(Target(_query(request).get("path", ""), 0, recognise("/")))
        return await self._done(lambda limits: limits.views.view(target))

    async def changes(self, request: Request) -> Response:
        query = _query(request)
        try:
            since, limit = float(query.get("since", 0)), int(query.get("limit", -1))
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"since and limit are numbers: {error}") from error
        container = query.get("container")
        return await self._done(
            lambda limits: limits.log.changes(since_seconds=since, container=container, limit=limit)
        )

    async def _done(self, work: Callable[[Limits], object]) -> Response:
        """Let a thread wait for it: a write may take until the kernel has reclaimed memory."""
        offered = self._limits
        if isinstance(offered, NoLimits):
            raise _RefusedError(HTTPStatus.CONFLICT, f"this agent changes no limits: {offered.why}")
        if self._waiting >= MOST_WAITING:
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_WAITING} requests wait already; try again later"
            )
        self._waiting += 1
        try:
            return _json(await _in_a_thread(lambda: encode(work(offered))))
        except CgwatchError as error:
            raise _RefusedError(HTTPStatus.CONFLICT, str(error)) from error
        except TimeoutError as error:
            words = f"it is not done after {_DESK_SECONDS:g} s; cgwatch changes shows what becomes of it"
            raise _RefusedError(HTTPStatus.GATEWAY_TIMEOUT, words) from error
        finally:
            self._waiting -= 1

    def _checked(self, asked: Target) -> Target:
        """Return the target as we know it: of what the client says only path and inode count; 0 is any."""
        path = asked.path
        if not _is_path(path):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "the path is not a cgroup's - at `$.target.path`")
        snapshot = self._pages.snapshot
        for sample in snapshot.samples if snapshot else ():
            container = sample.container
            if container.cgroup.path == path and asked.inode in {0, container.cgroup.inode}:
                said = container.description
                return Target(path, container.cgroup.inode, container.owner, said.name if said else None)
        return Target(path, asked.inode, recognise(path))  # newer than the last tick


async def _in_a_thread(work: Callable[[], bytes]) -> bytes:
    """Wait for a thread of its own, which is left behind where the agent ends first."""
    future: Future[bytes] = Future()
    future.set_running_or_notify_cancel()  # from here on nobody can cancel it

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, name="request", daemon=True).start()
    return await asyncio.wrap_future(future)


def _is_path(path: str) -> bool:
    """Whether this is a path, and one that leads nowhere out of the hierarchy."""
    below = path.removeprefix("/")
    return path == "/" or (below != path and "\0" not in path and not {"", ".", ".."} & {*below.split("/")})


def _actor(request: Request) -> Actor:
    peer: Peer = request.state.peer
    return Actor(ActorKind.COMMAND, peer.user, peer.user_id)


def _query(request: Request) -> Mapping[str, str]:
    text = request.scope["query_string"].decode("ascii", "surrogateescape")
    return dict(parse_qsl(text, errors="surrogateescape"))


async def _body(request: Request, kind: type[T]) -> T:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {MOST_BYTES} bytes"
            )
    try:
        return decode(bytes(content), kind)
    except WireError as error:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, f"the request is not understood: {error}") from error


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _no_sample() -> Response:
    return _words(HTTPStatus.SERVICE_UNAVAILABLE, "no sample was taken yet")


def _words(status: HTTPStatus, text: str) -> Response:
    return Response(f"{text}\n", status, media_type="text/plain")


async def _refused(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, _RefusedError) else HTTPStatus.INTERNAL_SERVER_ERROR
    return _words(status, str(error))


async def _failed(_: Request, error: Exception) -> Response:
    return _words(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"the request failed: {type(error).__name__}; the agent's log says more",
    )


def make_app(pages: LatestPages, limits: Limits | NoLimits, access: Access) -> ASGIApp:
    """Make the application of the control socket, without a socket or a thread.

    Whatever comes must have its ``Peer`` in the state of its scope.
    """
    routes = _Routes(pages, limits)
    app = Starlette(
        routes=[
            Route("/ps", routes.ps, methods=["GET"]),
            Route("/cgroups", routes.cgroups, methods=["GET"]),
            Route("/limits", routes.limits, methods=["GET"]),
            Route("/limits", routes.apply, methods=["POST"]),
            Route("/limits/reset", routes.reset, methods=["POST"]),
            Route("/changes", routes.changes, methods=["GET"]),
        ],
        exception_handlers={_RefusedError: _refused, Exception: _failed},
    )
    return _Guard(app, access)
