from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.discovery.agenda import Agenda


def taken(agenda: Agenda, now: float) -> list[str]:
    keys = []
    while (key := agenda.take(now)) is not None:
        keys.append(key)
    return keys


def test_what_is_wanted_many_times_is_taken_once_and_in_order() -> None:
    agenda = Agenda()
    for key in ["a", "b", "a", "b", "a"]:
        agenda.want(key)
    assert taken(agenda, 0) == ["a", "b"]


def test_what_is_wanted_first_goes_before_the_others() -> None:
    agenda = Agenda()
    agenda.want("a")
    agenda.want("b")
    agenda.want("b", first=True)
    assert taken(agenda, 0) == ["b", "a"]


def test_news_during_a_request_ask_again_as_the_answer_may_be_older() -> None:
    agenda = Agenda()
    agenda.want("a")
    assert agenda.take(0) == "a"
    agenda.want("a")
    agenda.answered("a", 0)
    assert taken(agenda, 0) == ["a"]


def test_an_answer_rests_and_curiosity_does_not_wake_it() -> None:
    agenda = Agenda(first_pause_seconds=1)
    agenda.answered("a", 10)
    assert not agenda.wonder("a", 10.9)
    assert agenda.wonder("a", 11)


def test_the_rest_of_an_unknown_key_grows_to_the_longest() -> None:
    agenda = Agenda(first_pause_seconds=1, longest_pause_seconds=5)
    now, pauses = 0.0, []
    for _ in range(5):
        agenda.unknown("a", now)
        pause = next(step for step in range(100) if agenda.wonder("a", now + step))
        pauses.append(pause)
        now += pause
        agenda.take(now)
    assert pauses == [1, 2, 4, 5, 5]


def test_the_runtimes_own_news_do_not_wait_for_an_unknown_key_to_rest() -> None:
    agenda = Agenda()
    agenda.unknown("a", 0)
    agenda.want("a")
    assert taken(agenda, 0) == ["a"]


def test_a_failure_is_asked_again_by_itself_with_growing_pauses() -> None:
    agenda = Agenda(first_pause_seconds=1, longest_pause_seconds=5)
    now, pauses = 0.0, []
    for _ in range(5):
        agenda.failed("a", now)
        wait = agenda.wait_seconds(now)
        assert wait is not None
        assert agenda.take(now + wait - 0.01) is None
        now += wait
        assert agenda.take(now) == "a"
        pauses.append(wait)
    assert pauses == [1, 2, 4, 5, 5]
    agenda.answered("a", now)
    agenda.failed("a", now)
    assert agenda.wait_seconds(now) == 1


def test_curiosity_does_not_hasten_what_is_planned_and_news_do() -> None:
    agenda = Agenda()
    agenda.failed("a", 0)
    assert not agenda.wonder("a", 0)
    assert agenda.take(0) is None
    agenda.want("a")
    assert taken(agenda, 0) == ["a"]
    assert agenda.wait_seconds(0) is None


def test_nothing_is_left_of_what_was_dropped() -> None:
    agenda = Agenda(first_pause_seconds=1)
    agenda.unknown("a", 0)
    agenda.unknown("a", 0)
    agenda.failed("a", 0)
    agenda.drop("a")
    assert agenda.wait_seconds(0) is None
    assert agenda.wonder("a", 0)


def test_clearing_keeps_what_was_answered() -> None:
    agenda = Agenda()
    agenda.unknown("a", 0)
    agenda.want("b")
    agenda.failed("c", 0)
    agenda.clear()
    assert agenda.wait_seconds(0) is None
    assert not agenda.wonder("a", 0)


@given(st.lists(st.integers(0, 1000)), st.integers(1, 5))
def test_no_more_answers_are_kept_in_mind_than_said(numbers: list[int], remembered: int) -> None:
    agenda = Agenda(first_pause_seconds=1, remembered=remembered)
    for number in numbers:
        agenda.unknown(str(number), 0)
    resting = [number for number in set(numbers) if not agenda.wonder(str(number), 0)]
    last = list(dict.fromkeys(reversed(numbers)))[:remembered]
    assert sorted(resting) == sorted(last)
