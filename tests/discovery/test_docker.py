from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.discovery.docker import DockerWatcher, Pace
from cgwatch.discovery.docker_answers import describe, lifecycle, listed_id
from cgwatch.discovery.runtime import Availability, Described, Forgotten, Lifecycle, Message
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Description, Runtime
from tests.discovery.fake_docker import FakeDocker, container_id, event, inspection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cgwatch.discovery.runtime import RuntimeWatcher

M = TypeVar("M", bound=Message)

FAST = Pace(
    first_connect_seconds=0.01,
    longest_connect_seconds=0.05,
    first_ask_seconds=0.02,
    longest_ask_seconds=0.1,
)
PATIENCE_SECONDS = 15


class Inbox:
    """What the watcher delivered and what it told the observer, in order."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.calls: list[tuple[str, str | None]] = []
        self._changed = threading.Condition()

    def deliver(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def call(self, runtime: str, operation: str, seconds: float, error: str | None) -> None:
        assert runtime == "docker"
        assert seconds >= 0
        with self._changed:
            self.calls.append((operation, error))
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_SECONDS), (self.messages, self.calls)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def names(self) -> dict[str, str]:
        """The names by id, as the core would have them now."""
        names: dict[str, str] = {}
        for message in self.messages:
            if isinstance(message, Described):
                names.update({each.container_id: each.name for each in message.descriptions})
            elif isinstance(message, Forgotten):
                names.pop(message.container_id, None)
        return names

    def wait_for_names(self, *numbers: int) -> None:
        expected = {container_id(number): f"name-{number}" for number in numbers}
        self.wait_for(lambda: self.names() == expected)

    def availability(self) -> list[bool]:
        return [message.available for message in self.of(Availability)]

    def actions(self) -> list[str]:
        return [message.action for message in self.of(Lifecycle)]


class Watched:
    def __init__(self, path: Path) -> None:
        self.docker = FakeDocker(path)
        self.inbox = Inbox()
        self.watchers: list[DockerWatcher] = []

    def watch(self, pace: Pace = FAST, timeout_seconds: float = 0.3) -> DockerWatcher:
        watcher = DockerWatcher(
            self.docker.url, self.inbox.deliver, self.inbox, timeout_seconds=timeout_seconds, pace=pace
        )
        self.watchers.append(watcher)
        watcher.start()
        return watcher


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "docker.sock")
    yield watched
    for watcher in watched.watchers:
        watcher.stop()
    watched.docker.stop()
    assert not watcher_threads()
    # What was left open is found here and not in another test.
    gc.collect()


def watcher_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("docker-")]


def test_the_watcher_is_what_the_core_takes_for_one(watched: Watched) -> None:
    watcher: RuntimeWatcher = watched.watch()
    assert isinstance(watcher, DockerWatcher)


# Names come, go and come back.


def test_every_container_is_described_also_one_that_does_not_run(watched: Watched) -> None:
    watched.docker.add(1, State={"Status": "running", "Running": True, "Pid": 7})
    watched.docker.add(2, State={"Status": "exited", "ExitCode": 3, "FinishedAt": "2024-01-01T00:00:00Z"})
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1, 2)
    described = {each.name: each for message in watched.inbox.of(Described) for each in message.descriptions}
    assert (described["name-1"].state, described["name-1"].pid) == ("running", 7)
    assert (described["name-2"].state, described["name-2"].exit_code) == ("exited", 3)
    assert watched.inbox.availability() == [True]


def cgroup_paths(watched: Watched) -> list[str | None]:
    """Give where the cgroup of the one container is, as each description of it said."""
    return [each.cgroup_path for message in watched.inbox.of(Described) for each in message.descriptions]


def test_where_a_cgroup_will_be_follows_from_the_daemons_driver(watched: Watched) -> None:
    watched.docker.info = {"CgroupDriver": "systemd"}
    watched.docker.add(1)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1)
    assert cgroup_paths(watched) == [f"/system.slice/docker-{container_id(1)}.scope"]


@pytest.mark.parametrize("info", [403, 500, {"CgroupDriver": 7}, [], None])
def test_a_daemon_that_keeps_its_driver_to_itself_still_gives_the_names(
    info: object, watched: Watched
) -> None:
    watched.docker.info = info
    watched.docker.add(1)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1)
    assert cgroup_paths(watched) == [None]
    assert watched.inbox.availability() == [True]


def test_events_are_subscribed_to_before_the_containers_are_listed(watched: Watched) -> None:
    watched.docker.start()
    watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    assert [path.partition("?")[0] for path in watched.docker.requests()][:3] == [
        "/version",
        "/v1.41/events",
        "/v1.41/containers/json",
    ]
    assert "&all=1&" in watched.docker.requests("/containers/json")[0]


def test_an_event_from_before_the_subscription_took_effect_is_not_lost(watched: Watched) -> None:
    """The daemon sends its headers before it subscribes; ``since`` is from before the request."""
    subscribe = watched.docker.subscribe

    def late(since_nano: int) -> Any:
        if not watched.docker.history:
            watched.docker.add(1)
            watched.docker.emit(event("create", 1))
        return subscribe(since_nano)

    watched.docker.subscribe = late  # type: ignore[method-assign]  # a daemon that is slow to subscribe
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1)
    watched.inbox.wait_for(lambda: watched.inbox.actions() == ["create"])


def test_a_daemon_that_starts_later_is_found(watched: Watched) -> None:
    watched.watch()
    watched.inbox.wait_for(lambda: watched.inbox.availability() == [False])
    assert "no such socket" in watched.inbox.of(Availability)[0].detail
    watched.docker.add(1)
    watched.docker.start()
    watched.inbox.wait_for_names(1)
    assert watched.inbox.availability() == [False, True]


def test_a_socket_that_a_killed_daemon_left_behind_is_no_daemon(watched: Watched) -> None:
    watched.docker.add(1)
    watched.docker.start()
    watched.docker.stop()
    assert watched.docker.path.exists()
    watched.watch()
    watched.inbox.wait_for(lambda: watched.inbox.calls.count(("connect", "unreachable")) >= 3)
    assert watched.inbox.availability() == [False]
    assert "refused" in watched.inbox.of(Availability)[0].detail
    watched.docker.start()
    watched.inbox.wait_for_names(1)


def test_docker_is_not_imported_where_there_is_no_socket(tmp_path: Path) -> None:
    program = f"""
