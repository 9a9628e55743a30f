from __future__ import annotations

import contextlib
import errno
import gzip
import logging
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from queue import Queue
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import ListenError
from cgwatch.metrics.landing import PATHS, About, Health
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.server import SCRAPE_THREADS, Scrapes, Server, build_app
from cgwatch.metrics.serving import SEND_SECONDS, ServerThread, open_listener, parse_listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_SECONDS = 20
PAGE = b"# TYPE cgwatch_up gauge\ncgwatch_up 1\n"
BIG_PAGE = b'container_cpu_usage_seconds_total{id="/docker/0123456789abcdef"} 1234.5678\n' * 80_000


class Scrape(NamedTuple):
    handler: str
    exposition: str
    seconds: float
    size_bytes: int
    status: int


class FakePages:
    """The agent, as the server sees it; ``gate`` holds every page back while it is closed."""

    def __init__(self) -> None:
        self.content = PAGE
        self.state = Health(True, True, "last tick 2.1 s ago, interval 5 s")
        self.error: Exception | None = None
        self.rows: tuple[tuple[str, str], ...] = (("Containers", "3"),)
        self.gate = threading.Event()
        self.gate.set()
        self.asked: Queue[tuple[Format, frozenset[str]]] = Queue()
        self.observed: Queue[Scrape] = Queue()

    def page(self, exposition: Format, names: frozenset[str], /) -> tuple[bytes, ...]:
        self.asked.put((exposition, names))
        assert self.gate.wait(WAIT_SECONDS)
        if self.error is not None:
            raise self.error
        return self.content[:10], self.content[10:]

    def compressed(self, exposition: Format, names: frozenset[str], /) -> bytes:
        return gzip.compress(b"".join(self.page(exposition, names)), mtime=0)

    def health(self) -> Health:
        if self.error is not None:
            raise self.error
        return self.state

    def about(self) -> About:
        return About("1.2.3", "node-7", self.rows)

    def observe(self, handler: str, exposition: str, seconds: float, size_bytes: int, status: int, /) -> None:
        self.observed.put(Scrape(handler, exposition, seconds, size_bytes, status))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def pages() -> Iterator[FakePages]:
    fake = FakePages()
    yield fake
    fake.gate.set()


@pytest.fixture
def serve(pages: FakePages) -> Iterator[Callable[..., int]]:
    """Start servers of ``pages``; each gives its port."""
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> int:
            server = Server("127.0.0.1:0", pages, observe=pages.observe, **options)
            stack.callback(server.stop)
            server.start()
            return int(server.address.rpartition(":")[2])

        yield start


