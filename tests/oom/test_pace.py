from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cgwatch.oom.pace import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Pace


def test_a_single_notification_is_looked_at_at_once_and_never_again() -> None:
    pace = Pace()
    assert pace.told("/a", 0)
    assert pace.wait_seconds(0) == FIRST_PAUSE_SECONDS
    assert pace.due(FIRST_PAUSE_SECONDS) == []
    assert pace.wait_seconds(1) is None


def test_what_follows_within_milliseconds_is_one_look_at_the_end_of_the_pause() -> None:
    pace = Pace()
    pace.told("/a", 0)
    assert not pace.told("/a", 0.001)
    assert not pace.told("/a", 0.002)
    assert pace.due(0.019) == []
    assert pace.due(0.02) == ["/a"]


def test_one_cgroup_does_not_hold_up_another() -> None:
    pace = Pace()
    assert pace.told("/a", 0)
    assert pace.told("/b", 0.001)


def test_a_cgroup_that_tells_all_the_time_is_looked_at_about_once_a_second() -> None:
    pace, looks = Pace(), 0
    for hundredth in range(6000):
        now = hundredth / 100
        looks += pace.told("/a", now) + len(pace.due(now))
    assert 60 <= looks <= 70


def test_a_cgroup_that_was_quiet_is_looked_at_at_once_again() -> None:
    pace = Pace()
    for hundredth in range(1000):
        pace.told("/a", hundredth / 100)
        pace.due(hundredth / 100)
    for now in (12, 14):
        pace.due(now)
    assert pace.told("/a", 15)


def test_what_is_forgotten_is_not_due() -> None:
    pace = Pace()
    pace.told("/a", 0)
    pace.told("/a", 0.001)
    pace.forget("/a")
    assert pace.due(1) == []
    assert pace.told("/a", 2)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 0.5)), max_size=50))
def test_each_notification_is_followed_by_a_look_within_the_longest_pause(
    told: list[tuple[str, float]],
) -> None:
    pace, now = Pace(), 0.0
    waits: dict[str, float] = {}

    def look(path: str) -> None:
        assert now - waits.pop(path) <= LONGEST_PAUSE_SECONDS + 1e-6

    for path, pause_seconds in [*told, *[("", LONGEST_PAUSE_SECONDS + 0.1)] * 3]:
        end = now + pause_seconds
        while (wait_seconds := pace.wait_seconds(now)) is not None and now + wait_seconds <= end:
            now += wait_seconds
            for due in pace.due(now):
                look(due)
        now = end
        if path:
            waits.setdefault(path, now)
            if pace.told(path, now):
                look(path)
    assert waits == {}
