"""The kernel as a producer of messages: on v1 as this machine has it, and on v2 in User Mode Linux."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from cgwatch.cgroup.hierarchy import Hierarchy
from cgwatch.errors import FileMissingError, KernelFileError
from cgwatch.oom.dialect import Told
from cgwatch.oom.kernel_log import KillLog, Start
from cgwatch.oom.observation import LogLost, LogPlace
from cgwatch.oom.sources import EventSource, Look, Message, Sources, SourceState
from cgwatch.proc import kmsg
from tests.oom.hogs import IN_UML, MEGABYTE, Hogs, open_descriptors, run_on_v2
from tests.real.needs import require

M = TypeVar("M")

ENOUGH = 100_000
"""Descriptors."""
MANY = 500


class Listener:
    """An inbox, and the sources that fill it."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.failures: list[KernelFileError] = []
        self._running: list[Sources] = []

    def make(
        self, memory: Hierarchy | None, *, log: Start | None = None, eventfds: int = ENOUGH, **more: Any
    ) -> Sources:
        sources = Sources(
            more.get("deliver", self.inbox.put),
            memory=memory,
            log=log,
            eventfds=eventfds,
            proc_root="/proc",
            failed=self.failures.append,
            clock=time.time,
            monotonic=time.monotonic,
        )
        self._running.append(sources)
        return sources

    def start(
        self, memory: Hierarchy | None, *, log: Start | None = None, eventfds: int = ENOUGH, **more: Any
    ) -> Sources:
        sources = self.make(memory, log=log, eventfds=eventfds, **more)
        sources.start()
        return sources

    def get(self, kind: type[M], fits: Callable[[M], bool] = lambda _: True) -> M:
        """Wait for the next message of a kind."""
        while True:
            message = self.inbox.get(timeout=30)
            if isinstance(message, kind) and fits(message):
                return message

    def close(self) -> None:
        for sources in self._running:
            sources.stop()


@pytest.fixture
def listener() -> Iterator[Listener]:
    before = open_descriptors()
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()
    assert listener.failures == []
    assert open_descriptors() == before


@pytest.fixture
def hogs() -> Iterator[Hogs]:
    hogs = Hogs()
    try:
        yield hogs
    finally:
        hogs.close()


