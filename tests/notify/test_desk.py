"""What is told, and when; the desk's thread is a test's own, and so is the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cgwatch.notify.channel import Channel
from cgwatch.notify.desk import NotifyDesk
from cgwatch.notify.message import Held, Message
from cgwatch.notify.outcome import Refused
from cgwatch.notify_settings import Notify, OomNotices, Queue, RateLimit
from cgwatch.oom.evidence import Evidence, Limit
from cgwatch.oom.kill import OomKill
from cgwatch.oom.state import State
from cgwatch.storage import Storage
from tests.notify.means import NOW, FakeChannel, Seen, a_kill, means_of, quick

NOTIFY = quick(oom=OomNotices(5), rate_limit=RateLimit(1, 300), node="node-1")


class Office:
    """A desk with one channel, and the time."""

    def __init__(self, storage: Storage | None, notify: Notify = NOTIFY) -> None:
        self.seconds = 0.0
        self.seen = Seen()
        self.channel = FakeChannel()
        channels: list[Channel] = [self.channel]
        self.desk = NotifyDesk(
            notify, channels, means_of(storage, self.seen, lambda: self.seconds, notify=notify)
        )

    def take(self, *kills: OomKill, evidence: Evidence | None = None) -> list[Message]:
        for kill in kills:
            self.desk.take(kill, evidence)
        return self.after(0)

    def after(self, seconds: float) -> list[Message]:
        """Give what is told by then and was not before."""
        self.seconds += seconds
        before = len(self.channel.given)
        while not self.desk._inbox.empty():
            taken = self.desk._inbox.get()
            assert taken is not None
            self.desk._note(*taken)
        self.desk._tell_due()
        (worker,) = self.desk._workers
        while (wait := worker._wait_seconds()) is not None and wait <= 0:
            worker.step()
        return self.channel.given[before:]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage.open(str(tmp_path / "cgwatch.db")) as opened:
        yield opened


@pytest.fixture(params=[True, False], ids=["stored", "in memory"])
def office(request: pytest.FixtureRequest, storage: Storage) -> Office:
    return Office(storage if request.param else None)


def test_a_kill_is_told_as_soon_as_it_is_settled(office: Office) -> None:
    (message,) = office.take(a_kill(1))

    assert (message.number, message.container, message.node) == (1, "web", "node-1")
    assert message.title == "OOM kill of web on node-1"


def test_one_that_waits_for_more_is_told_after_a_while_with_what_is_known_then(office: Office) -> None:
    assert office.take(a_kill(1, None, settled=False)) == []
    assert office.after(4) == []
    assert office.take(a_kill(1, settled=False)) == []
    (message,) = office.after(1)

    assert message.container == "web"


def test_what_becomes_known_later_is_not_told_again(office: Office) -> None:
    office.take(a_kill(1, settled=False))
    assert len(office.after(5)) == 1

    assert office.take(a_kill(1)) == []
    assert office.after(600) == []


def test_evidence_that_came_with_an_earlier_version_is_kept(office: Office) -> None:
    path = a_kill(1).path
    assert path is not None
    evidence = Evidence(NOW, limits=(Limit(path, 100 << 20, 95 << 20),))
    office.take(a_kill(1, settled=False), evidence=evidence)
    (message,) = office.take(a_kill(1, limit_path=path))

    assert "its own limit of 100MiB was hit" in message.text


def test_what_is_held_back_is_counted_and_told_when_there_is_room(office: Office) -> None:
    office.take(a_kill(1))
    assert office.take(a_kill(2, found_seconds=NOW + 60), a_kill(3, count=5), a_kill(4)) == []
    assert office.seen.results["fake", "held_back"] == 3
    assert office.take(a_kill(5, "db"))[0].container == "db"
    assert office.after(299) == []
    (message,) = office.after(1)

    assert message.number == 4
    assert message.held == Held(6, NOW + 60)
    assert message.text.endswith("(and 6 more since 2027-01-15 08:01:00 UTC)")


def test_the_second_of_a_container_that_is_often_killed_says_so(storage: Storage) -> None:
    storage.save([a_kill(1, found_seconds=NOW - 60)], State("boot", NOW))
    (message,) = Office(storage).take(a_kill(2))

    assert "the 2nd kill of it" in message.text


def test_kills_from_before_anybody_was_to_be_told_are_no_news(storage: Storage) -> None:
    storage.save([a_kill(1)], State("boot", NOW))
    office = Office(storage)
    assert office.after(10) == []
    storage.save([a_kill(2)], State("boot", NOW))

    # The agent is killed before it has told of the second one, and the next one finds it.
    assert [message.number for message in Office(storage).after(0)] == [2]
    assert Office(storage).after(10) == []


def test_who_is_asked_to_tell_again_does_not_begin_with_what_was_meanwhile(storage: Storage) -> None:
    Office(storage)
    nobody = NotifyDesk(NOTIFY, [], means_of(storage, Seen(), lambda: 0.0))
    assert not nobody.tells
    storage.save([a_kill(1)], State("boot", NOW))

    assert Office(storage).after(10) == []


def test_a_kill_that_is_older_than_a_message_may_get_is_not_told(office: Office) -> None:
    assert office.take(a_kill(1, found_seconds=NOW - 90_000)) == []
    assert office.after(600) == []


def test_messages_for_a_receiver_that_is_no_more_are_deleted(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    office = Office(storage)
    office.desk._tell_due()
    office.desk._note(a_kill(1), None)
    office.desk._tell_due()  # it waits in the queue of "fake"
    seen = Seen()
    other = NotifyDesk(NOTIFY, [FakeChannel("other")], means_of(storage, seen, lambda: 0.0))

    assert seen.lengths == {"other": 0}
    assert "not configured any more" in caplog.text
    assert other.tells
    assert Office(storage).seen.lengths == {"fake": 0}


def test_of_too_many_the_oldest_goes_and_of_all_what_is_too_old(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    notify = quick(queue=Queue(messages=2, keep_seconds=60), oom=OomNotices(5))
    office = Office(storage, notify)
    for number in (1, 2, 3):
        office.desk._note(a_kill(number, f"web-{number}"), None)
    office.desk._tell_due()
    assert office.seen.results["fake", "dropped"] == 1
    assert "see notify.queue" not in caplog.text
    again = Office(storage, notify)
    assert again.seen.lengths == {"fake": 2}
    assert [message.number for message in again.after(0)] == [2, 3]

    office.seconds = 61
    assert office.after(0) == []
    assert office.seen.results["fake", "dropped"] == 3
    assert office.seen.lengths == {"fake": 0}


def test_what_is_refused_is_a_dead_letter_and_gone(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.channel.answer = lambda: Refused("no")
    office.take(a_kill(1))

    assert office.seen.results["fake", "dead_letter"] == 1
    assert office.after(600) == []
    assert "given up" in caplog.text


def test_a_message_that_cannot_be_sent_at_all_does_not_stop_the_others(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Refused:
        raise ValueError("no such header")

    office.channel.answer = fail
    office.take(a_kill(1, "db"))
    assert office.seen.results["fake", "dead_letter"] == 1
    assert "no such header" in caplog.text
    office.channel.answer = FakeChannel().answer

    assert len(office.take(a_kill(2))) == 1
    assert office.seen.results["fake", "delivered"] == 1


def test_a_full_disk_keeps_nobody_from_being_told(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    office = Office(storage)
    other = Storage.open(storage.path)
    with other:
        other.transact(lambda connection: connection.execute("DROP TABLE notification").close())
    for number in (1, 2):
        assert len(office.take(a_kill(number, f"web-{number}"))) == 1
    assert caplog.text.count("cannot be stored") == 1