import sys, threading
from cgwatch.discovery.docker import DockerWatcher
told = threading.Event()
watcher = DockerWatcher("unix://{tmp_path}/none.sock", lambda message: told.set(), None)
watcher.start()
assert told.wait(10)
watcher.stop()
sys.exit(bool({{"docker", "requests"}} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_names_survive_a_restart_and_what_vanished_meanwhile_is_forgotten(watched: Watched) -> None:
    watched.docker.add(1, 2)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1, 2)
    watched.docker.stop()
    watched.inbox.wait_for(lambda: watched.inbox.availability() == [True, False])
    watched.docker.remove(1)
    watched.docker.add(3)
    watched.docker.start()
    watched.inbox.wait_for_names(2, 3)
    assert watched.inbox.of(Forgotten) == [Forgotten(Runtime.DOCKER, container_id(1))]
    assert watched.inbox.availability() == [True, False, True]


def test_what_happened_between_two_connections_is_told_once(watched: Watched) -> None:
    watched.docker.add(1)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1)
    watched.docker.emit(event("start", 1))
    watched.inbox.wait_for(lambda: watched.inbox.actions() == ["start"])
    watched.docker.stop()
    watched.inbox.wait_for(lambda: not watched.inbox.availability()[-1])
    watched.docker.emit(event("oom", 1), event("die", 1, exitCode="137"))
    watched.docker.start()
    watched.inbox.wait_for(lambda: len(watched.inbox.actions()) > 2)
    watched.docker.emit(event("destroy", 1))
    watched.inbox.wait_for(lambda: "destroy" in watched.inbox.actions())
    assert watched.inbox.actions() == ["start", "oom", "die", "destroy"]
    assert watched.inbox.of(Lifecycle)[2].exit_code == 137


