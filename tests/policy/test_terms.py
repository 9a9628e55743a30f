from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.errors import CgwatchError, UnitError
from cgwatch.policy.amounts import Known, Of, parse_change, parse_limit, resolve
from cgwatch.policy.terms import METRICS, Measure, format_measure, near_metrics, parse_threshold

GIBIBYTE = 1 << 30
KNOWN = Known(present=100, baseline=200, host=1000.0, period_microseconds=50_000)


@pytest.mark.parametrize(
    ("measure", "text", "value"),
    [
        (Measure.RATIO, "90%", 0.9),
        (Measure.RATIO, "0.5 %", 0.005),
        (Measure.BYTES, "2GiB", 2 * GIBIBYTE),
        (Measure.BYTES, "0", 0),
        (Measure.BYTES_PER_SECOND, "10MiB/s", 10 << 20),
        (Measure.PER_SECOND, "100/s", 100),
        (Measure.SECONDS, "1m30s", 90),
        (Measure.CPUS, "1.5", 1.5),
        (Measure.COUNT, "20", 20),
    ],
)
def test_a_threshold_is_written_with_what_it_counts(measure: Measure, text: str, value: float) -> None:
    assert parse_threshold(measure, text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        *((Measure.RATIO, text) for text in ("0.9", "90", "%", "-5%", "1e3%", "nan%", "٣%")),
        *((Measure.BYTES, text) for text in ("512", "90%", "5 parsecs", "-1MiB", "inf")),
        *((Measure.BYTES_PER_SECOND, text) for text in ("10MiB", "10/s", "10")),
        *((Measure.PER_SECOND, text) for text in ("10", "10MiB/s")),
        *((Measure.SECONDS, text) for text in ("10", "5%")),
        *((Measure.COUNT, text) for text in ("5%", "nan", "1_0", "")),
    ],
)
def test_a_number_that_may_mean_another_thing_is_refused(measure: Measure, text: str) -> None:
    with pytest.raises(UnitError):
        parse_threshold(measure, text)


@given(st.sampled_from(Measure), st.text(max_size=12) | st.from_regex(r"[0-9.]{1,6}[%a-zA-Z/]{0,4}"))
def test_any_text_is_a_finite_threshold_or_an_error(measure: Measure, text: str) -> None:
    try:
        value = parse_threshold(measure, text)
    except UnitError:
        return
    assert 0 <= value < math.inf
    assert format_measure(measure, value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("memory.max", "1GiB", GIBIBYTE),
        ("memory.max", "max", math.inf),
        ("memory.swap.max", "0", 0),
        ("memory.max", "150% of baseline", 300),
        ("memory.max", "50% of host", 500),
        ("cpus", "1.5", 75_000),
        ("cpu.max", "50ms", 50_000),
        ("cpu.weight", "20", 20),
        ("pids.max", "512", 512),
        ("cpuset.cpus", "0-3", "0-3"),
        ("io.max.rbps[8:0]", "10MiB/s", 10 << 20),
        ("io.max.wiops[8:0]", "100/s", 100),
    ],
)
def test_an_amount_is_a_value_for_each_container(name: str, text: str, value: object) -> None:
    assert resolve(parse_limit(name, text), KNOWN) == value


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("memory.max", "512", "write 512MiB"),
        ("memory.max", "50%", "of what"),
        ("cpu.max", "50000", "write it like 50ms, or use cpus"),
        ("cpus", "50%", "of what"),
        ("cpus", "two", "not a number of CPUs"),
        ("pids.max", "50% of host", "the node has no number for pids.max"),
        ("pids.max", "many", "is not a whole number"),
        ("cpu.weight", "0", "is not from 1 to 10000"),
        ("cpuset.cpus", "50% of baseline", "use set"),
        ("memory.nothing", "5", "there is no limit"),
    ],
)
def test_an_amount_that_is_none_says_how_to_write_it(name: str, text: str, words: str) -> None:
    with pytest.raises(CgwatchError) as caught:
        parse_limit(name, text)

    assert words in str(caught.value)


def test_by_is_of_the_present_value_and_never_nothing() -> None:
    assert parse_change("memory.max", "20%").of is Of.PRESENT
    assert resolve(parse_change("memory.max", "20%"), KNOWN) == 20
    for text in ("0%", "0", "max"):
        with pytest.raises(CgwatchError):
            parse_change("memory.max", text)


def test_what_is_not_known_is_no_value() -> None:
    assert resolve(parse_limit("memory.max", "50% of host"), Known(100, 100, None)) is None
    assert resolve(parse_limit("memory.max", "50% of baseline"), Known(100, None, 5)) is None
    assert resolve(parse_limit("memory.max", "50% of baseline"), Known(100, math.inf, 5)) == math.inf


def test_names_that_are_near_are_found() -> None:
    assert "memory.usage.ratio" in near_metrics("memory.usage_ratio")
    assert all(near_metrics(name)[0] == name for name in METRICS)
