"""A Docker daemon in a thread: six paths of the API on a unix socket, and every kind of bad behaviour."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

API = "/v1.41"


def container_id(number: int) -> str:
    return f"{number:064x}"


def inspection(number: int, **more: Any) -> dict[str, Any]:
    return {"Id": container_id(number), "Name": f"/name-{number}", "Config": {"Image": "image:1"}, **more}


def event(action: str, number: int, time_nano: int | None = None, **attributes: str) -> dict[str, Any]:
    moment = time.time_ns() if time_nano is None else time_nano
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": container_id(number), "Attributes": attributes},
        "time": moment // 10**9,
        "timeNano": moment,
    }


class FakeDocker:
    """Set ``containers``, ``emit`` events, ``freeze`` it; ``stop`` and ``start`` it as often as wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.containers: dict[str, object] = {}
        """Answers by id; an ``int`` is an HTTP status, an ``Event`` holds the answer back till it is set."""
        self.list_answer: object | None = None
        """If set, in place of the ids above."""
        self.info: object = {"CgroupDriver": "cgroupfs"}
        """An ``int`` is an HTTP status."""
        self.history: list[tuple[int, bytes]] = []
        """Events that are repeated to those who ask for them by ``since``."""
        self.thawed = threading.Event()
        self.thawed.set()
        self._requests: list[str] = []
        self._changed = threading.Condition()
        self._streams: list[queue.SimpleQueue[bytes | None]] = []
        self._server: _Server | None = None

    def add(self, *numbers: int, **more: Any) -> None:
        for number in numbers:
            self.containers[container_id(number)] = inspection(number, **more)

    def remove(self, number: int) -> None:
        del self.containers[container_id(number)]

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = _Server(self)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def stop(self) -> None:
        """End as a killed daemon does: every connection ends, and the socket's file stays behind."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.stopped.set()
        self.thawed.set()
        self._end_streams()
        server.server_close()

    def freeze(self) -> None:
        """Do as a daemon does after SIGSTOP: connections are made, and nothing is ever answered."""
        self.thawed.clear()

    def emit(self, *events: dict[str, Any] | bytes) -> None:
        """Send events to every stream, and keep them for those who come later."""
        for each in events:
            line = each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n"
            with self._changed:
                if isinstance(each, dict):
                    self.history.append((each["timeNano"], line))
                for stream in self._streams:
                    stream.put(line)

    def requests(self, ending: str = "") -> list[str]:
        """Every path that was asked so far, with its query."""
        with self._changed:
            return [path for path in self._requests if path.partition("?")[0].endswith(ending)]

    def inspections(self, number: int) -> int:
        return len(self.requests(f"/containers/{container_id(number)}/json"))

    def wait_for_requests(self, ending: str, count: int, timeout_seconds: float = 10) -> None:
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.requests(ending)) >= count, timeout_seconds)
        assert arrived, f"{len(self.requests(ending))} of {count} requests for {ending}"

    def wait_for_stream(self, timeout_seconds: float = 10) -> None:
        """Wait until somebody is subscribed: like a daemon, the fake sends its headers before that."""
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self._streams), timeout_seconds), "nobody subscribed"

    def note(self, path: str) -> None:
        with self._changed:
            self._requests.append(path)
            self._changed.notify_all()

    def subscribe(self, since_nano: int) -> queue.SimpleQueue[bytes | None]:
        stream: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with self._changed:
            for moment, line in self.history:
                if moment >= since_nano:
                    stream.put(line)
            self._streams.append(stream)
            self._changed.notify_all()
        return stream

    def _end_streams(self) -> None:
        with self._changed:
            for stream in self._streams:
                stream.put(None)
            self._streams.clear()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, daemon: FakeDocker) -> None:
        self.daemon = daemon
        self.stopped = threading.Event()
        super().__init__(str(daemon.path), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that went away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        daemon = self.server.daemon
        daemon.note(self.path)
        daemon.thawed.wait()
        address = urlsplit(self.path)
        if self.server.stopped.is_set():
            self.close_connection = True
        elif address.path == "/version":
            self._answer(200, {"ApiVersion": "1.41"})
        elif address.path == f"{API}/_ping":
            self._answer(200, "OK")
        elif address.path == f"{API}/containers/json":
            listed = (
                [{"Id": each} for each in daemon.containers]
                if daemon.list_answer is None
                else daemon.list_answer
            )
            self._answer(listed if isinstance(listed, int) else 200, listed)
        elif address.path == f"{API}/info":
            self._answer(daemon.info if isinstance(daemon.info, int) else 200, daemon.info)
        elif address.path == f"{API}/events":
            self._events(int(float(parse_qs(address.query)["since"][0]) * 1e9))
        else:
            self._inspect(address.path.split("/")[-2])

    def _inspect(self, asked: str) -> None:
        daemon = self.server.daemon
        answer = daemon.containers.get(asked, 404)
        if isinstance(answer, threading.Event):
            answer.wait()
            answer = inspection(int(asked, 16))
        self._answer(answer if isinstance(answer, int) else 200, answer)

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content if status == 200 else {"message": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self, since_nano: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        stream = self.server.daemon.subscribe(since_nano)
        self.close_connection = True
        with suppress(OSError):
            while (line := stream.get()) is not None:
                self.server.daemon.thawed.wait()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def log_message(self, *args: object) -> None:
        """Say nothing."""
