from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgwatch.errors import UnitError
from cgwatch.units import (
    format_count,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    quoted,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024


def outcome_of(parse: Callable[[str], float], text: str) -> float | UnitError:
    try:
        return parse(text)
    except UnitError as error:
        return error


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("5s", 5),
        ("0s", 0),
        ("1m30s", 90),
        ("1.5s", 1.5),
        ("1h", 3600),
        ("1d", 86400),
        ("1d2h3m4s5ms", 93784.005),
    ],
)
def test_a_duration_is_read_into_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_a_duration_without_a_unit_is_told_to_take_one() -> None:
    with pytest.raises(UnitError, match=r'^"5" has no unit; give a unit, such as 5s$'):
        parse_duration("5")


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "5 s", " 5s", "5s\n", "-5s", "+5s", "1s1m", "1s1s", "5S", "nan", "inf", "infs", "1e3s"),
        *(".5s", "5.s", "\N{ARABIC-INDIC DIGIT FIVE}s", "1_0s", "5 parsecs", "9" * 100 + "s"),
    ],
)
def test_what_is_no_duration_is_an_error_that_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(UnitError, match=r'^".*" is not a duration; write it like 5s or 1m30s$'):
        parse_duration(text)


@given(st.text())
@example("9" * 60 + "d")
def test_any_text_is_a_finite_duration_or_a_unit_error(text: str) -> None:
    outcome = outcome_of(parse_duration, text)

    if isinstance(outcome, UnitError):
        assert str(outcome).isprintable()
    else:
        assert 0 <= outcome < math.inf


@given(st.integers(min_value=0, max_value=10**15))
def test_a_formatted_duration_reads_back_to_the_microsecond(microseconds: int) -> None:
    seconds = microseconds / 1_000_000

    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0000001, "0s"),
        (0.0004, "0.4ms"),
        (0.1, "100ms"),
        (1, "1s"),
        (1.05, "1.05s"),
        (59.9999999, "1m"),
        (90, "1m30s"),
        (93784.005, "1d2h3m4.005s"),
    ],
)
def test_a_duration_is_written_without_empty_parts(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("536870912", 512 * MIB),
        ("12b", 12),
        ("12B", 12),
        ("64k", 64 * 1024),
        ("512m", 512 * MIB),
        ("1g", 1024 * MIB),
        ("512M", 512 * MIB),
        ("512Mi", 512 * MIB),
        ("512MiB", 512 * MIB),
        ("12.5 MiB", 12.5 * MIB),
        ("2TiB", 2 * 1024**4),
        ("1P", 1024**5),
        ("512kB", 512_000),
        ("512MB", 512_000_000),
        ("1GB", 10**9),
        ("0.3k", 307),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_size_is_read_in_the_notations_of_docker_the_kernel_and_kubernetes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "is not a size"),
        ("-1", "is not a size"),
        ("1e9", "is not a size"),
        ("nan", "is not a size"),
        ("5 parsecs", "write it like 512MiB"),
        ("512mb", r"write 512MiB \(powers of 1024\) or 512MB \(powers of 1000\)"),
        ("64KB", r"write 64KiB \(powers of 1024\) or 64kB \(powers of 1000\)"),
        ("9223372036854775808", "more than the kernel counts"),
        ("8589934592G", "more than the kernel counts"),
        ("9" * 100, "is not a size"),
    ],
)
def test_what_is_no_size_is_an_error_that_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(UnitError, match=advice):
        parse_size(text)


@given(st.text())
def test_any_text_is_a_size_that_the_kernel_can_count_or_a_unit_error(text: str) -> None:
    outcome = outcome_of(parse_size, text)

    if isinstance(outcome, UnitError):
        assert str(outcome).isprintable()
    else:
        assert 0 <= outcome < 2**63


@given(
    st.integers(min_value=0, max_value=2**33),
    st.sampled_from([("KiB", 1024), ("k", 1024), ("Mi", MIB), ("kB", 1000), ("GB", 10**9)]),
)
def test_a_whole_number_of_units_is_read_to_the_byte(number: int, unit: tuple[str, int]) -> None:
    suffix, factor = unit
    if number * factor >= 2**63:
        with pytest.raises(UnitError):
            parse_size(f"{number}{suffix}")
    else:
        assert parse_size(f"{number}{suffix}") == number * factor


@given(st.integers(min_value=0, max_value=2**59))
def test_a_formatted_size_reads_back_to_four_digits(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.001)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1KiB"),
        (12.3 * MIB, "12.3MiB"),
        (1.944 * 1024 * MIB, "1.944GiB"),
        (math.inf, "max"),
    ],
)
def test_a_size_is_written_as_docker_stats_does(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1500, "1.5k"), (20_000_000, "20M"), (math.inf, "max")],
)
def test_a_count_is_written_in_powers_of_a_thousand(count: float, text: str) -> None:
    assert format_count(count) == text


@given(st.text(st.characters(codec=None)))
@example("\x7f\x85\u2028\ud800\U000e0001")
def test_quoted_text_is_one_printable_line_of_json(text: str) -> None:
    shown = quoted(text)

    assert shown.isprintable()
    assert json.loads(shown) == text


def test_a_long_text_is_cut_in_a_message() -> None:
    assert shortened("x" * 1000) == '"' + "x" * 64 + '…"'
