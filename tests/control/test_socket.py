from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from cgwatch.cgroup.cpu import CpuStats
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.control import client, socket_path
from cgwatch.control.client import fetch_rows
from cgwatch.control.routes import NoLimits
from cgwatch.control.server import ControlServer, serve
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import AgentUnreachableError, ListenError
from cgwatch.metrics import serving
from cgwatch.model import Cgroup, Container, Sample, Snapshot
from cgwatch.usage import Listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.metrics.pages import LatestPages


def snapshot(at_seconds: float, path: str = "/made") -> Snapshot:
    cgroup = Sample(Container(Cgroup(path, 1), recognise(path)), cpu=CpuStats(usage_seconds=at_seconds / 2))
    return Snapshot(0, 1e9 + at_seconds, at_seconds, 0.01, (cgroup,), Layout.V2)


def pages_of(previous: Snapshot | None, latest: Snapshot | None) -> LatestPages:
    return cast("LatestPages", SimpleNamespace(previous=previous, snapshot=latest))


NONE = NoLimits("for a test")
PAGES = pages_of(snapshot(10.0), snapshot(14.0))


@pytest.fixture
def state_dir() -> Iterator[str]:
    """A directory that is not there yet, with a name short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        yield f"{folder}/state"


@contextmanager
def served(state_dir: str, pages: LatestPages = PAGES) -> Iterator[ControlServer]:
    server = serve(state_dir, pages, NONE)
    assert server is not None
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def listening(state_dir: str) -> Iterator[socket.socket]:
    """Somebody who accepts on the control socket's path and does what the test says."""
    Path(state_dir).mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path(state_dir))
        listener.listen()
        yield listener


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).lstat().st_mode)


