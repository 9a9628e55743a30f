"""The sums behind the bench's rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.numbers import parts, percentile, slope

NUMBERS = st.floats(min_value=-1e6, max_value=1e6)


def test_a_percentile_is_one_of_the_values_and_never_in_between() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0


def test_of_few_values_the_99th_percentile_is_the_greatest() -> None:
    assert percentile([1.0, 9.0, 2.0], 0.99) == 9.0


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@given(st.lists(NUMBERS, min_size=1), st.floats(min_value=0, max_value=1))
def test_at_least_its_share_of_the_values_is_not_above_a_percentile(
    values: list[float], ratio: float
) -> None:
    found = percentile(values, ratio)
    assert found in values
    assert sum(value <= found for value in values) >= ratio * len(values)


def test_a_slope_is_what_each_further_cgroup_costs() -> None:
    assert slope([(100, 50.0), (500, 70.0), (2000, 145.0)]) == pytest.approx(0.05)


def test_one_number_of_cgroups_has_no_slope() -> None:
    assert slope([(100, 50.0), (100, 51.0)]) is None


def test_the_cost_of_a_scrape_is_told_from_the_cost_of_sampling() -> None:
    # 0.02 of a core besides, and 0.5 s for each scrape: once in a minute, then ten times in ten seconds.
    second, scrape = parts((60 * 0.02 + 4 * 0.5, 60.0, 4), (10 * 0.02 + 10 * 0.5, 10.0, 10))
    assert second == pytest.approx(0.02)
    assert scrape == pytest.approx(0.5)


def test_equally_many_scrapes_tell_nothing_about_their_cost() -> None:
    with pytest.raises(ValueError, match="equally often"):
        parts((1.0, 10.0, 1), (2.0, 20.0, 2))
