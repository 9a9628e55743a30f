from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import astuple

from cgwatch.cgroup import formats
from cgwatch.cgroup.formats import FormatError

NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)
KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.", min_size=1)
NO_NUMBERS = (
    b"",
    b"\n",
    b"1_000\n",
    b"+5\n",
    b"5 6\n",
    b"0x10\n",
    b"1.0\n",
    b"--5\n",
    b"-\n",
    b"5 -\n",
    b"nan\n",
)


class Three(Struct, frozen=True):
    first: int | None = None
    second: int | None = None
    third: int | None = None


three = formats.flat_keyed(Three, {"first": "a", "third": "c"})


@given(NUMBERS)
def test_an_integer_is_what_the_kernel_printed(number: int) -> None:
    assert formats.integer(b"%d\n" % number) == number
    assert formats.integer(b"%d" % number) == number


@pytest.mark.parametrize("raw", NO_NUMBERS)
def test_what_is_no_integer_is_an_error_and_never_a_zero(raw: bytes) -> None:
    with pytest.raises(FormatError):
        formats.integer(raw)


@pytest.mark.parametrize("raw", ["٣", "\N{FULLWIDTH DIGIT THREE}", "²", "5²"])
def test_digits_of_other_scripts_are_no_integer(raw: str) -> None:
    with pytest.raises(FormatError):
        formats.integer(raw.encode())


@pytest.mark.parametrize("digits", [21, 400, sys.get_int_max_str_digits() + 1])
def test_a_number_of_more_than_64_bits_is_an_error(digits: int) -> None:
    with pytest.raises(FormatError):
        formats.integer(b"9" * digits)


@pytest.mark.parametrize("raw", [b"5\r\n", b" 5 \n", b"5"])
def test_white_space_around_an_integer_does_not_matter(raw: bytes) -> None:
    assert formats.integer(raw) == 5


@given(NUMBERS)
def test_a_limit_is_an_integer_or_max(number: int) -> None:
    assert formats.limit(b"%d\n" % number) == number
    assert formats.limit(b"max\n") == math.inf
    assert formats.limit(b"max") == math.inf


@pytest.mark.parametrize("raw", [b"", b"maximum\n", b"MAX\n", b"inf\n", b"max 5\n"])
def test_no_other_word_than_max_is_a_limit(raw: bytes) -> None:
    with pytest.raises(FormatError):
        formats.limit(raw)


def test_a_boolean_is_0_or_1() -> None:
    assert formats.boolean(b"0\n") is False
    assert formats.boolean(b"1\n") is True
    for raw in (b"2\n", b"-1\n", b"true\n", b""):
        with pytest.raises(FormatError):
            formats.boolean(raw)


@given(st.lists(NUMBERS, min_size=1))
def test_integers_are_what_the_kernel_printed(numbers: list[int]) -> None:
    # The kernel ends cpuacct.usage_percpu with a space before the newline.
    raw = b"".join(b"%d " % number for number in numbers) + b"\n"
    assert formats.integers(raw) == tuple(numbers)


def test_no_integers_at_all_are_an_error() -> None:
    for raw in (b"", b"\n", b"1 x\n"):
        with pytest.raises(FormatError):
            formats.integers(raw)


@given(st.dictionaries(KEYS, NUMBERS))
def test_flat_keyed_lines_give_the_wanted_keys_and_skip_the_others(lines: dict[str, int]) -> None:
    raw = "".join(f"{key} {value}\n" for key, value in lines.items()).encode()
    expected = (lines.get("a"), None, lines.get("c"))
    assert astuple(three(raw)) == expected
    assert astuple(three(raw.removesuffix(b"\n"))) == expected


@given(st.permutations(["a 1\n", "b 2\n", "c 3\n", "newer_than_we_are 4\n"]))
def test_the_order_of_flat_keyed_lines_does_not_matter(lines: list[str]) -> None:
    assert astuple(three("".join(lines).encode())) == (1, None, 3)


@pytest.mark.parametrize(
    "raw",
    [
        b"\n",
        b"a\n",
        b"a 1\n\nc 2\n",
        b"a  1\n",
        b"a\t1\n",
        b"a 1 2\n",
        b"a max\n",
        b"a 1.5\n",
        b"a 1.0\n",
        b"a 1e3\n",
        b"a null\n",
        b"a true\n",
        b'a 1,"c":5\n',
        b'"a" 1\n',
        b"a 1}\n",
        b"a " + b"9" * (sys.get_int_max_str_digits() + 1) + b"\n",
        b"x " + b"[" * 100_000,
        b"x {\n",
        "a ٣\n".encode(),
    ],
)
def test_what_is_not_flat_keyed_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        three(raw)


