from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.notify.rate import RateLimit


def test_the_first_is_given_at_once_and_those_after_it_together_when_there_is_room() -> None:
    limit: RateLimit[list[int]] = RateLimit(1, 60, list.__add__)
    assert limit.take("web", [1], 100) is False
    assert list(limit.give(100)) == [[1]]

    assert limit.take("web", [2], 110) is True
    assert limit.take("web", [3], 120) is True
    assert list(limit.give(120)) == []
    assert limit.due_seconds() == 160
    assert list(limit.give(159.9)) == []
    assert list(limit.give(160)) == [[2, 3]]
    assert limit.due_seconds() is None


def test_one_container_takes_no_room_of_another() -> None:
    limit: RateLimit[list[int]] = RateLimit(1, 60, list.__add__)
    limit.take("web", [1], 100)
    limit.take("db", [2], 100)

    assert list(limit.give(100)) == [[1], [2]]


def test_several_in_an_interval_where_that_is_wanted() -> None:
    limit: RateLimit[list[int]] = RateLimit(2, 60, list.__add__)
    given: list[list[int]] = []
    for number, seconds in enumerate((100, 110, 120, 130)):
        limit.take("web", [number], seconds)
        given += limit.give(seconds)

    assert given == [[0], [1]]
    assert limit.due_seconds() == 160
    assert list(limit.give(160)) == [[2, 3]]


@given(
    st.integers(1, 4),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 50))),
)
def test_nothing_is_lost_doubled_or_disordered_and_no_interval_has_more_than_its_share(
    most: int, interval: float, taken: list[tuple[str, float]]
) -> None:
    limit: RateLimit[list[int]] = RateLimit(most, interval, list.__add__)
    given_at: dict[str, list[float]] = {"a": [], "b": []}
    given: dict[str, list[int]] = {"a": [], "b": []}
    key_of = dict(enumerate(key for key, _ in taken))
    now = 0.0

    def give() -> None:
        for things in limit.give(now):
            key = key_of[things[0]]
            given[key] += things
            given_at[key].append(now)

    for number, (key, pause) in enumerate(taken):
        now += pause
        limit.take(key, [number], now)
        give()
        limit.forget(now)
    while (due := limit.due_seconds()) is not None:
        assert due > now  # whoever waits for it does not turn in circles
        now = due
        give()

    for key in "ab":
        assert given[key] == [number for number in key_of if key_of[number] == key]
        moments = given_at[key]
        for first, later in zip(moments, moments[most:], strict=False):
            assert later >= first + interval