def test_a_container_is_described_when_it_is_made_and_forgotten_when_it_is_removed(watched: Watched) -> None:
    watched.docker.start()
    watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    watched.docker.add(1)
    watched.docker.emit(event("create", 1))
    watched.inbox.wait_for_names(1)
    watched.docker.containers[container_id(1)] = inspection(1, Name="/other")
    watched.docker.emit(event("rename", 1, oldName="/name-1"))
    watched.inbox.wait_for(lambda: watched.inbox.names() == {container_id(1): "other"})
    watched.docker.remove(1)
    watched.docker.emit(event("destroy", 1))
    watched.inbox.wait_for_names()
    assert watched.inbox.actions() == ["create", "rename", "destroy"]


def test_a_container_whose_removal_nobody_told_is_forgotten_when_it_is_asked_for(watched: Watched) -> None:
    watched.docker.add(1)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1)
    watched.docker.remove(1)
    watched.docker.emit(event("die", 1))
    watched.inbox.wait_for_names()


# Docker is not asked more than is good for it.


def test_requests_for_the_same_container_are_one_request(watched: Watched) -> None:
    gate = threading.Event()
    watched.docker.containers[container_id(1)] = gate
    watched.docker.add(2)
    watched.docker.start()
    watcher = watched.watch(timeout_seconds=PATIENCE_SECONDS)
    watched.docker.wait_for_requests(f"{container_id(1)}/json", 1)
    # While the first is under way: many events and questions, and one event of which we see the end.
    watched.docker.emit(*(event("update", 1, number) for number in range(20)))
    watched.inbox.wait_for(lambda: len(watched.inbox.actions()) == 20)
    for _ in range(100):
        watcher.ask(container_id(1))
    gate.set()
    watched.docker.emit(event("update", 2))
    watched.inbox.wait_for_names(1, 2)
    watched.inbox.wait_for(lambda: len(watched.inbox.of(Described)) >= 3)
    # The second is for the events, as the first answer may be older than they are.
    watched.docker.wait_for_requests(f"{container_id(1)}/json", 2)
    assert watched.docker.inspections(1) == 2


def test_an_id_that_nobody_described_is_asked_for(watched: Watched) -> None:
    watched.docker.start()
    watcher = watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    watched.docker.add(1)
    watcher.ask(container_id(1))
    watched.inbox.wait_for_names(1)


def test_an_id_that_docker_does_not_know_is_not_asked_for_at_every_turn(watched: Watched) -> None:
    watched.docker.start()
    watcher = watched.watch(Pace(first_ask_seconds=3600))
    watched.docker.wait_for_requests("/containers/json", 1)
    watcher.ask(container_id(1))
    watched.inbox.wait_for(lambda: ("inspect", None) in watched.inbox.calls)
    for _ in range(100):
        watcher.ask(container_id(1))
    watched.docker.add(2)
    watched.docker.emit(event("create", 2))
    watched.inbox.wait_for_names(2)
    assert watched.docker.inspections(1) == 1
    assert watched.inbox.of(Forgotten) == []
    # Docker's own word is believed at once.
    watched.docker.add(1)
    watched.docker.emit(event("create", 1))
    watched.inbox.wait_for_names(1, 2)


def test_what_was_described_just_now_is_not_asked_for_again(watched: Watched) -> None:
    watched.docker.add(1)
    watched.docker.start()
    watcher = watched.watch(Pace(first_ask_seconds=3600))
    watched.inbox.wait_for_names(1)
    for _ in range(100):
        watcher.ask(container_id(1))
    watched.docker.add(2)
    watched.docker.emit(event("create", 2))
    watched.inbox.wait_for_names(1, 2)
    assert watched.docker.inspections(1) == 1