@pytest.fixture
def serve_thread(pages: FakePages) -> Iterator[Callable[..., tuple[int, ServerThread]]]:
    """Start server threads with bounds of their own; each gives its port and itself."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))

        def start(send_seconds: float = 30, **options: Any) -> tuple[int, ServerThread]:
            listener = open_listener("127.0.0.1:0")
            port: int = listener.getsockname()[1]
            scrapes = Scrapes(pages, pool, observe=pages.observe, send_seconds=send_seconds)
            thread = ServerThread(build_app(pages, scrapes), listener, **options)
            stack.callback(thread.stop)
            thread.start()
            return port, thread

        yield start
        pages.gate.set()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): headers[name] for name in headers})
        response = connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
    finally:
        connection.close()


def is_one_line(body: bytes) -> bool:
    return body.endswith(b"\n") and body.count(b"\n") == 1


def ended(client: socket.socket) -> bool:
    """Read until the server has closed the connection."""
    with contextlib.suppress(ConnectionResetError):
        while client.recv(1 << 20):
            pass
    return True


# -- scrapes


@pytest.mark.parametrize("path", ["/metrics", "/metrics/cadvisor"])
def test_both_paths_of_the_metrics_give_the_whole_page(
    serve: Callable[..., int], pages: FakePages, path: str
) -> None:
    answer = ask(serve(), path)
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["content-length"] == str(len(PAGE))
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert "content-encoding" not in answer.headers
    assert pages.asked.get_nowait() == (Format.TEXT, frozenset())


def test_the_accept_header_chooses_openmetrics(serve: Callable[..., int], pages: FakePages) -> None:
    answer = ask(serve(), "/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert pages.asked.get_nowait() == (Format.OPENMETRICS, frozenset())


def test_head_tells_the_length_without_the_page(serve: Callable[..., int], pages: FakePages) -> None:
    answer = ask(serve(), "/metrics", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len(PAGE)))
    assert pages.observed.get(timeout=WAIT_SECONDS).size_bytes == 0


def test_name_parameters_ask_for_some_families_only(serve: Callable[..., int], pages: FakePages) -> None:
    ask(serve(), "/metrics?name[]=container_oom_events_total&name%5B%5D=cgwatch_up&name[]=&other=x")
    assert pages.asked.get_nowait()[1] == {"container_oom_events_total", "cgwatch_up"}


def test_a_client_that_takes_gzip_gets_it(serve: Callable[..., int], pages: FakePages) -> None:
    pages.content = BIG_PAGE
    answer = ask(serve(), "/metrics", Accept_Encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(answer.body) < len(BIG_PAGE) / 10
    assert gzip.decompress(answer.body) == BIG_PAGE


def test_a_client_that_refuses_gzip_gets_the_page_as_it_is(serve: Callable[..., int]) -> None:
    answer = ask(serve(), "/metrics", Accept_Encoding="gzip;q=0, *")
    assert answer.body == PAGE
    assert "content-encoding" not in answer.headers


def test_compression_can_be_turned_off(serve: Callable[..., int]) -> None:
    answer = ask(serve(compression=False), "/metrics", Accept_Encoding="gzip")
    assert answer.body == PAGE


def test_every_scrape_is_observed(serve: Callable[..., int], pages: FakePages) -> None:
    times = iter([100.0, 100.25])
    port = serve(clock=lambda: next(times))
    ask(port, "/metrics/cadvisor", Accept="application/openmetrics-text")
    scrape = pages.observed.get(timeout=WAIT_SECONDS)
    assert scrape == Scrape("/metrics/cadvisor", "openmetrics", 0.25, len(PAGE), 200)


def test_a_page_that_raises_is_a_logged_observed_500_and_the_next_is_served(
    serve: Callable[..., int], pages: FakePages, caplog: pytest.LogCaptureFixture
) -> None:
    port = serve()
    pages.error = ValueError("a secret of the agent")
    answer = ask(port, "/metrics")
    assert answer.status == 500
    assert is_one_line(answer.body)
    assert b"ValueError" in answer.body
    assert b"secret" not in answer.body
    assert pages.observed.get(timeout=WAIT_SECONDS).status == 500
    assert "a secret of the agent" in caplog.text
    pages.error = None
    assert ask(port, "/metrics").body == PAGE


def test_a_scrape_above_the_bound_is_told_to_come_again(serve: Callable[..., int], pages: FakePages) -> None:
    port = serve(max_requests=1)
    pages.gate.clear()
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(ask, port, "/metrics")
        pages.asked.get(timeout=WAIT_SECONDS)
        refused = ask(port, "/metrics")
        pages.gate.set()
        assert first.result(WAIT_SECONDS).body == PAGE
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert is_one_line(refused.body)
    assert {pages.observed.get(timeout=WAIT_SECONDS).status for _ in range(2)} == {200, 503}
    assert ask(port, "/metrics").status == 200


def test_twenty_scrapes_of_a_large_page_do_not_starve_a_probe(
    serve: Callable[..., int], pages: FakePages
) -> None:
    pages.content = BIG_PAGE
    port = serve()
    pages.gate.clear()
    with ThreadPoolExecutor(20) as clients:
        scrapes = [clients.submit(ask, port, "/metrics", Accept_Encoding="gzip") for _ in range(20)]
        for _ in range(SCRAPE_THREADS):
            pages.asked.get(timeout=WAIT_SECONDS)
        assert ask(port, "/-/healthy").status == 200  # every worker is held
        assert not any(scrape.done() for scrape in scrapes)
        pages.gate.set()
        assert ask(port, "/-/healthy").status == 200  # every worker compresses
        assert all(gzip.decompress(scrape.result(WAIT_SECONDS).body) == BIG_PAGE for scrape in scrapes)


# -- the small pages


@pytest.mark.parametrize(
    ("path", "health", "expected"),
    [
        ("/-/healthy", Health(True, False, "last tick 2.1 s ago"), (200, b"alive: last tick 2.1 s ago\n")),
        ("/-/healthy", Health(False, True, "last tick 99 s ago"), (503, b"not alive: last tick 99 s ago\n")),
        ("/-/ready", Health(False, True, "last tick 2.1 s ago"), (200, b"ready: last tick 2.1 s ago\n")),
        ("/-/ready", Health(True, False, "no tick yet"), (503, b"not ready: no tick yet\n")),
        ("/healthz", Health(True, False, "no tick yet"), (200, b"ok")),
        ("/healthz", Health(False, True, "last tick 99 s ago"), (503, b"not alive")),
    ],
)
def test_a_probe_tells_the_state_it_is_named_after(
    serve: Callable[..., int], pages: FakePages, path: str, health: Health, expected: tuple[int, bytes]
) -> None:
    pages.state = health
    answer = ask(serve(), path)
    assert (answer.status, answer.body) == expected


def test_a_probe_that_raises_is_one_line_and_the_server_goes_on(
    serve_thread: Callable[..., tuple[int, ServerThread]], pages: FakePages, caplog: pytest.LogCaptureFixture
) -> None:
    port, thread = serve_thread()
    pages.error = ValueError("a secret of the agent")
    answer = ask(port, "/-/healthy")
    assert answer.status == 500
    assert is_one_line(answer.body)
    assert b"secret" not in answer.body
    pages.error = None
    assert ask(port, "/-/healthy").status == 200
    thread.stop()
    assert "a secret of the agent" in caplog.text


def test_the_landing_page_shows_the_rows_and_links_to_the_pages(
    serve: Callable[..., int], pages: FakePages
) -> None:
    pages.rows = (("Interval", "5 s"), ("Containers", "42"))
    answer = ask(serve(), "/")
    text = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<th scope="row">Interval</th><td>5 s</td>' in text
    assert '<th scope="row">Containers</th><td>42</td>' in text
    assert "1.2.3 on node-7" in text
    assert all(f'<a href="{path}">' in text for path in ("/metrics", "/-/healthy", "/-/ready"))


def test_the_landing_page_escapes_what_it_shows_and_loads_nothing(
    serve: Callable[..., int], pages: FakePages
) -> None:
    pages.rows = (("<b>$version", '"><script>alert(1)</script>&'),)
    answer = ask(serve(), "/")
    text = answer.body.decode()
    assert "<script" not in text
    assert "&lt;b&gt;$version" in text
    assert "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/-/", "/%2e%2e/etc/passwd"])
def test_an_unknown_path_is_told_which_there_are(serve: Callable[..., int], path: str) -> None:
    answer = ask(serve(), path)
    assert answer.status == 404
    assert is_one_line(answer.body)
    assert all(known in answer.body.decode().split() for known in PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_pages_are_only_read(serve: Callable[..., int], path: str) -> None:
    answer = ask(serve(), path, "POST")
    assert answer.status == 405
    assert is_one_line(answer.body)
    assert answer.headers["allow"] == "GET, HEAD"
    assert all(known in answer.body.decode().split() for known in PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_every_page_takes_head_and_is_not_to_be_stored(serve: Callable[..., int], path: str) -> None:
    port = serve()
    whole, head = ask(port, path), ask(port, path, "HEAD")
    assert (head.status, head.body) == (whole.status, b"")
    assert head.headers["content-length"] == str(len(whole.body))
    assert whole.headers["cache-control"] == "no-store"


# -- clients that misbehave


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAccept: " + b"text/plain," * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["no HTTP", "a header of 1 MB", "a path of 1 MB"],
)
def test_a_request_that_is_malformed_or_too_large_is_refused_and_the_next_is_served(
    serve: Callable[..., int], request_bytes: bytes
) -> None:
    port = serve()
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request_bytes)
        assert ended(client)
    assert ask(port, "/metrics").status == 200


def test_a_client_that_does_not_read_holds_nobody_up_and_is_cut_off(
    serve_thread: Callable[..., tuple[int, ServerThread]], pages: FakePages, caplog: pytest.LogCaptureFixture
) -> None:
    pages.content = BIG_PAGE * 4
    port, _ = serve_thread(send_seconds=0.2)
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        pages.asked.get(timeout=WAIT_SECONDS)
        assert ask(port, "/-/healthy").status == 200
        assert pages.observed.get(timeout=WAIT_SECONDS).seconds >= 0.2
        assert ended(client)
    assert "did not take its page" in caplog.text


def test_a_client_that_leaves_in_the_middle_frees_its_place(
    serve: Callable[..., int], pages: FakePages
) -> None:
    pages.content = BIG_PAGE * 4
    port = serve(max_requests=1)
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000)
    pages.observed.get(timeout=WAIT_SECONDS)
    assert ask(port, "/metrics").status == 200


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /metrics HTTP/1.1\r\nHost: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["nothing", "half a request", "one request"],
)
def test_a_connection_without_a_further_request_is_closed(
    serve_thread: Callable[..., tuple[int, ServerThread]], sent: bytes
) -> None:
    port, _ = serve_thread(keep_alive_seconds=1)
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        client.sendall(sent)
        assert ended(client)


def test_a_connection_is_kept_from_one_scrape_to_the_next(serve: Callable[..., int]) -> None:
    connection = HTTPConnection("127.0.0.1", serve(), timeout=WAIT_SECONDS)
    connection.request("GET", "/metrics")
    connection.getresponse().read()
    first = connection.sock
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.read() == PAGE
    assert connection.sock is first
    connection.close()


def test_a_connection_above_the_bound_is_turned_away(
    serve_thread: Callable[..., tuple[int, ServerThread]],
) -> None:
    port, _ = serve_thread(max_connections=1)
    connection = HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b"ok"
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as second:
        assert ended(second)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b"ok"
    connection.close()


# -- starting and stopping


def test_a_scrape_under_way_is_finished_before_the_server_stops(pages: FakePages) -> None:
    server = Server("127.0.0.1:0", pages)
    server.start()
    port = int(server.address.rpartition(":")[2])
    pages.gate.clear()
    with ThreadPoolExecutor(2) as clients:
        scrape = clients.submit(ask, port, "/metrics")
        pages.asked.get(timeout=WAIT_SECONDS)
        stopping = clients.submit(server.stop)
        pages.gate.set()
        stopping.result(WAIT_SECONDS)
        assert scrape.result(WAIT_SECONDS).body == PAGE
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/metrics")


def test_a_scrape_that_never_ends_does_not_keep_the_server_from_stopping(
    serve_thread: Callable[..., tuple[int, ServerThread]], pages: FakePages
) -> None:
    port, thread = serve_thread(grace_seconds=0.2)
    pages.gate.clear()
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        pages.asked.get(timeout=WAIT_SECONDS)
        thread.stop()
        assert not thread.running
        assert ended(client)


def test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping(
    serve_thread: Callable[..., tuple[int, ServerThread]], pages: FakePages
) -> None:
    pages.content = BIG_PAGE * 4
    port, thread = serve_thread(grace_seconds=0.2)
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000)
        thread.stop()
        assert not thread.running
        assert ended(client)
    assert pages.observed.get_nowait().status == 200  # let go, not cancelled


def test_an_idle_client_does_not_keep_the_server_from_stopping() -> None:
    server = Server("127.0.0.1:0", FakePages())
    server.start()
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        server.stop()
        assert ended(client)
    again = Server(f"127.0.0.1:{port}", FakePages())
    again.bind()
    again.stop()


def test_stopping_is_harmless_at_any_time(pages: FakePages) -> None:
    never_bound = Server("127.0.0.1:0", pages)
    never_bound.stop()
    never_started = Server("127.0.0.1:0", pages)
    never_started.bind()
    never_started.stop()
    never_started.stop()
    stopped_twice = Server("127.0.0.1:0", pages)
    stopped_twice.start()
    stopped_twice.stop()
    stopped_twice.stop()


def test_signals_and_logging_stay_as_the_agent_set_them(serve: Callable[..., int]) -> None:
    def settings() -> tuple[object, ...]:
        names = ("", "uvicorn", "uvicorn.error")
        loggers = [logging.getLogger(name) for name in names]
        return (
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers],
        )

    before = settings()
    ask(serve(), "/metrics")
    assert settings() == before


def test_the_server_takes_one_thread_and_a_small_pool(serve: Callable[..., int]) -> None:
    before = set(threading.enumerate())
    port = serve()
    with ThreadPoolExecutor(8, thread_name_prefix="client") as clients:
        answers = list(clients.map(lambda _: ask(port, "/metrics"), range(40)))
        taken = {t.name for t in set(threading.enumerate()) - before if not t.name.startswith("client")}
    assert all(answer.status == 200 for answer in answers)
    assert len(taken) == 1 + SCRAPE_THREADS


def test_a_server_that_cannot_run_says_so_when_it_is_started(
    pages: FakePages, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor(1) as pool:
        listener = open_listener("127.0.0.1:0")
        listener.close()
        thread = ServerThread(build_app(pages, Scrapes(pages, pool)), listener)
        with pytest.raises(ListenError, match="did not start"):
            thread.start()
        thread.stop()
    assert "the HTTP server ended" in caplog.text


def test_an_app_can_be_served_on_a_unix_socket(pages: FakePages, tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with ThreadPoolExecutor(1) as pool:
        thread = ServerThread(build_app(pages, Scrapes(pages, pool)), listener, name="control")
        thread.start()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_SECONDS)
            client.connect(path)
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            response = HTTPResponse(client)
            response.begin()
            assert response.read() == b"ok"
            response.close()
        thread.stop()


# -- the address


def test_the_address_is_known_and_taken_once_it_is_bound(pages: FakePages) -> None:
    server = Server("127.0.0.1:0", pages)
    server.bind()
    try:
        host, port = parse_listen(server.address)
        assert host == "127.0.0.1"
        assert port > 0
        assert server.url == f"http://127.0.0.1:{port}/"
        other = Server(server.address, pages)
        with pytest.raises(ListenError) as caught:
            other.bind()
        other.stop()
        assert str(caught.value) == (
            f"{server.address} is in use; stop the other program or give --listen another address"
        )
    finally:
        server.stop()


def test_no_host_is_every_address(pages: FakePages) -> None:
    server = Server(":0", pages)
    server.start()
    try:
        _, port = parse_listen(server.address)
        assert server.url == f"http://127.0.0.1:{port}/"
        assert ask(port, "/healthz").body == b"ok"
        if socket.has_dualstack_ipv6():
            socket.create_connection(("::1", port), WAIT_SECONDS).close()
    finally:
        server.stop()


def test_connections_answer_without_delay_and_end_when_the_client_takes_nothing() -> None:
    with (
        open_listener("127.0.0.1:0") as listener,
        socket.create_connection(listener.getsockname(), WAIT_SECONDS),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SEND_SECONDS * 1000


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_in_brackets(pages: FakePages) -> None:
    server = Server("[::1]:0", pages)
    server.bind()
    try:
        assert server.address.startswith("[::1]:")
        assert server.url == f"http://{server.address}/"
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9753", ("127.0.0.1", 9753)),
        ("[::1]:9753", ("::1", 9753)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (":9753", ("", 9753)),
        ("localhost:0", ("localhost", 0)),
        ("node-7.example:65535", ("node-7.example", 65535)),
    ],
)
def test_an_address_to_listen_on_is_host_and_port(listen: str, expected: tuple[str, int]) -> None:
    assert parse_listen(listen) == expected


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "9753",
        "127.0.0.1",
        "127.0.0.1:",
        "::1:9753",
        "[::1]",
        "[]:1",
        ":65536",
        ":-1",
        "a b:1",
        "http://a:1",
    ],
)
def test_another_notation_is_refused_with_the_right_one(listen: str) -> None:
    with pytest.raises(ListenError, match=r"--listen as 127\.0\.0\.1:9753") as caught:
        parse_listen(listen)
    assert repr(listen) in str(caught.value)


@given(st.text() | st.from_regex(r"\[?[a-z0-9:.]{0,20}\]?:[0-9]{0,6}", fullmatch=True))
def test_any_text_is_an_address_or_an_error_that_names_it(listen: str) -> None:
    try:
        _, port = parse_listen(listen)
    except ListenError as error:
        assert repr(listen) in str(error)  # noqa: PT017  # hypothesis gives both kinds
    else:
        assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("listen", "advice"),
    [
        ("192.0.2.1:9753", "is no address of this machine"),
        ("no-such-host.invalid:9753", "does not resolve"),
        (f"{'a' * 64}.invalid:9753", "does not resolve"),
    ],
)
def test_an_address_that_cannot_be_had_says_what_to_do(listen: str, advice: str) -> None:
    with pytest.raises(ListenError, match=advice) as caught:
        open_listener(listen)
    assert str(caught.value).startswith(listen)
    assert "give --listen" in str(caught.value)


def test_a_port_that_needs_privileges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)  # root may bind any port
    with pytest.raises(ListenError, match="CAP_NET_BIND_SERVICE"):
        open_listener("127.0.0.1:80")
