"""Whatever fails and wherever the agent is killed: each kill is told, and what is told twice has one key."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from cgwatch.notify.desk import NotifyDesk
from cgwatch.notify.journal import Journal
from cgwatch.notify.message import Message
from cgwatch.notify.outcome import Delivered, Retry
from cgwatch.notify_settings import OomNotices, RateLimit
from cgwatch.oom.kill import OomKill
from cgwatch.oom.state import State
from cgwatch.storage import Storage
from tests.notify.means import NOW, FakeChannel, Seen, a_kill, means_of, quick

T = TypeVar("T")

NAMES = ("web", "db", None)
CHANNELS = ("one", "two")
NOTIFY = quick(oom=OomNotices(5), rate_limit=RateLimit(1, 60))


class CrashError(BaseException):
    """The agent is killed here: nothing may catch it."""


class Mortal(Storage):
    """A database whose user is killed before or after one of its transactions."""

    countdown: int | None = None
    after = False

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.countdown == 0 and not self.after:
            raise CrashError
        done = super().transact(work)
        if self.countdown == 0:
            raise CrashError
        if self.countdown is not None:
            self.countdown -= 1
        return done


class Tellers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.seconds = 0.0
        self.number = 0
        self.answers = dict.fromkeys(CHANNELS, True)
        self.delivered: dict[str, dict[str, Message]] = {name: {} for name in CHANNELS}
        self.kills: dict[int, OomKill] = {}
        self.start()

    def start(self) -> None:
        self.storage = Mortal.open(str(Path(self.folder.name) / "cgwatch.db"))
        self.seen = Seen()
        self.channels = [FakeChannel(name, self.answer_of(name)) for name in CHANNELS]
        means = means_of(self.storage, self.seen, lambda: self.seconds, notify=NOTIFY)
        self.desk = NotifyDesk(NOTIFY, self.channels, means)
        self.take_mail()

    def answer_of(self, name: str) -> Callable[[], Any]:
        def answer() -> Delivered | Retry:
            if not self.answers[name]:
                return Retry("not now")
            (channel,) = (each for each in self.channels if each.name == name)
            message = channel.given[-1]
            # Sent again, it is the same message under the same key.
            assert self.delivered[name].setdefault(message.key, message) == message
            return Delivered()

        return answer

    def take_mail(self) -> None:
        while not self.desk._inbox.empty():
            taken = self.desk._inbox.get()
            assert taken is not None
            self.desk._note(*taken)

    def survive(self, work: Callable[[], None]) -> None:
        try:
            work()
        except CrashError:
            self.storage.countdown = None
            self.storage.close()
            self.start()

    @rule(which=st.sampled_from(NAMES), settled=st.booleans())
    def kill(self, which: str | None, settled: bool) -> None:  # noqa: FBT001 - drawn
        self.number += 1
        kill = a_kill(self.number, which, settled=settled, found_seconds=NOW + self.seconds)
        self.kills[kill.number] = kill
        countdown, self.storage.countdown = (
            self.storage.countdown,
            None,
        )  # the keeper's own crashes are not ours
        self.storage.save([kill], State("boot", NOW, next_number=self.number + 1))
        self.storage.countdown = countdown
        self.desk.take(kill, None)
        self.take_mail()

    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0, 70.0]))
    def go_on(self, seconds: float) -> None:
        self.seconds += seconds
        self.survive(self.work)

    def work(self) -> None:
        self.desk._tell_due()
        for worker in self.desk._workers:
            if (wait := worker._wait_seconds()) is not None and wait <= 0:
                worker.step()

    @rule(countdown=st.integers(0, 5), after=st.booleans())
    def be_killed_soon(self, countdown: int, after: bool) -> None:  # noqa: FBT001 - drawn
        self.storage.countdown, self.storage.after = countdown, after

    @rule()
    def be_killed_now(self) -> None:
        self.storage.close()
        self.start()

    @rule(name=st.sampled_from(CHANNELS), answers=st.booleans())
    def change(self, name: str, answers: bool) -> None:  # noqa: FBT001 - drawn
        self.answers[name] = answers

    def teardown(self) -> None:
        self.storage.countdown = None
        self.answers = dict.fromkeys(CHANNELS, True)
        for _ in range(3 * len(self.kills) + 10):
            self.seconds += 70
            self.survive(self.work)
        for name in CHANNELS:
            told = self.delivered[name].values()
            counted = sum(1 + (message.held.count if message.held else 0) for message in told)
            assert counted == len(self.kills)
            assert {message.number for message in told} <= self.kills.keys()
            assert self.seen.lengths[name] == 0
            assert Journal(self.storage).entries(name) == []
        self.storage.close()
        self.folder.cleanup()


TestNothingIsLostAndNothingIsTwo = Tellers.TestCase
TestNothingIsLostAndNothingIsTwo.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
