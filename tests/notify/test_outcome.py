from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.notify.outcome import Delivered, Refused, Retry, outcome_of, pause_seconds, wait_of

NOW = 1_800_000_000.0


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_answer_of_200_is_a_delivery(status: int) -> None:
    assert outcome_of(status, None, "", NOW) == Delivered()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_go_well_later_is_tried_again_when_the_receiver_says(status: int) -> None:
    outcome = outcome_of(status, "7", "busy", NOW)

    assert outcome == Retry(f"answered {status} (busy)", 7)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 405, 410, 413, 418, 422, 499])
def test_what_would_be_refused_again_is_given_up(status: int) -> None:
    assert isinstance(outcome_of(status, "7", "", NOW), Refused)


def test_a_refusal_says_what_to_do_where_that_is_known() -> None:
    assert outcome_of(401, None, "", NOW) == Refused("answered 401: look at the secret")
    assert "redirects are not followed" in str(outcome_of(302, None, "", NOW))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert wait_of(text, NOW) == seconds


@given(st.text())
def test_any_retry_after_is_understood_or_ignored(text: str) -> None:
    found = wait_of(text, NOW)

    assert found is None or found >= 0


SECONDS = st.floats(0.01, 86400)


@given(
    st.integers(1, 10_000),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1),
    SECONDS,
    SECONDS,
)
def test_a_pause_is_never_longer_than_the_longest_nor_shorter_than_half_of_what_it_grew_to(
    failures: int, asked: float | None, chance: float, first: float, longest: float
) -> None:
    pause = pause_seconds(failures, asked, chance, first_seconds=first, longest_seconds=longest)

    grown = min(longest, first * 2.0 ** min(failures - 1, 64))
    assert grown / 2 <= pause <= longest
    assert pause >= min(asked or 0, longest)


def test_pauses_double_up_to_the_longest() -> None:
    pauses = [
        pause_seconds(failures, None, 0, first_seconds=1, longest_seconds=10) for failures in range(1, 7)
    ]

    assert pauses == [1, 2, 4, 8, 10, 10]
