from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup.shares import (
    MOST_SHARES,
    MOST_WEIGHT,
    Formula,
    formula_of,
    is_of,
    shares_of,
    shares_of_quota,
    weight_of,
)

LINEAR, QUADRATIC = Formula.LINEAR, Formula.QUADRATIC
SHARES = range(2, MOST_SHARES + 1)


@pytest.mark.parametrize(
    ("shares", "old_weight", "old_shown", "new_weight", "new_shown_as_old"),
    [
        (2, 1, 2, 1, 2),
        (102, 4, 80, 17, 421),
        (512, 20, 500, 59, 1522),
        (1024, 39, 998, 100, 2597),
        (4096, 157, 4091, 303, 7919),
        (MOST_SHARES, 10000, MOST_SHARES, 10000, MOST_SHARES),
    ],
)
def test_runtimes_write_these_weights_and_cadvisor_shows_them_as_these_shares(
    shares: int, old_weight: int, old_shown: int, new_weight: int, new_shown_as_old: int
) -> None:
    assert (weight_of(shares, LINEAR), weight_of(shares, QUADRATIC)) == (old_weight, new_weight)
    assert shares_of(old_weight, LINEAR) == old_shown
    assert shares_of(new_weight, LINEAR) == new_shown_as_old


def test_the_issues_of_runc_and_youki_name_these_weights() -> None:
    assert (weight_of(2000, LINEAR), weight_of(2000, QUADRATIC)) == (77, 170)
    assert weight_of(22000, QUADRATIC) == 1204


def test_all_shares_come_back_from_the_older_formula_but_for_what_a_weight_holds() -> None:
    lost = [shares - shares_of(weight_of(shares, LINEAR), LINEAR) for shares in SHARES]
    assert (min(lost), max(lost)) == (0, 27)


def test_all_shares_come_back_from_the_newer_formula_as_the_most_of_the_same_weight() -> None:
    weights = [weight_of(shares, QUADRATIC) for shares in SHARES]
    most = dict(zip(weights, SHARES, strict=True))  # the last one of each weight
    assert {weight: shares_of(weight, QUADRATIC) for weight in most} == most
    assert sorted(most) == list(range(1, MOST_WEIGHT + 1))
    assert [shares_of(weight, QUADRATIC) for weight in (1, 100, 10000)] == [2, 1024, MOST_SHARES]


@pytest.mark.parametrize("formula", Formula)
def test_more_shares_are_never_less_weight_nor_more_weight_less_shares(formula: Formula) -> None:
    weights = [weight_of(shares, formula) for shares in SHARES]
    shares = [shares_of(weight, formula) for weight in range(1, MOST_WEIGHT + 1)]
    assert weights == sorted(weights)
    assert shares == sorted(set(shares))


@given(st.integers(), st.sampled_from(Formula))
def test_any_number_gives_shares_and_weights_that_the_kernel_takes(number: int, formula: Formula) -> None:
    assert 1 <= weight_of(number, formula) <= MOST_WEIGHT
    assert 2 <= shares_of(number, formula) <= MOST_SHARES


def test_a_weight_tells_its_formula_but_at_the_two_ends() -> None:
    told = {shares: formula_of(shares, weight_of(shares, QUADRATIC)) for shares in SHARES}
    assert [shares for shares, formula in told.items() if formula is None] == [2, MOST_SHARES]
    assert set(told.values()) == {None, QUADRATIC}
    assert formula_of(512, weight_of(512, LINEAR)) is LINEAR


def test_a_weight_that_no_runtime_wrote_tells_nothing() -> None:
    assert formula_of(512, 21) is None
    assert not is_of(21, 512)
    assert is_of(20, 512)
    assert is_of(59, 512)


@pytest.mark.parametrize(
    ("quota", "period", "shares"),
    [
        (10_000, 100_000, 102),
        (25_000, 100_000, 256),
        (100_000, 100_000, 1024),
        (150_000, 100_000, 1536),
        (1000, 100_000, 10),
        (50_000, 50_000, 1024),
        (math.inf, 100_000, None),
        (None, None, None),
        (10_000, 0, None),
    ],
)
def test_a_quota_stands_for_the_shares_that_kubernetes_asks_for_beside_it(
    quota: float | None, period: int | None, shares: int | None
) -> None:
    assert shares_of_quota(quota, period) == shares
