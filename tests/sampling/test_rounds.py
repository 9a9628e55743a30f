from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.sampling.rounds import Rounds


class Clock:
    def __init__(self) -> None:
        self.now_seconds = 0.0

    def __call__(self) -> float:
        return self.now_seconds


def rounds(ticks: int, budget_seconds: float = 1.0, clock: Clock | None = None) -> Rounds[str]:
    return Rounds(ticks=ticks, budget_seconds=budget_seconds, monotonic=clock or Clock())


def test_what_is_new_has_its_turn_at_once_and_then_a_share_at_each_tick() -> None:
    turns = rounds(ticks=2)
    assert list(turns.take("abcd")) == list("abcd")
    assert list(turns.take("abcd")) == list("ab")
    assert list(turns.take("abcd")) == list("cd")
    assert list(turns.take("abcd")) == list("ab")


def test_a_new_one_comes_first_and_takes_no_turn_of_another() -> None:
    turns = rounds(ticks=2)
    list(turns.take("abcd"))
    assert list(turns.take("abcdn")) == list("nab")


def test_one_alone_has_its_turn_once_in_an_interval() -> None:
    turns = rounds(ticks=3)
    assert [list(turns.take("a")) for _ in range(7)] == [["a"], [], [], ["a"], [], [], ["a"]]


def test_what_there_was_no_time_for_comes_first_at_the_next_tick() -> None:
    clock = Clock()
    turns = rounds(ticks=1, budget_seconds=1.0, clock=clock)

    def tick() -> str:
        done = ""
        for key in turns.take("abcde"):
            clock.now_seconds += 0.5
            done += key
        return done

    assert [tick() for _ in range(6)] == ["ab", "cd", "ea", "bc", "de", "ab"]


def test_however_little_time_there_is_one_of_them_has_its_turn() -> None:
    turns = rounds(ticks=1, budget_seconds=0.0)
    assert [list(turns.take("ab")) for _ in range(3)] == [["a"], ["b"], ["a"]]


def test_what_is_gone_has_no_turn_and_is_new_when_it_comes_again() -> None:
    turns = rounds(ticks=4)
    list(turns.take("abcd"))
    assert "b" not in [key for _ in range(8) for key in turns.take("acd")]
    assert next(iter(turns.take("abcd"))) == "b"


@given(st.integers(1, 12), st.integers(0, 40))
def test_with_time_enough_each_has_one_turn_in_every_interval(ticks: int, number: int) -> None:
    turns = Rounds[int](ticks=ticks, budget_seconds=1.0, monotonic=Clock())
    keys = range(number)
    assert list(turns.take(keys)) == list(keys)
    for _ in range(3):
        shares = [list(turns.take(keys)) for _ in range(ticks)]
        assert Counter(key for share in shares for key in share) == Counter(keys)
        assert all(number // ticks <= len(share) <= -(-number // ticks) for share in shares)
