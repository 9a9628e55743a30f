"""What the bench takes from the pages that it compares."""

from __future__ import annotations

import pytest

from bench.client import samples, value
from bench.said import families_of, lines_of, moments, rate

PAGE = b"""# HELP container_cpu_user_seconds_total Time.
# TYPE container_cpu_user_seconds_total counter
container_cpu_user_seconds_total{id="/"} 1 1000
container_cpu_user_seconds_total{id="/ours/a",name=""} 2 1100
container_cpu_user_seconds_total{id="/ours/b"} 3 1200
# HELP container_last_seen Time.
# TYPE container_last_seen gauge
container_last_seen{id="/ours/a"} 4
container_last_seen{id="/ours/a",more="x"} 4
container_last_seen{id="/ours/ab"} 4
cgwatch_cgroups 3.0
"""


def test_comments_are_no_samples() -> None:
    assert samples(PAGE) == 7


def test_a_value_is_found_by_its_whole_name() -> None:
    assert value(PAGE, b"cgwatch_cgroups") == 3.0
    assert value(PAGE, b"cgwatch_cgroup") is None


def test_the_times_of_samples_are_those_of_our_own_cgroups() -> None:
    lines = lines_of(PAGE, b"container_cpu_user_seconds_total")
    assert moments(lines, "/ours") == {b"/ours/a": 1100, b"/ours/b": 1200}


def test_the_series_of_one_cgroup_are_counted_by_name() -> None:
    assert families_of(PAGE, "/ours/a") == {"container_cpu_user_seconds_total": 1, "container_last_seen": 2}


def test_samples_are_counted_between_pages_that_miss_none() -> None:
    pages = [(0.0, {b"a": 1, b"b": 1}), (1.0, {b"a": 2, b"b": 1}), (2.0, {b"a": 2, b"b": 2})]
    assert rate(pages, 1.0) == pytest.approx(0.5)


def test_pages_too_far_apart_say_nothing_about_how_often_it_samples() -> None:
    assert rate([(0.0, {b"a": 1}), (3.0, {b"a": 2})], 1.0) is None
