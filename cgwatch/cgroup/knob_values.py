"""Values of limits as people write and read them. Pure.

What ``format_value`` writes, ``parse_value`` reads as the same value again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

from cgwatch.cgroup.cpuset import numbers_of
from cgwatch.cgroup.formats import FormatError
from cgwatch.cgroup.knob import MOST_BYTES, Knob, Unit, Value
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, knob_of
from cgwatch.errors import LimitValueError, UnitError
from cgwatch.units import exact_size, format_duration, parse_duration, parse_size, shortened

DeviceOf = Callable[[str], str]
"""Gives ``MAJOR:MINOR`` of a block device's path such as ``/dev/sda``; raises a ``CgwatchError``."""

_UNLIMITED = frozenset({"max", "-1", "infinity", "inf", "unlimited"})
_WHOLE = re.compile(r"[0-9]{1,20}")
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_SWITCH = {"0": 0, "1": 1, "off": 0, "on": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
_SECOND = 1_000_000
_DEVICE_WORDS = ("rbps", "wbps", "riops", "wiops")


def parse_value(key: str, text: str) -> Value:
    """Return the value of ``512MiB``, ``max``, ``-1``, ``50000``, ``50ms``, ``on`` or ``0-3,8``.

    Bytes by ``units.parse_size``; microseconds as a bare number, which is what the kernel's file has, or as a
    duration. Raises ``UnknownLimitError`` for the key, ``LimitValueError`` for the value. Whether the kernel
    takes such a number is the plan's to say.
    """
    knob = knob_of(key)
    text = text.strip()
    if text.endswith("%"):
        raise LimitValueError(key, _percent(knob, text))
    if knob.unit is Unit.NUMBERS:
        return _numbers(knob, text)
    if knob.unit is Unit.SWITCH:
        if text.lower() not in _SWITCH:
            raise LimitValueError(key, f"{shortened(text)} is neither 0 nor 1")
        return _SWITCH[text.lower()]
    if text.lower() in _UNLIMITED:
        if not knob.unlimited:
            raise LimitValueError(key, f"it cannot be without limit; {_range(knob)}")
        return math.inf
    return _number(knob, text)


def _number(knob: Knob, text: str) -> int:
    if text.startswith("-"):
        raise LimitValueError(
            knob.key, f"{shortened(text)} is negative" + (", use max for no limit" if knob.unlimited else "")
        )
    try:
        if knob.unit in {Unit.BYTES, Unit.BYTES_PER_SECOND}:
            return parse_size(text)
        if knob.unit is Unit.MICROSECONDS and not _WHOLE.fullmatch(text):
            return round(parse_duration(text) * _SECOND)
    except UnitError as error:
        raise LimitValueError(knob.key, str(error)) from error
    if not _WHOLE.fullmatch(text):
        raise LimitValueError(knob.key, f"{shortened(text)} is not a whole number; {_range(knob)}")
    if int(text) > MOST_BYTES:
        raise LimitValueError(knob.key, f"{shortened(text)} is more than the kernel counts (2^63-1)")
    return int(text)


def _range(knob: Knob) -> str:
    numbers = f"write a number from {knob.least} to {knob.most}"
    return f"{numbers}, or max" if knob.unlimited else numbers


def _percent(knob: Knob, text: str) -> str:
    if knob.unit is Unit.MICROSECONDS:
        return f"{shortened(text)} does not say of what; write microseconds, or CPUs such as --cpus 1.5"
    return f"{shortened(text)} does not say of what: of the node, or of the present limit? Write the number"


def _numbers(knob: Knob, text: str) -> str:
    try:
        return format_numbers(numbers_of(text.replace(" ", "")))
    except FormatError as error:
        raise LimitValueError(knob.key, f"{shortened(text)} is not a list such as 0-3,8") from error


def format_numbers(numbers: frozenset[int]) -> str:
    """Return ``0-3,8`` as the kernel prints a mask."""
    ordered = sorted(numbers)
    ranges: list[list[int]] = []
    for number in ordered:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def format_value(key: str, value: Value) -> str:
    """Return ``512MiB``, ``max``, ``50ms``, ``100`` or ``0-3,8``: exact, in ``parse_value``'s notation."""
    knob = knob_of(key)
    if isinstance(value, str):
        return value
    if value == math.inf:
        return "max"
    if knob.unit in {Unit.BYTES, Unit.BYTES_PER_SECOND}:
        return exact_size(int(value))
    if knob.unit is Unit.MICROSECONDS and value <= knob.most:
        return format_duration(value / _SECOND)
    return str(int(value))


def parse_cpus(text: str) -> Fraction:
    """Return the CPUs in ``1.5``, exactly; ``LimitValueError`` where it is no positive decimal."""
    if text.endswith("%"):
        raise LimitValueError("--cpus", f"{shortened(text)}: write CPUs, 1.5 for one and a half of them")
    if not _DECIMAL.fullmatch(text) or not Fraction(text):
        raise LimitValueError("--cpus", f"{shortened(text)} is not a number of CPUs such as 1.5")
    return Fraction(text)


def quota_of_cpus(text: str, period_microseconds: int = DEFAULT_PERIOD_MICROSECONDS) -> int | float:
    """Return ``cpu.max`` for ``--cpus`` at a period, in microseconds, rounded down; ``max`` is no quota."""
    if text.lower() in _UNLIMITED:
        return math.inf
    return int(parse_cpus(text) * period_microseconds)


def parse_assignment(text: str, device: DeviceOf | None = None) -> dict[str, Value]:
    """Return the values by key of ``memory.high=400MiB`` or ``io.max=8:0 rbps=1MiB wiops=max``.

    ``cpu.max`` also takes the kernel's two numbers, quota and period. ``device`` finds ``MAJOR:MINOR`` where
    a device is named by its path. Raises a ``CgwatchError`` that says how to write it.
    """
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not key:
        raise LimitValueError(shortened(text), "write LIMIT=VALUE, such as memory.high=400MiB")
    return dict(_assigned(key, value.strip(), device))


def _assigned(key: str, value: str, device: DeviceOf | None) -> Iterator[tuple[str, Value]]:
    words = value.split()
    if key == "io.max":
        yield from _io_max(words, device)
    elif key == "cpu.max" and len(words) == 2:  # noqa: PLR2004 - as the kernel's file has it
        yield key, parse_value(key, words[0])
        yield "cpu.max.period", parse_value("cpu.max.period", words[1])
    else:
        name, bracket, rest = key.partition("[")
        if bracket and rest.endswith("]"):
            key = f"{name}[{_numbered(rest[:-1], device)}]"
        yield key, parse_value(key, value)


def _io_max(words: list[str], device: DeviceOf | None) -> Iterator[tuple[str, Value]]:
    if len(words) < 2:  # noqa: PLR2004 - a device and a bound
        raise LimitValueError("io.max", "write a device and what to bound: io.max=8:0 rbps=1MiB wiops=max")
    number = _numbered(words[0], device)
    for word in words[1:]:
        name, separator, text = word.partition("=")
        if name not in _DEVICE_WORDS or not separator:
            raise LimitValueError(
                "io.max", f"{shortened(word)} is none of {', '.join(_DEVICE_WORDS)} =NUMBER"
            )
        key = f"io.max.{name}[{number}]"
        yield key, parse_value(key, text)


def _numbered(name: str, device: DeviceOf | None) -> str:
    """``MAJOR:MINOR`` of a device that is named so, or by its path."""
    if name.startswith("/") and device is not None:
        return device(name)
    return name