@pytest.mark.parametrize("text", ["", "web", "../../version", "0" * 63, "0" * 65, "é" * 64])
def test_what_cannot_be_dockers_id_is_never_asked_for(text: str, watched: Watched) -> None:
    watched.docker.start()
    watcher = watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    watcher.ask(text)
    watched.docker.add(1)
    watched.docker.emit(event("create", 1))
    watched.inbox.wait_for_names(1)
    assert len(watched.docker.requests()) == 5


def test_an_event_that_says_nothing_of_a_containers_life_costs_no_request(watched: Watched) -> None:
    watched.docker.start()
    watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    watched.docker.emit(event("exec_create: /bin/sh -c check", 1), event("exec_start: x", 1), event("top", 1))
    watched.docker.add(2)
    watched.docker.emit(event("create", 2))
    watched.inbox.wait_for_names(2)
    assert watched.docker.inspections(1) == 0
    assert watched.inbox.actions() == ["create"]


# Docker is slow, hangs, answers nonsense.


def test_one_container_that_hangs_does_not_hold_up_the_others_and_is_asked_again(watched: Watched) -> None:
    gate = threading.Event()
    watched.docker.containers[container_id(1)] = gate
    watched.docker.add(2, 3)
    watched.docker.start()
    watched.watch(timeout_seconds=0.2)
    watched.inbox.wait_for_names(2, 3)
    watched.inbox.wait_for(lambda: watched.inbox.calls.count(("inspect", "timeout")) >= 2)
    gate.set()
    watched.inbox.wait_for_names(1, 2, 3)
    # One container is not the daemon: it gave a sign of life.
    assert ("ping", None) in watched.inbox.calls
    assert watched.inbox.availability() == [True]


def test_a_daemon_that_hangs_is_unavailable_until_it_answers_again(watched: Watched) -> None:
    watched.docker.add(1)
    watched.docker.start()
    watched.watch(
        Pace(first_connect_seconds=0.01, longest_connect_seconds=0.05, check_seconds=0.05),
        timeout_seconds=0.2,
    )
    watched.inbox.wait_for_names(1)
    watched.docker.freeze()
    watched.inbox.wait_for(lambda: watched.inbox.availability() == [True, False])
    assert "no sign of life" in watched.inbox.of(Availability)[-1].detail
    watched.inbox.wait_for(lambda: watched.inbox.calls.count(("version", "timeout")) >= 2)
    watched.docker.add(2)
    watched.docker.emit(event("create", 2))
    watched.docker.thawed.set()
    watched.inbox.wait_for_names(1, 2)
    watched.inbox.wait_for(lambda: watched.inbox.actions() == ["create"])
    assert watched.inbox.availability() == [True, False, True]


def test_a_hanging_stream_does_not_hold_up_the_end(watched: Watched) -> None:
    watched.docker.start()
    watcher = watched.watch(timeout_seconds=60)
    watched.docker.wait_for_requests("/containers/json", 1)
    watched.inbox.wait_for(lambda: ("info", None) in watched.inbox.calls)
    watched.docker.freeze()
    began = time.monotonic()
    watcher.stop()
    assert time.monotonic() - began < 5
    assert watcher_threads() == []


def test_a_request_that_hangs_holds_up_the_end_no_longer_than_its_timeout(watched: Watched) -> None:
    watched.docker.containers[container_id(1)] = threading.Event()
    watched.docker.start()
    watcher = watched.watch(timeout_seconds=0.5)
    watched.docker.wait_for_requests(f"{container_id(1)}/json", 1)
    watched.docker.freeze()
    watcher.stop()
    assert watcher_threads() == []


def test_a_connection_that_hangs_holds_up_the_end_no_longer_than_its_timeout(watched: Watched) -> None:
    watched.docker.freeze()
    watched.docker.start()
    watcher = watched.watch(timeout_seconds=0.5)
    watched.docker.wait_for_requests("/version", 1)
    watcher.stop()
    assert watcher_threads() == []
    assert watched.inbox.availability() == []


