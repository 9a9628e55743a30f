from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import Struct

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.change import (
    Actor,
    ActorKind,
    Change,
    Key,
    Outcome,
    Report,
    Request,
    Result,
    Target,
    Via,
)
from cgwatch.control import Reset, client, routes, socket_path
from cgwatch.control.client import apply, fetch, fetch_candidates, reset
from cgwatch.control.routes import MOST_BYTES, Limits, NoLimits
from cgwatch.control.server import serve
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import AgentRefusedError, AgentUnreachableError, EnforcerBusyError
from cgwatch.limits.wire import encode
from cgwatch.model import Cgroup, Container, Description, Kind, Owner, Runtime, Sample, Snapshot
from tests.real.dockerd import root_available
from tests.real.needs import require

if TYPE_CHECKING:
    from cgwatch.metrics.pages import LatestPages

WEB = "ab" * 32
PATH = f"/docker/{WEB}"
NOBODY, FRIENDS = 65534, 54321
"""A user and a group that own nothing."""
LIE = Actor(ActorKind.AGENT, "root", 0)


class Deed(Struct, frozen=True):
    """A row of a log."""

    number: int
    container: str | None


class Desk:
    """Notes what it is asked for, and says that it is done; or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[Any] = []
        self.go = threading.Event()
        self.go.set()
        self._error = error

    def apply(self, request: Request, *, timeout_seconds: float) -> Report:
        assert timeout_seconds > 0
        self.asked.append(request)
        assert self.go.wait(30)
        if self._error:
            raise self._error
        done = (
            Outcome(Change(key, None, value, value), Result.APPLIED, Via.CGROUPFS, 1e9, read_back=value)
            for key, value in request.wanted.items()
        )
        return Report(request, tuple(done), number=1)

    def reset(
        self, target: Target, keys: Iterable[Key] | None, actor: Actor, *, timeout_seconds: float
    ) -> Report:
        assert timeout_seconds > 0
        self.asked.append((target, keys, actor))
        return Report(Request(target, {}, actor), ())

    def changes(self, *, since_seconds: float, container: str | None, limit: int) -> Sequence[Struct]:
        self.asked.append((since_seconds, limit))
        return [Deed(1, container)]

    def view(self, target: Target) -> Struct:
        self.asked.append(target)
        return target


def pages() -> LatestPages:
    said = Description(Runtime.DOCKER, WEB, "web", "web:1", {}, "running")
    samples = (
        Sample(Container(Cgroup("/", 1), recognise("/"))),
        Sample(Container(Cgroup(PATH, 7), recognise(PATH), description=said)),
    )
    snapshot = Snapshot(0, 1e9, 1.0, 0.01, samples, Layout.V2)
    return cast("LatestPages", SimpleNamespace(previous=None, snapshot=snapshot))


@contextmanager
def served(desk: Desk | None, group: str | None = None) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        Path(folder).chmod(0o755)
        state_dir = f"{folder}/state"
        server = serve(state_dir, pages(), Limits(desk, desk, desk) if desk else NoLimits("why"), group)
        assert server is not None
        try:
            yield state_dir
        finally:
            if desk:
                desk.go.set()
            server.stop()


def request(path: str = PATH, inode: int = 7, **limits: Any) -> Request:
    owner = Owner(Kind.PLAIN, Runtime.NONE)
    return Request(Target(path, inode, owner, "a lie"), limits or {"memory.max": float("inf")}, LIE, "why")


def post(state_dir: str, body: bytes, place: str = "/limits") -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(30)
        channel.connect(socket_path(state_dir))
        with closing(HTTPConnection("any")) as connection:
            connection.sock = channel
            connection.request("POST", place, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


def test_a_request_is_carried_out_and_its_report_comes_back() -> None:
    desk = Desk()
    with served(desk) as state_dir:
        report = apply(state_dir, request())

    assert [outcome.read_back for outcome in report.outcomes] == [float("inf")]
    assert report.request.wanted == {"memory.max": float("inf")}
    assert desk.asked == [report.request]


def test_who_asks_is_whom_the_kernel_names_and_not_whom_the_request_does() -> None:
    desk = Desk()
    with served(desk) as state_dir:
        apply(state_dir, request())
        reset(state_dir, Reset(request().target, ("memory.max",)))

    me = Actor(ActorKind.COMMAND, pwd.getpwuid(os.geteuid()).pw_name, os.geteuid())
    assert desk.asked[0].actor == desk.asked[1][2] == me
    assert desk.asked[1][1] == ("memory.max",)


def test_whose_a_cgroup_is_follows_from_its_path_and_not_from_the_request() -> None:
    desk = Desk()
    with served(desk) as state_dir:
        apply(state_dir, request())
        apply(state_dir, request("/kubepods/burstable", 8))
        apply(state_dir, request(PATH, 8))

    known, unknown, another = (asked.target for asked in desk.asked)
    assert known == Target(PATH, 7, recognise(PATH), "web")
    assert unknown == Target("/kubepods/burstable", 8, recognise("/kubepods/burstable"))
    assert (another.inode, another.name) == (8, None)  # the one that had the name is gone


@pytest.mark.parametrize("path", ["", "docker", "/../etc", "/a/../../etc", "/a//b", "/a/", "/.", "/a\0b"])
def test_a_path_that_leads_out_of_the_hierarchy_is_refused(path: str) -> None:
    desk = Desk()
    with served(desk) as state_dir, pytest.raises(AgentRefusedError, match=r"at `\$\.target\.path`"):
        apply(state_dir, request(path))
    assert desk.asked == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"nonsense", 400, "Expecting value"),
        (b'{"target": {"path": 5}}', 400, "Expected `str`, got `int` - at `$.target.path`"),
        (b"x" * (MOST_BYTES + 1), 413, f"at most {MOST_BYTES} bytes"),
    ],
)
def test_a_request_that_is_not_understood_is_refused_in_words(body: bytes, status: int, says: str) -> None:
    desk = Desk()
    with served(desk) as state_dir:
        for place in ("/limits", "/limits/reset"):
            found, words = post(state_dir, body, place)
            assert (found, says in words) == (status, True), words
    assert desk.asked == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (EnforcerBusyError("process 5 does"), "the agent says: process 5 does"),
        (TimeoutError(), "cgwatch changes shows what becomes of it"),
        (ValueError("a bug"), "the request failed: ValueError; the agent's log says more"),
    ],
)
def test_what_is_not_done_is_said_in_words(error: Exception, says: str) -> None:
    with served(Desk(error)) as state_dir, pytest.raises(AgentRefusedError) as raised:
        apply(state_dir, request())
    assert says in str(raised.value)


def test_an_agent_that_changes_nothing_says_so() -> None:
    with (
        served(None) as state_dir,
        pytest.raises(AgentRefusedError, match="this agent changes no limits: why"),
    ):
        apply(state_dir, request())


def test_a_slow_write_holds_up_no_other_request_and_a_crowd_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "MOST_WAITING", 1)
    desk = Desk()
    desk.go.clear()
    with served(desk) as state_dir:
        waiting = threading.Thread(target=apply, args=(state_dir, request()))
        waiting.start()
        while not desk.asked:
            waiting.join(0.01)
        assert len(fetch_candidates(state_dir)) == 2
        with pytest.raises(AgentRefusedError, match="1 requests wait already"):
            apply(state_dir, request())
        desk.go.set()
        waiting.join(30)
        assert apply(state_dir, request()).outcomes


def test_a_write_that_hangs_does_not_keep_the_agent_from_ending() -> None:
    code = (
        "import threading, types, sys\n"
        "from cgwatch.control.client import apply\n"
        "from cgwatch.control.routes import Limits\n"
        "from cgwatch.control.server import serve\n"
        "from tests.control.test_limits import pages, request\n"
        "class Hangs:\n"
        "    def apply(self, request, *, timeout_seconds):\n"
        "        asked.set(); threading.Event().wait()\n"
        "asked = threading.Event()\n"
        "server = serve(sys.argv[1], pages(), Limits(Hangs(), None, None))\n"
        "def ask():\n"
        "    try: apply(sys.argv[1], request())\n"
        "    except Exception as error: print(type(error).__name__, flush=True)\n"
        "client = threading.Thread(target=ask)\n"
        "client.start(); asked.wait(30); server.stop(); client.join(30)\n"
    )
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, f"{folder}/state"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    assert (done.returncode, done.stdout) == (0, "AgentUnreachableError\n"), done.stderr


def test_a_client_that_gives_up_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WRITE_SECONDS", 0.1)
    desk = Desk()
    desk.go.clear()
    with served(desk) as state_dir, pytest.raises(AgentUnreachableError, match="cgwatch changes shows"):
        apply(state_dir, request())


def test_the_candidates_are_every_cgroup_with_the_runtimes_names() -> None:
    with served(None) as state_dir:
        found = fetch_candidates(state_dir)
    assert [(each.path, each.name, each.inode) for each in found] == [("/", None, 1), (PATH, "web", 7)]


def test_the_log_is_asked_for_what_the_query_chooses() -> None:
    desk = Desk()
    with served(desk) as state_dir:
        query = {"since": "5.5", "limit": "3", "container": "odd \udcff&="}
        assert fetch(state_dir, "/changes", query, list[Deed]) == [Deed(1, "odd \udcff&=")]
        with pytest.raises(AgentRefusedError, match="are numbers"):
            fetch(state_dir, "/changes", {"since": "yesterday"}, list[Deed])
    assert desk.asked == [(5.5, 3)]


def test_the_limits_of_a_cgroup_are_looked_at_by_its_path() -> None:
    desk = Desk()
    with served(desk) as state_dir:
        known = fetch(state_dir, "/limits", {"path": PATH}, Target)
        assert known == Target(PATH, 7, recognise(PATH), "web")
        odd = fetch(state_dir, "/limits", {"path": "/odd \udcff&"}, Target)
        assert (odd.path, odd.inode) == ("/odd \udcff&", 0)
        with pytest.raises(AgentRefusedError, match="is not a cgroup's"):
            fetch(state_dir, "/limits", {"path": "/.."}, Target)
    assert desk.asked == [known, odd]


# Who may.

_ASK = """
import http.client, os, socket, sys
os.setgroups([int(group) for group in sys.argv[4:]])
os.setgid(65534)
os.setuid(65534)
channel = socket.socket(socket.AF_UNIX)
channel.connect(sys.argv[1])
connection = http.client.HTTPConnection("any")
connection.sock = channel
connection.request(sys.argv[2], sys.argv[3], sys.stdin.buffer.read())
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