def require_log() -> None:
    try:
        os.close(os.open(kmsg.PATH, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        require(f"cannot read /dev/kmsg: {error.strerror}")


def of_cgroups(state: SourceState) -> bool:
    return state.source is EventSource.CGROUPS


def of_log(state: SourceState) -> bool:
    return state.source is EventSource.LOG


@pytest.mark.real
def test_a_kernel_with_cgroup_v2_keeps_these_promises() -> None:
    if IN_UML in os.environ:
        pytest.skip("this is the kernel that is tested")
    run_on_v2("tests/oom/test_sources.py")


@pytest.mark.real
def test_a_kill_in_a_watched_cgroup_says_to_look_at_it(hogs: Hogs, listener: Listener) -> None:
    victim, other = hogs.make("victim", 8 * MEGABYTE), hogs.make("other")
    sources = listener.start(hogs.hierarchy)
    assert listener.get(SourceState) == SourceState(EventSource.CGROUPS, available=True, detail="")
    sources.watch({path: hogs.watched(path) for path in (victim, other)})
    # Nothing says when the thread has heard of it, so it is killed again until it is told.
    while listener.inbox.empty():
        hogs.kill_in(victim)
    assert listener.inbox.get() == Look(victim)


@pytest.mark.real
def test_the_log_says_who_was_killed_and_where(hogs: Hogs, listener: Listener) -> None:
    require_log()
    victim = hogs.make("victim", 8 * MEGABYTE)
    listener.start(None, log=Start())
    listener.get(SourceState, of_log)
    began = time.time()
    pid = hogs.kill_in(victim)
    told = listener.get(Told, lambda told: told.kill.victim.pid == pid)
    assert (told.kill.path, told.kill.limit_path) == (victim, victim)
    assert told.kill.seconds == pytest.approx(began, abs=10)
    assert told.dump is not None


@pytest.mark.real
def test_what_was_logged_while_nobody_listened_is_told_to_who_goes_on_from_a_saved_place(
    hogs: Hogs, listener: Listener
) -> None:
    require_log()
    victim = hogs.make("victim", 8 * MEGABYTE)
    first = listener.start(None, log=Start())
    listener.get(SourceState, of_log)
    before = hogs.kill_in(victim)
    listener.get(Told, lambda told: told.kill.victim.pid == before)
    place = listener.get(LogPlace)
    first.stop()
    meanwhile = hogs.kill_in(victim)
    listener.start(None, log=Start(after=place))
    listener.get(Told, lambda told: told.kill.victim.pid == meanwhile)


@pytest.mark.real
def test_what_was_logged_before_the_start_can_be_had_before_anything_else_is_read(
    hogs: Hogs, listener: Listener
) -> None:
    require_log()
    victim = hogs.make("victim", 8 * MEGABYTE)
    first = listener.make(None, log=Start())
    (place,) = first.catch_up(None)
    assert isinstance(place, LogPlace)
    first.stop()
    pid = hogs.kill_in(victim)

    second = listener.make(None, log=Start())
    *told, last = second.catch_up(place)
    assert pid in [each.kill.victim.pid for each in told if isinstance(each, Told)]
    assert isinstance(last, LogPlace)
    assert last.sequence >= place.sequence
    second.start()
    after = hogs.kill_in(victim)
    listener.get(Told, lambda told: told.kill.victim.pid == after)


@pytest.mark.real
def test_without_a_saved_place_nothing_of_before_is_told(hogs: Hogs, listener: Listener) -> None:
    require_log()
    victim = hogs.make("victim", 8 * MEGABYTE)
    before = hogs.kill_in(victim)
    listener.start(None, log=Start())
    listener.get(SourceState, of_log)
    after = hogs.kill_in(victim)
    pids = []
    while after not in pids:
        pids.append(listener.get(Told).kill.victim.pid)
    assert before not in pids


@pytest.mark.real
def test_where_there_is_not_room_for_all_containers_are_watched_first(hogs: Hogs, listener: Listener) -> None:
    if hogs.is_v2:
        pytest.skip("on v2 no descriptor is needed")
    plain, container = hogs.make("a", 8 * MEGABYTE), hogs.make("b", 8 * MEGABYTE)
    sources = listener.start(hogs.hierarchy, eventfds=1)
    sources.watch(
        {plain: hogs.watched(plain, is_container=False), container: hogs.watched(container)},
    )
    state = listener.get(SourceState, lambda state: of_cgroups(state) and not state.available)
    assert plain in state.detail
    assert "next tick" in state.detail
    assert sources.unwatched == 1
    hogs.kill_in(plain)
    hogs.kill_in(container)
    assert listener.get(Look) == Look(container)
    sources.watch({container: hogs.watched(container)})
    assert listener.get(SourceState).available
    assert sources.unwatched == 0


@pytest.mark.real
def test_v2_without_inotify_watches_says_so_once_and_goes_on_when_there_are_some_again(
    hogs: Hogs, listener: Listener
) -> None:
    if IN_UML not in os.environ:
        pytest.skip("lowers a limit of the whole machine: only in User Mode Linux")
    paths = [hogs.make(name, 8 * MEGABYTE) for name in "abc"]
    limit = "/proc/sys/fs/inotify/max_user_watches"
    with open(limit, "w", encoding="ascii") as file:
        file.write("3")
    sources = listener.start(hogs.hierarchy)
    assert listener.get(SourceState).available
    sources.watch({path: hogs.watched(path) for path in paths})
    state = listener.get(SourceState)
    assert not state.available
    assert "raise fs.inotify.max_user_watches" in state.detail
    assert sources.unwatched == 2
    with open(limit, "w", encoding="ascii") as file:
        file.write("1000")
    sources.watch({path: hogs.watched(path) for path in paths[1:]})
    assert listener.get(SourceState).available
    hogs.kill_in(paths[2])
    assert listener.get(Look) == Look(paths[2])


@pytest.mark.real
def test_cgroups_that_come_and_go_leave_no_descriptor(hogs: Hogs, listener: Listener) -> None:
    paths = [hogs.make(f"{number}") for number in range(MANY)]
    victim = hogs.make("victim", 8 * MEGABYTE)
    sources = listener.start(hogs.hierarchy)
    before_seconds = time.monotonic()
    churn = {path: hogs.watched(path) for path in paths}
    last = {victim: hogs.watched(victim)}
    for number in range(20):
        sources.watch(dict(list(churn.items())[number::2]))
    for path in paths:
        hogs.remove(path)
    sources.watch(last)
    while not any(isinstance(message, Look) and message.path == victim for message in taken(listener)):
        hogs.kill_in(victim)
        assert time.monotonic() < before_seconds + 60
    assert sources.unwatched == 0


def taken(listener: Listener) -> list[Message]:
    messages = []
    while not listener.inbox.empty():
        messages.append(listener.inbox.get())
    return messages


def test_a_log_that_cannot_be_read_is_said_with_what_it_costs(listener: Listener) -> None:
    sources = listener.make(None, log=Start("/nowhere/kmsg"))
    assert sources.catch_up(LogPlace(7)) == []
    sources.start()
    state = listener.get(SourceState, of_log)
    assert not state.available
    assert state.detail.startswith("/nowhere/kmsg: No such file or directory")
    assert "not which process" in state.detail


def test_without_a_memory_controller_there_are_no_events(listener: Listener) -> None:
    sources = listener.start(None)
    state = listener.get(SourceState)
    assert (state.source, state.available) == (EventSource.CGROUPS, False)
    sources.watch({})
    assert sources.unwatched == 0


def test_whatever_comes_after_the_end_is_harmless(listener: Listener) -> None:
    sources = listener.start(None)
    sources.stop()
    sources.watch({})
    sources.stop()
    assert sources.unwatched == 0


def test_sources_that_never_began_can_be_stopped(listener: Listener) -> None:
    sources = Sources(
        listener.inbox.put,
        memory=None,
        log=None,
        eventfds=0,
        proc_root="/proc",
        failed=listener.failures.append,
        clock=time.time,
        monotonic=time.monotonic,
    )
    sources.stop()
    assert listener.inbox.empty()


@pytest.mark.real
def test_a_log_that_fails_is_said_and_cgroups_are_watched_on(
    hogs: Hogs, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_log()
    victim = hogs.make("victim", 8 * MEGABYTE)

    def fail(_log: KillLog) -> list[Told | LogLost]:
        raise FileMissingError(kmsg.PATH, "it broke")

    monkeypatch.setattr(KillLog, "read", fail)
    sources = listener.start(hogs.hierarchy, log=Start())
    listener.get(SourceState, lambda state: of_log(state) and "it broke" in state.detail)
    sources.watch({victim: hogs.watched(victim)})
    while listener.inbox.empty():
        hogs.kill_in(victim)
    assert listener.get(Look) == Look(victim)


def test_an_error_of_our_own_is_logged_and_said(
    listener: Listener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Sources, "_open_log", fail)
    sources = listener.start(None)
    for source in EventSource:
        assert listener.get(SourceState) == SourceState(
            source, False, "internal error: RuntimeError('a bug')"
        )
    sources.stop()
    assert "the kernel's events are lost" in caplog.text