def refused(state_dir: str, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Serve where it cannot be; give what the one warning says."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert serve(state_dir, PAGES, NONE) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert vars(record)["path"] == socket_path(state_dir)
    return vars(record)


def test_a_client_gets_what_every_cgroup_uses_and_over_what_time(state_dir: str) -> None:
    with served(state_dir):
        found = fetch_rows(state_dir)

    assert found.interval_seconds == 4.0
    assert [(row.cgroup, row.cpu_ratio) for row in found.rows] == [("/made", 0.5)]


def test_the_first_tick_has_rows_without_rates(state_dir: str) -> None:
    with served(state_dir, pages_of(None, snapshot(10.0))):
        found = fetch_rows(state_dir)

    assert found.interval_seconds is None
    assert [row.cpu_ratio for row in found.rows] == [None]


def test_every_answer_is_of_the_snapshots_of_that_moment(state_dir: str) -> None:
    pages = pages_of(snapshot(10.0), snapshot(14.0))
    with served(state_dir, pages):
        assert [row.cgroup for row in fetch_rows(state_dir).rows] == ["/made"]
        pages.previous, pages.snapshot = pages.snapshot, snapshot(18.0, "/other")
        assert [row.cgroup for row in fetch_rows(state_dir).rows] == ["/other"]


def test_the_rows_are_json_over_http(state_dir: str) -> None:
    with served(state_dir), socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(10)
        channel.connect(socket_path(state_dir))
        connection = HTTPConnection("any")
        connection.sock = channel
        connection.request("GET", "/ps")
        answer = connection.getresponse()

        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        assert msgspec.json.decode(answer.read(), type=Listing).interval_seconds == 4.0


def test_the_state_directory_and_the_socket_are_the_owners_alone(state_dir: str) -> None:
    previous = os.umask(0)
    try:
        with served(state_dir):
            assert (mode(state_dir), mode(socket_path(state_dir))) == (0o700, 0o600)
    finally:
        os.umask(previous)


def test_a_state_directory_that_is_there_keeps_its_mode(state_dir: str) -> None:
    Path(state_dir).mkdir(mode=0o755)

    with served(state_dir):
        assert mode(state_dir) == 0o755


def test_stop_removes_the_socket_and_ends_the_thread(state_dir: str) -> None:
    with served(state_dir):
        assert [thread.name for thread in threading.enumerate()].count("control") == 1

    assert list(Path(state_dir).iterdir()) == []
    assert "control" not in [thread.name for thread in threading.enumerate()]


def test_stop_is_content_where_the_socket_is_gone_already(state_dir: str) -> None:
    with served(state_dir):
        Path(socket_path(state_dir)).unlink()


def test_a_stopped_agents_state_directory_is_free_for_the_next(state_dir: str) -> None:
    for _ in range(2):
        with served(state_dir):
            assert fetch_rows(state_dir).rows


def test_the_socket_of_a_killed_agent_is_replaced(state_dir: str) -> None:
    with listening(state_dir):
        pass
    assert Path(socket_path(state_dir)).is_socket()

    with served(state_dir):
        assert fetch_rows(state_dir).rows


def test_an_agent_in_another_process_that_was_killed_leaves_nothing_in_the_way(state_dir: str) -> None:
    code = (
        "import sys, signal, types\n"
        "from cgwatch.control.routes import NoLimits\n"
        "from cgwatch.control.server import serve\n"
        "assert serve(sys.argv[1], types.SimpleNamespace(previous=None, snapshot=None), NoLimits(''))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, state_dir], stdout=subprocess.PIPE, text=True
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "ready\n"
        assert serve(state_dir, PAGES, NONE) is None
        agent.kill()
        agent.wait(10)

    with served(state_dir):
        assert fetch_rows(state_dir).rows


def test_the_socket_of_a_running_agent_is_not_stolen(
    state_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    with served(state_dir):
        said = refused(state_dir, caplog)

        assert "another agent uses this state directory; give --state-dir another one" in said["problem"]
        assert fetch_rows(state_dir).rows


def test_a_file_that_is_no_socket_is_left_alone(state_dir: str, caplog: pytest.LogCaptureFixture) -> None:
    Path(state_dir).mkdir()
    Path(socket_path(state_dir)).write_text("precious")

    said = refused(state_dir, caplog)

    assert "is no socket: move it away" in said["problem"]
    assert Path(socket_path(state_dir)).read_text() == "precious"


@pytest.mark.parametrize("below", ["file/state", "file", "x" * 120])
def test_where_no_socket_can_be_the_agent_goes_on_and_the_log_says_what_to_do(
    state_dir: str, below: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path(state_dir).mkdir()
    Path(state_dir, "file").touch()

    said = refused(f"{state_dir}/{below}", caplog)

    assert said["problem"].endswith("; give --state-dir another directory that this user may write to")


def test_a_read_only_state_directory_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert "give --state-dir" in refused("/proc/self", caplog)["problem"]


def test_a_server_that_does_not_start_is_a_warning_and_leaves_no_socket_and_no_lock(
    state_dir: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: object) -> None:
        raise ListenError("it did not start")

    with monkeypatch.context() as patched:
        patched.setattr(serving.ServerThread, "start", start)
        assert "it did not start" in refused(state_dir, caplog)["problem"]

    assert list(Path(state_dir).iterdir()) == []
    directory = os.open(state_dir, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(directory)


def test_before_the_first_sample_the_agent_counts_as_none(state_dir: str) -> None:
    with served(state_dir, pages_of(None, None)), pytest.raises(AgentUnreachableError, match="status 503"):
        fetch_rows(state_dir)


def test_without_a_socket_the_client_says_what_to_do(state_dir: str) -> None:
    with pytest.raises(AgentUnreachableError) as raised:
        fetch_rows(state_dir)

    assert str(raised.value) == (
        f"no agent answers on {state_dir}/control.sock (No such file or directory); start one with"
        " cgwatch run, or name the running one's directory with --state-dir"
    )


def test_a_socket_that_nobody_listens_on_is_no_agent(state_dir: str) -> None:
    with listening(state_dir):
        pass

    with pytest.raises(AgentUnreachableError, match="Connection refused"):
        fetch_rows(state_dir)


def test_an_agent_that_hangs_is_no_agent(state_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.05)

    with listening(state_dir), pytest.raises(AgentUnreachableError, match=r"nothing in 0\.05 s"):
        fetch_rows(state_dir)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "Remote end closed"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH-2.0-OpenSSH"),
        (b"HTTP/1.1 200 OK\r\n\r\nnonsense", "of another version of cgwatch"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"rows": [{"name": 1}]}', r"of another version of cgwatch: .*\$\.rows"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "IncompleteRead"),
    ],
)
def test_an_answer_that_is_not_understood_is_no_agent(state_dir: str, answer: bytes, reason: str) -> None:
    with listening(state_dir) as listener:

        def answer_once() -> None:
            channel, _ = listener.accept()
            with channel:
                channel.recv(4096)
                channel.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with pytest.raises(AgentUnreachableError, match=reason):
            fetch_rows(state_dir)
        thread.join(10)


def test_asking_does_not_import_the_http_server() -> None:
    code = (
        "import sys\n"
        "from cgwatch.control.client import fetch_rows\n"
        "try: fetch_rows('/nonexistent')\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print({'starlette', 'uvicorn', 'docker', 'prometheus_client'} & set(sys.modules))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout == "AgentUnreachableError\nset()\n"