def test_a_watcher_that_was_never_started_can_be_stopped(watched: Watched) -> None:
    DockerWatcher(watched.docker.url, watched.inbox.deliver, watched.inbox).stop()


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"\xff\xfe\n",
        b'{"Action": 3}\n',
        b"[]\n",
        b'{"Action":"start","Actor":{"ID":"../x"},"timeNano":1}\n',
        b'{"Action":"start","Actor":null,"timeNano":1}\n',
        b'{"Action":"start","Actor":{"ID":"' + b"0" * 64 + b'"},"timeNano":-1}\n',
        b'{"Action":"start","Actor":{"ID":"' + b"0" * 64 + b'","Attributes":{"a":[]}},"timeNano":1}\n',
    ],
)
def test_an_event_that_is_none_is_counted_and_the_next_one_is_taken(line: bytes, watched: Watched) -> None:
    watched.docker.start()
    watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    watched.docker.wait_for_stream()
    watched.docker.add(1)
    watched.docker.emit(line, event("create", 1))
    watched.inbox.wait_for_names(1)
    # The list may have named it already; the event after the broken one tells that both were read.
    watched.inbox.wait_for(lambda: watched.inbox.actions() == ["create"])
    assert watched.inbox.calls.count(("event", "malformed")) == 1
    assert watched.inbox.availability() == [True]


def test_events_may_come_in_any_pieces(watched: Watched) -> None:
    watched.docker.start()
    watched.watch()
    watched.docker.wait_for_requests("/containers/json", 1)
    watched.docker.wait_for_stream()
    lines = b"".join(
        b'{"Action":"update","Actor":{"ID":"%s"},"timeNano":%d}\n' % (container_id(1).encode(), number)
        for number in range(3)
    )
    watched.docker.emit(*(lines[start : start + 7] for start in range(0, len(lines), 7)))
    watched.inbox.wait_for(lambda: watched.inbox.actions() == ["update"] * 3)


@pytest.mark.parametrize(
    "answer", [[], {"Id": 3}, {"Id": container_id(9)}, {"Id": container_id(1), "Config": []}]
)
def test_an_answer_that_is_no_description_is_counted_and_the_others_come(
    answer: object, watched: Watched
) -> None:
    watched.docker.containers[container_id(1)] = answer
    watched.docker.add(2)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(2)
    watched.inbox.wait_for(lambda: ("inspect", "malformed") in watched.inbox.calls)
    watched.docker.add(1)
    watched.inbox.wait_for_names(1, 2)


def test_a_container_of_which_docker_says_500_is_asked_for_again(watched: Watched) -> None:
    watched.docker.containers[container_id(1)] = 500
    watched.docker.add(2)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(2)
    watched.inbox.wait_for(lambda: ("inspect", "http 500") in watched.inbox.calls)
    watched.docker.add(1)
    watched.inbox.wait_for_names(1, 2)


@pytest.mark.parametrize("answer", [500, 3, {"Id": 1}, "text"])
def test_a_list_that_fails_is_asked_again_or_done_without(answer: object, watched: Watched) -> None:
    watched.docker.list_answer = answer
    watched.docker.add(1)
    watched.docker.start()
    watcher = watched.watch()
    watched.inbox.wait_for(lambda: any(call[0] == "list" and call[1] for call in watched.inbox.calls))
    watcher.ask(container_id(1))
    watched.inbox.wait_for_names(1)


def test_an_element_that_cannot_be_read_makes_nobody_forgotten(watched: Watched) -> None:
    watched.docker.add(1, 2)
    watched.docker.start()
    watched.watch()
    watched.inbox.wait_for_names(1, 2)
    watched.docker.stop()
    watched.docker.list_answer = [{"Id": container_id(1)}, {"id": container_id(2)}]
    watched.docker.add(3)
    watched.docker.start()
    watched.inbox.wait_for(lambda: ("list", "malformed") in watched.inbox.calls)
    watched.docker.emit(event("create", 3))
    watched.inbox.wait_for_names(1, 2, 3)


# describe, lifecycle, listed_id are pure.

