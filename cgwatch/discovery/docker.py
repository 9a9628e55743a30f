"""Docker's names for containers, and what happens to them: its API, watched by two threads.

One thread holds the event stream, the other asks (inspect, list, ping) for what the events, the list and the
core name. Whatever the daemon does, nothing raises: a connection that fails is made anew, for ever.

Nothing is lost between two connections: first the events are subscribed to, from the moment of the last one
seen, then all containers are listed. ("From the moment": dockerd sends the headers of its answer *before* it
subscribes, so that alone would leave a gap. It keeps the last 256 events and repeats them.)
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import OrderedDict
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from cgwatch.discovery.agenda import Agenda
from cgwatch.discovery.docker_answers import CONTAINER_ID, cgroup_driver, describe, lifecycle, listed_id
from cgwatch.discovery.runtime import Availability, Described, Forgotten
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from docker import APIClient

    from cgwatch.discovery.runtime import Deliver, Observer

_LIST: Final = "list"
_PING: Final = "ping"
_LONGEST_STOP_SECONDS: Final = 2.0
_REMEMBERED_EVENTS: Final = 1024
"""More than dockerd can repeat."""


class _Connection(Struct, frozen=True):
    client: APIClient
    events: requests.Response
    events_socket: socket.socket


class Pace(Struct, frozen=True):
    """How often a daemon is bothered; each pause doubles from its first to its longest."""

    first_connect_seconds: float = 0.25
    longest_connect_seconds: float = 10.0
    steady_seconds: float = 2.0
    """After a connection that lasted so long the pauses begin anew."""
    first_ask_seconds: float = 1.0
    longest_ask_seconds: float = 60.0
    check_seconds: float = 30.0
    """Between two requests for a mere sign of life, as a daemon that hangs closes nothing."""


class DockerWatcher:
    """Watches one Docker daemon; a ``RuntimeWatcher``.

    ``base_url`` is as in ``DOCKER_HOST``: ``unix:///var/run/docker.sock`` or ``tcp://host:port``. Every
    request but the event stream fails after ``timeout_seconds`` without a byte. ``clock`` is monotonic,
    ``wall_clock`` the epoch's.
    """

    def __init__(
        self,
        base_url: str,
        deliver: Deliver,
        observer: Observer,
        *,
        timeout_seconds: float = 5.0,
        pace: Pace = Pace(),  # noqa: B008 - it is frozen
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._base_url = base_url
        self._deliver = deliver
        self._observer = observer
        self._timeout_seconds = timeout_seconds
        self._pace = pace
        self._clock = clock
        self._wall_clock = wall_clock
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="docker-events", daemon=True),
            threading.Thread(target=self._work, name="docker-describe", daemon=True),
        ]
        # Of the events thread alone.
        self._available: bool | None = None
        self._since_seconds: float | None = None
        self._seen: OrderedDict[tuple[float, str, str], None] = OrderedDict()
        # Of the describing thread alone.
        self._described: set[str] = set()
        self._cgroup_driver: str | None = None
        # Of both and of the callers, under the condition's lock.
        self._changed = threading.Condition()
        self._agenda = Agenda(pace.first_ask_seconds, pace.longest_ask_seconds)
        self._destroyed: dict[str, None] = {}
        self._connection: _Connection | None = None
        self._problem = ""

    def start(self) -> None:
        """Start both threads; call it once."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both threads. One that waits for an answer ends by itself, ``timeout_seconds`` later at most.

        Returns by then, or after two seconds: whoever stops us may not wait as long as a daemon that hangs
        may be waited for, and the threads are daemons that keep no process alive.
        """
        self._stopping.set()
        self._hang_up("stopped")
        deadline = self._clock() + min(self._timeout_seconds + 1.0, _LONGEST_STOP_SECONDS)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - self._clock()))

    def ask(self, container_id: str) -> None:
        """Want a description; while there is no connection this does nothing, as each begins with a list."""
        if not CONTAINER_ID.fullmatch(container_id):
            return
        with self._changed:
            if self._connection and self._agenda.wonder(container_id, self._clock()):
                self._changed.notify_all()

    # The events thread.

    def _watch(self) -> None:
        pause = self._pace.first_connect_seconds
        while not self._stopping.is_set():
            connected_at = None
            try:
                connection = self._connect()
                connected_at = self._clock()
                self._follow(connection)
            except Exception as error:  # noqa: BLE001 - the thread's top: _call counted it, and we try again
                self._disconnect(str(error) or type(error).__name__)
            else:
                self._disconnect("the event stream ended")
            if connected_at is not None and self._clock() - connected_at > self._pace.steady_seconds:
                pause = self._pace.first_connect_seconds
            self._stopping.wait(pause)
            pause = min(2 * pause, self._pace.longest_connect_seconds)

    def _connect(self) -> _Connection:
        """Subscribe to the events; what else is asked comes after."""
        if self._base_url.startswith("unix://"):
            self._knock(self._base_url.removeprefix("unix://"))
        from docker import APIClient  # noqa: PLC0415 - heavy, for those who have a Docker

        if self._since_seconds is None:
            self._since_seconds = self._wall_clock()
        timeout: Any = self._timeout_seconds  # the stubs of docker know whole seconds only
        with ExitStack() as undo:
            with self._call("version"):
                client = APIClient(self._base_url, version="auto", timeout=timeout)
            undo.callback(client.close)
            with self._call("events"):
                events = client.get(
                    f"{client.base_url}/v{client.api_version}/events",
                    params={
                        "since": f"{self._since_seconds:.9f}",
                        "filters": json.dumps({"type": ["container"]}),
                    },
                    stream=True,
                    timeout=timeout,
                )
                undo.callback(events.close)
                events.raise_for_status()
                connection = _Connection(client, events, _socket_of(events))
            undo.pop_all()
        # From here on silence is no failure.
        connection.events_socket.settimeout(None)
        return connection

    def _knock(self, path: str) -> None:
        """Find out whether anybody listens, before docker-py, which would leak a socket."""
        began = self._clock()
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(self._timeout_seconds)
            try:
                channel.connect(path)
            except FileNotFoundError as error:
                # A machine without Docker has no errors to count.
                raise RuntimeUnavailableError("no such socket; is Docker here, and mounted?") from error
            except OSError as error:
                self._observer.call(Runtime.DOCKER, "connect", self._clock() - began, "unreachable")
                raise RuntimeUnavailableError(f"{error}; does Docker run, and may we talk to it?") from error

    def _follow(self, connection: _Connection) -> None:
        """Take events until the stream ends."""
        with self._changed:
            self._connection = connection
            self._agenda.want(_LIST)
            self._agenda.postpone(_PING, self._clock() + self._pace.check_seconds)
            self._changed.notify_all()
        if self._stopping.is_set():
            return
        self._tell(available=True, detail="")
        for line in connection.events.iter_lines(chunk_size=None):
            if line:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = lifecycle(line)
        except RuntimeUnavailableError:
            self._observer.call(Runtime.DOCKER, "event", 0.0, "malformed")
            return
        if event is None:
            return
        key = (event.time_seconds, event.container_id, event.action)
        if key in self._seen:
            return
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED_EVENTS:
            self._seen.popitem(last=False)
        # Two events at once may come in either order, so the next connection begins a little earlier.
        self._since_seconds = event.time_seconds - 1.0
        self._deliver(event)
        with self._changed:
            if event.action == "destroy":
                self._agenda.drop(event.container_id)
                self._destroyed[event.container_id] = None
            else:
                self._agenda.want(event.container_id)
            self._changed.notify_all()

    def _disconnect(self, problem: str) -> None:
        with self._changed:
            connection, self._connection = self._connection, None
            problem, self._problem = self._problem or problem, ""
            self._agenda.clear()
        if connection:
            connection.events.close()
            connection.client.close()
        if not self._stopping.is_set():
            self._tell(available=False, detail=f"{self._base_url}: {problem}")

    def _tell(self, *, available: bool, detail: str) -> None:
        if self._available is not available:
            self._available = available
            self._deliver(Availability(Runtime.DOCKER, available, detail))

    # The describing thread.

    def _work(self) -> None:
        while not self._stopping.is_set():
            client, key, destroyed = self._next()
            for container_id in self._described.intersection(destroyed):
                self._forget(container_id)
            if client is None or key is None:
                continue
            try:
                self._ask(client, key)
            except Exception as error:  # noqa: BLE001 - the thread's top: _call counted it, and we ask again
                if key == _PING:
                    self._hang_up(f"no sign of life: {error}", client)
                else:
                    self._failed(key)

    def _next(self) -> tuple[APIClient | None, str | None, list[str]]:
        """Wait for something to do, or for the end."""
        with self._changed:
            while not self._stopping.is_set():
                now = self._clock()
                client = self._connection.client if self._connection and not self._problem else None
                key = self._agenda.take(now) if client else None
                if key or self._destroyed:
                    destroyed, self._destroyed = list(self._destroyed), {}
                    return client, key, destroyed
                self._changed.wait(self._agenda.wait_seconds(now) if client else None)
        return None, None, []

    def _ask(self, client: APIClient, key: str) -> None:
        if key == _PING:
            with self._call("ping"):
                client.ping()
            with self._changed:
                self._agenda.postpone(_PING, self._clock() + self._pace.check_seconds)
        elif key == _LIST:
            self._list(client)
        else:
            self._inspect(client, key)

    def _list(self, client: APIClient) -> None:
        """Ask for all containers; those that were described and are not there any more are forgotten."""
        with self._call("list"):
            listed = [listed_id(container) for container in client.containers(all=True)]
        self._cgroup_driver = self._ask_for_cgroup_driver(client)
        for _ in range(listed.count(None)):
            self._observer.call(Runtime.DOCKER, "list", 0.0, "malformed")
        # An element that cannot be read may be any container, so then nobody is known to be gone.
        gone = set() if None in listed else self._described.difference(listed)
        for container_id in gone:
            self._forget(container_id)
        with self._changed:
            for container_id in filter(None, listed):
                self._agenda.want(container_id)

    def _ask_for_cgroup_driver(self, client: APIClient) -> str | None:
        """Find out where cgroups are made; some proxies keep that to themselves, and names matter more."""
        from docker.errors import DockerException  # noqa: PLC0415 - loaded already, there is a client

        try:
            with self._call("info"):
                return cgroup_driver(client.info())
        except (DockerException, RuntimeUnavailableError, OSError, ValueError):
            return None

    def _inspect(self, client: APIClient, container_id: str) -> None:
        from docker.errors import NotFound  # noqa: PLC0415 - loaded already, there is a client

        description = None
        with self._call("inspect"), suppress(NotFound):  # not (any more) Docker's: no failure
            description = describe(client.inspect_container(container_id), self._cgroup_driver)
            if description.container_id != container_id:
                raise RuntimeUnavailableError(f"docker inspect {container_id}: it answers for another id")
        if description is None:
            if container_id in self._described:
                self._forget(container_id)
            with self._changed:
                self._agenda.unknown(container_id, self._clock())
            return
        with self._changed:
            self._agenda.answered(container_id, self._clock())
        self._described.add(container_id)
        self._deliver(Described(Runtime.DOCKER, (description,)))

    def _forget(self, container_id: str) -> None:
        self._described.discard(container_id)
        self._deliver(Forgotten(Runtime.DOCKER, container_id))

    def _failed(self, key: str) -> None:
        """Ask again later, and find out whether it is this request alone or the daemon."""
        with self._changed:
            self._agenda.failed(key, self._clock())
            self._agenda.want(_PING, first=True)

    # Both.

    def _hang_up(self, problem: str, client: APIClient | None = None) -> None:
        """End the event stream from outside, if it is still that of ``client``; wakes both threads."""
        with self._changed:
            if self._connection and (client is None or client is self._connection.client):
                self._problem = problem
                with suppress(OSError):  # the daemon was faster
                    self._connection.events_socket.shutdown(socket.SHUT_RDWR)
            self._changed.notify_all()

    @contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        began, error = self._clock(), None
        try:
            yield
        except Exception as problem:
            error = _word(problem)
            raise
        finally:
            self._observer.call(Runtime.DOCKER, operation, self._clock() - began, error)


def _socket_of(response: requests.Response) -> socket.socket:
    """Give the socket of an answer that is still coming, to end it from another thread."""
    connection = response.raw.connection
    if connection is None or connection.sock is None:
        raise RuntimeUnavailableError("the daemon ends its answer to /events; is a proxy between?")
    held: socket.socket = connection.sock
    return held


def _word(error: BaseException) -> str:
    """Say in a word what failed."""
    from docker.errors import APIError, DockerException  # noqa: PLC0415 - loaded already, a call failed
    from requests.exceptions import JSONDecodeError, Timeout  # noqa: PLC0415 - the same

    if isinstance(error, APIError):
        return f"http {error.status_code}"
    if isinstance(error, DockerException) and error.__cause__:
        return _word(error.__cause__)
    if isinstance(error, Timeout):
        return "timeout"
    if isinstance(error, OSError) and not isinstance(error, JSONDecodeError):
        return "unreachable"
    return "malformed"
