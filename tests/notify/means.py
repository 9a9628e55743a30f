"""What a desk and its workers are given by a test, and kills to tell of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import structs

from cgwatch.discovery.recognise import recognise
from cgwatch.notify.journal import Journal
from cgwatch.notify.message import Message
from cgwatch.notify.observer import Result
from cgwatch.notify.outcome import Delivered, Outcome
from cgwatch.notify.worker import Means
from cgwatch.notify_settings import Notify, Queue, Retry
from cgwatch.oom.kill import Cause, Holder, OomKill, Scope
from cgwatch.storage import Storage

NOW = 1_800_000_000.0


class Seen:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, Result]] = Counter()
        self.lengths: dict[str, int] = {}
        self.successes: dict[str, float] = {}

    def notified(self, channel: str, result: Result, /) -> None:
        self.results[channel, result] += 1

    def attempted(self, channel: str, seconds: float, /) -> None: ...

    def succeeded(self, channel: str, seconds: float, /) -> None:
        self.successes[channel] = seconds

    def waiting(self, channel: str, messages: int, /) -> None:
        self.lengths[channel] = messages


class FakeChannel:
    """Answers as ``answer`` says, and remembers what it was given."""

    def __init__(self, name: str = "fake", answer: Callable[[], Outcome] = Delivered) -> None:
        self.name = self.identity = name
        self.receiver = "test"
        self.answer = answer
        self.given: list[Message] = []
        self.upkeep_seconds: float | None = None

    def deliver(self, message: Message) -> Outcome:
        self.given.append(message)
        return self.answer()

    def upkeep_due_seconds(self) -> float | None:
        return self.upkeep_seconds

    def keep_up(self) -> Outcome:
        self.upkeep_seconds = None
        return Delivered()

    def stop(self) -> None: ...


def means_of(
    storage: Storage | None,
    seen: Seen,
    clock: Callable[[], float],
    *,
    notify: Notify = Notify(),  # noqa: B008 - it is frozen
) -> Means:
    return Means(
        journal=Journal(storage),
        observer=seen,
        bounds=notify.queue,
        pauses=notify.retry,
        clock=lambda: NOW + clock(),
        monotonic=clock,
        chance=lambda: 0.0,
    )


def a_kill(number: int, name: str | None = "web", *, found_seconds: float = NOW, **fields: Any) -> OomKill:
    holder = Holder(f"/docker/{'0' * 63}1", 7, recognise(f"/docker/{'0' * 63}1"), name, f"{name}:1")
    kill = OomKill(
        number,
        "boot",
        found_seconds,
        found_seconds - 1,
        path=holder.path,
        holder=holder if name is not None else None,
        attributed=name is not None,
        settled=True,
        cause=Cause.OWN_LIMIT,
        scope=Scope.MAIN,
    )
    return structs.replace(kill, **fields)


def quick(**sections: object) -> Notify:
    """Give settings with short pauses."""
    return structs.replace(Notify(retry=Retry(0.01, 0.05), queue=Queue()), **sections)