# As dockerd 20.10 says it, without the fields that nobody uses.
INSPECTED: dict[str, Any] = {
    "Id": container_id(1),
    "Created": "2024-03-01T10:00:00.123456789Z",
    "Name": "/web",
    "RestartCount": 2,
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": True,
        "Dead": False,
        "Pid": 4242,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2024-03-01T12:00:01.5+02:00",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
    },
    "Config": {"Image": "nginx:1.25", "Labels": {"tier": "web", "empty": ""}},
    "HostConfig": {"NetworkMode": "bridge"},
}


@pytest.mark.parametrize(
    ("driver", "parent", "path"),
    [
        ("cgroupfs", "", "/docker/{id}"),
        ("cgroupfs", "/batch/low", "/batch/low/{id}"),
        ("cgroupfs", "batch/", "/batch/{id}"),
        ("systemd", "", "/system.slice/docker-{id}.scope"),
        ("systemd", "batch-low.slice", "/batch.slice/batch-low.slice/docker-{id}.scope"),
        ("systemd", "-.slice", "/docker-{id}.scope"),
        ("none", "", None),
        (None, "/batch", None),
    ],
)
def test_docker_makes_cgroups_where_its_driver_does(
    driver: str | None, parent: str, path: str | None
) -> None:
    identity = container_id(1)
    said = describe({"Id": identity, "HostConfig": {"CgroupParent": parent}}, driver)
    assert said.cgroup_path == (path.format(id=identity) if path else None)


def test_a_container_is_described_by_what_docker_says_of_it() -> None:
    assert describe(INSPECTED) == Description(
        runtime=Runtime.DOCKER,
        container_id=container_id(1),
        name="web",
        image="nginx:1.25",
        labels={"tier": "web", "empty": ""},
        state="running",
        created_seconds=1709287200.123456,
        started_seconds=1709287201.5,
        finished_seconds=None,
        exit_code=None,
        oom_killed=True,
        health="healthy",
        restart_count=2,
        pid=4242,
        network_mode="bridge",
    )


@pytest.mark.parametrize(
    "inspected",
    [
        {"Id": container_id(1)},
        {
            "Id": container_id(1),
            "Name": None,
            "State": None,
            "Config": None,
            "HostConfig": None,
            "Created": "",
        },
        {"Id": container_id(1), "Config": {"Labels": None}, "State": {"Health": None, "Pid": 0}},
    ],
)
def test_what_docker_leaves_out_is_none_or_empty(inspected: dict[str, Any]) -> None:
    assert describe(inspected) == Description(Runtime.DOCKER, container_id(1), "", "", {}, "")


NEVER = "0001-01-01T00:00:00Z"
ONCE = "2024-03-01T10:00:00Z"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Status": "created", "ExitCode": 0, "StartedAt": NEVER, "FinishedAt": NEVER}, None),
        ({"Status": "created", "ExitCode": 127, "StartedAt": NEVER, "FinishedAt": NEVER}, 127),
        ({"Status": "running", "Running": True, "ExitCode": 0, "StartedAt": ONCE, "FinishedAt": NEVER}, None),
        ({"Status": "exited", "ExitCode": 0, "StartedAt": ONCE, "FinishedAt": ONCE}, 0),
        ({"Status": "exited", "ExitCode": 137, "StartedAt": ONCE, "FinishedAt": ONCE}, 137),
        # Docker sets the code to 0 when it starts a container again, so this is not that of the last run.
        ({"Status": "running", "Running": True, "ExitCode": 0, "StartedAt": ONCE, "FinishedAt": ONCE}, None),
        # Between two attempts Docker calls a container running, and the code is that of the last.
        ({"Status": "restarting", "Running": True, "Restarting": True, "ExitCode": 1, "FinishedAt": ONCE}, 1),
    ],
)
def test_the_exit_code_is_that_of_the_last_run(state: dict[str, Any], expected: int | None) -> None:
    assert describe({"Id": container_id(1), "State": state}).exit_code == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NEVER, None),
        ("0001-01-01T00:00:00+01:00", None),
        ("", None),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
        ("1970-01-01T02:00:00.5+02:00", 0.5),
        ("1970-01-01T00:00:00.1-00:30", 1800.1),
        ("1970-01-01T00:00:03", 3.0),
    ],
)
def test_a_date_is_read_as_go_writes_it(text: str, expected: float | None) -> None:
    assert describe({"Id": container_id(1), "Created": text}).created_seconds == expected