def test_an_empty_flat_keyed_file_says_nothing() -> None:
    assert astuple(three(b"")) == (None, None, None)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, st.text("0123456789max:", min_size=1))))
def test_nested_keyed_lines_give_every_key_with_its_pairs(lines: dict[str, dict[str, str]]) -> None:
    raw = "".join(
        f"{key} {' '.join(f'{name}={value}' for name, value in pairs.items())}\n"
        for key, pairs in lines.items()
    )
    assert formats.nested_keyed(raw.encode()) == lines


def test_the_values_of_a_line_with_several_keys_are_the_last_ones() -> None:
    # Linux 5.15 and 5.16 end no line of a device without statistics: of four loop devices one was read.
    raw = b"8:0 rbytes=1 wbytes=2\n7:7 7:6 7:5 7:4 rbytes=28672 wbytes=0\n7:3 "
    assert formats.nested_keyed(raw) == {
        "8:0": {"rbytes": "1", "wbytes": "2"},
        "7:7": {},
        "7:6": {},
        "7:5": {},
        "7:4": {"rbytes": "28672", "wbytes": "0"},
        "7:3": {},
    }


@pytest.mark.parametrize(
    "raw", [b"\n", b"8:0 a=1\n\n", b"a=1\n", b"8:0 =1\n", b"8:0 \xff=1\n", "8:0 é=1\n".encode()]
)
def test_what_is_not_nested_keyed_is_an_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        formats.nested_keyed(raw)


PERCENT = st.integers(0, 10_000)


@given(st.tuples(PERCENT, PERCENT, PERCENT, st.integers(0, (1 << 64) - 1)))
def test_pressure_is_ratios_and_seconds(numbers: tuple[int, int, int, int]) -> None:
    avg10, avg60, avg300, total = numbers
    line = " ".join(
        f"{name}={value // 100}.{value % 100:02}"
        for name, value in {"avg10": avg10, "avg60": avg60, "avg300": avg300}.items()
    )
    found = formats.pressure(f"some {line} total={total}\n".encode())
    assert found.full is None
    assert found.some is not None
    assert found.some.avg10_ratio == pytest.approx(avg10 / 10_000)
    assert found.some.avg60_ratio == pytest.approx(avg60 / 10_000)
    assert found.some.avg300_ratio == pytest.approx(avg300 / 10_000)
    assert found.some.total_seconds == pytest.approx(total / 1_000_000)


LINE = "avg10=1.50 avg60=0.25 avg300=0.00 total=2000000"
PARSED = formats.PressureLine(0.015, 0.0025, 0.0, 2.0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (f"some {LINE}\nfull {LINE}\n", formats.Pressure(PARSED, PARSED)),
        (f"some {LINE}\n", formats.Pressure(some=PARSED)),  # cpu.pressure before 5.13
        (f"full {LINE}\n", formats.Pressure(full=PARSED)),  # irq.pressure
    ],
)
def test_pressure_has_the_lines_that_the_kernel_prints(raw: str, expected: formats.Pressure) -> None:
    assert formats.pressure(raw.encode()) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "\n",
        f"some {LINE}",
        f"some {LINE}\r\n",
        f"full {LINE}\nsome {LINE}\n",
        f"some {LINE}\nsome {LINE}\n",
        f"\nsome {LINE}\n",
        f"much {LINE}\n",
        f"some {LINE}\n".replace("0.25", "-0.25"),
        f"some {LINE}\n".replace("0.25", "nan"),
        f"some {LINE}\n".replace("2000000", "9" * 400),
        f"some {LINE}\n".replace("1.50", "9" * 400 + ".00"),
        f"some {LINE}\n".replace("2000000", "٣"),
    ],
)
def test_what_is_not_pressure_is_an_error(raw: str) -> None:
    with pytest.raises(FormatError):
        formats.pressure(raw.encode())


def test_an_error_shows_the_begin_of_the_text_and_no_more() -> None:
    with pytest.raises(FormatError) as error:
        formats.integer(b"\xff" + b"x" * 1000)
    assert "\\xff" in str(error.value)
    assert str(error.value).endswith("...")
    assert len(str(error.value)) < 120