def ask_as(state_dir: str, groups: list[int], method: str = "POST", place: str = "/limits") -> str:
    """Ask as somebody else; give what the agent answers, or how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK, socket_path(state_dir), method, place, *map(str, groups)],
        input=encode(request()),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return (done.stdout or done.stderr).decode()


@pytest.mark.real
@pytest.mark.parametrize("place", ["/limits", "/limits/reset"])
def test_a_stranger_is_refused_in_words_even_where_the_sockets_mode_would_let_him_in(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    require(root_available())
    desk = Desk()
    with served(desk) as state_dir:
        assert "PermissionError" in ask_as(state_dir, [])
        Path(state_dir).chmod(0o755)
        Path(socket_path(state_dir)).chmod(0o666)
        said = ask_as(state_dir, [], place=place)
        assert said.startswith("403 user nobody (65534) is neither root nor the agent's user"), said
        assert ask_as(state_dir, [], "GET", "/ps").startswith("403")
    assert [vars(record)["user"] for record in caplog.records] == ["nobody", "nobody"]
    assert desk.asked == []


@pytest.mark.real
def test_a_stranger_who_types_a_verb_is_told_who_may() -> None:
    require(root_available())
    code = (
        "import os, sys\n"
        "from cgwatch.control.client import fetch_candidates\n"
        "from cgwatch.errors import AgentUnreachableError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: fetch_candidates(sys.argv[1])\n"
        "except AgentUnreachableError as error: print(error.nobody, error)\n"
    )
    with served(Desk()) as state_dir:
        done = subprocess.run(
            [sys.executable, "-c", code, state_dir], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.stdout.startswith("False "), done.stderr
    assert "may not be used by this user (Permission denied); try as root" in done.stdout


@pytest.mark.real
def test_the_members_of_the_configured_group_may() -> None:
    require(root_available())
    desk = Desk()
    with served(desk, str(FRIENDS)) as state_dir:
        found = Path(socket_path(state_dir)).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, FRIENDS)
        assert stat.S_IMODE(Path(state_dir).stat().st_mode) == 0o710
        assert ask_as(state_dir, [FRIENDS]).startswith("200 ")
        assert "PermissionError" in ask_as(state_dir, [FRIENDS + 1])
    assert [asked.actor for asked in desk.asked] == [Actor(ActorKind.COMMAND, "nobody", NOBODY)]


@pytest.mark.real
def test_a_group_that_there_is_not_leaves_the_socket_to_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    with served(Desk(), "no-such-group") as state_dir:
        assert stat.S_IMODE(Path(socket_path(state_dir)).stat().st_mode) == 0o600
    assert "the group may not use the control socket" in caplog.text