@pytest.mark.parametrize("status", ["none", ""])
def test_a_container_without_a_health_check_has_no_health(status: str) -> None:
    assert describe({"Id": container_id(1), "State": {"Health": {"Status": status}}}).health is None


def test_only_one_slash_belongs_to_docker_and_not_to_the_name() -> None:
    assert describe({"Id": container_id(1), "Name": "//web"}).name == "/web"


def test_a_label_may_be_long() -> None:
    labels = {"a": "x" * 65536}
    assert describe({"Id": container_id(1), "Config": {"Labels": labels}}).labels == labels


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"Id": None}, "$.id"),
        ({"Id": "../x"}, "$.id"),
        ({"Name": []}, "$.name"),
        ({"Created": "yesterday"}, "yesterday"),
        ({"State": []}, "$.state"),
        ({"State": {"Pid": "7"}}, "$.state.pid"),
        ({"Config": {"Labels": ["a=b"]}}, "$.config.labels"),
        ({"Config": {"Labels": {"a": 1}}}, "$.config.labels"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"docker inspect: ") as raised:
        describe({**INSPECTED, **change})
    assert place in str(raised.value).lower()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_FIELDS = st.sampled_from([*INSPECTED, *INSPECTED["State"]])


@given(
    st.dictionaries(_FIELDS, JSON | st.dictionaries(_FIELDS, JSON)),
    st.sampled_from([{}, {"Id": INSPECTED["Id"]}]),
)
def test_any_answer_gives_a_description_or_our_error(answer: dict[str, Any], more: dict[str, Any]) -> None:
    answer |= more
    try:
        description = describe(answer)
    except RuntimeUnavailableError:
        return
    assert description.container_id == answer["Id"]


@given(JSON)
def test_any_element_of_a_list_gives_an_id_or_none(element: object) -> None:
    assert listed_id(element) is None
    assert listed_id({"Id": container_id(1), "Names": element}) == container_id(1)


def test_an_event_tells_what_happened_and_when() -> None:
    line = (
        b'{"status":"die","id":"x","from":"nginx","Type":"container","Action":"die","Actor":{"ID":"%s",'
        b'"Attributes":{"exitCode":"137","image":"nginx","name":"web"}},"scope":"local",'
        b'"time":1709287200,"timeNano":1709287200500000000}'
    ) % container_id(1).encode()
    assert lifecycle(line) == Lifecycle(
        runtime=Runtime.DOCKER,
        container_id=container_id(1),
        action="die",
        time_seconds=1709287200.5,
        exit_code=137,
        attributes={"exitCode": "137", "image": "nginx", "name": "web"},
    )


def test_a_health_event_holds_the_new_health_apart_from_the_action() -> None:
    line = (
        b'{"Action":"health_status: unhealthy","Actor":{"ID":"%s"},"timeNano":0}' % container_id(1).encode()
    )
    told = lifecycle(line)
    assert told is not None
    assert (told.action, told.attributes) == ("health_status", {"health_status": "unhealthy"})


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("-1", -1), ("", None), ("x", None), ("9" * 5000, None)]
)
def test_an_exit_code_that_is_no_number_is_none(text: str, expected: int | None) -> None:
    line = b'{"Action":"die","Actor":{"ID":"%s","Attributes":{"exitCode":"%s"}},"timeNano":0}' % (
        container_id(1).encode(),
        text.encode(),
    )
    told = lifecycle(line)
    assert told is not None
    assert told.exit_code == expected


@given(st.binary() | JSON.map(lambda value: str(value).encode()))
def test_any_bytes_give_an_event_or_nothing_or_our_error(line: bytes) -> None:
    try:
        told = lifecycle(line)
    except RuntimeUnavailableError:
        return
    assert told is None or told.container_id
