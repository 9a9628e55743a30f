"""Limits as the kernel's files have them: text <-> values, for v2 and v1. Pure.

A file reads as it is written nearly everywhere; where it does not, it says so beside the code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from cgwatch.cgroup.cpu import parse_cpu_max, parse_quota_v1
from cgwatch.cgroup.cpuset import numbers_of
from cgwatch.cgroup.formats import FormatError, boolean, integer, limit
from cgwatch.cgroup.io import parse_blkio_bound, parse_io_max, parse_weight
from cgwatch.cgroup.knob import V2, Knob, Per, Unit, Value
from cgwatch.cgroup.knob_values import format_numbers
from cgwatch.cgroup.knobs import KNOBS, knob_of
from cgwatch.cgroup.memory import parse_limit_v1
from cgwatch.errors import LimitValueError

Values = Mapping[str, Value]
Parse = Callable[[bytes], dict[str, Value]]

MEMORY_AND_SWAP = "memory.memsw"
"""What ``parse_file`` calls v1's limit of memory and swap together, for ``settled`` to make
``memory.swap.max`` of."""

_WORDS = {"rbps": "read_bytes", "wbps": "written_bytes", "riops": "reads", "wiops": "writes"}


class Write(Struct, frozen=True):
    """One write: what goes into which file."""

    controller: str
    """By v2's name; empty: the unified hierarchy's core."""
    file: str
    text: str
    keys: tuple[str, ...]
    """Whose values it writes."""


def write_of(version: int, key: str, values: Values) -> Write:
    """Return what sets ``key`` to its value in ``values``, on that version of its controller.

    ``values`` also has what is written along with it: ``cpu.max`` and its period on v2, ``memory.max`` for
    ``memory.swap.max`` on v1. Raises ``LimitValueError`` where that version has no such limit.
    """
    knob = knob_of(key)
    place = knob.place(version)
    if place is None:
        raise LimitValueError(key, knob.absent)
    keys: tuple[str, ...] = (key,)
    value = values[key]
    if place.file == "cpu.max":
        keys = ("cpu.max", "cpu.max.period")
        text = f"{_number(values['cpu.max'], 'max')} {values['cpu.max.period']}"
    elif place.above_file:
        memory = values["memory.max"]
        text = "-1" if math.inf in {value, memory} else str(int(value) + int(memory))
    elif knob.key == "cgroup.freeze" and version != V2:
        text = "FROZEN" if value else "THAWED"
    elif knob.per is Per.DEVICE:
        # v1 knows no word for no limit on a device: 0 takes it away.
        text = (
            f"{knob.detail} {place.word}={_number(value, 'max')}"
            if version == V2
            else f"{knob.detail} {_number(value, '0')}"
        )
    elif knob.unit is Unit.NUMBERS:
        # A write of nothing is none; a blank line clears the list.
        text = str(value) or "\n"
    else:
        text = _number(value, "max" if version == V2 or key == "pids.max" else "-1")
    return Write(knob.controller if place.controller else "", place.file, text, keys)


def _number(value: Value, unlimited: str) -> str:
    return unlimited if value == math.inf else str(value)


def parse_file(version: int, file: str, raw: bytes) -> dict[str, Value]:
    """Return the limits that one file of one cgroup says, by key; none of a file that is of no limit.

    Devices without a bound are not in their file. Raises ``FormatError``.
    """
    parse = _parser(version, file)
    return parse(raw) if parse else {}


def is_limit_file(version: int, file: str) -> bool:
    """Whether limits are read from a file of this name on that version."""
    return _parser(version, file) is not None


def settled(values: Values) -> dict[str, Value]:
    """Return the limits of one cgroup, with v1's memory and swap together as ``memory.swap.max``."""
    found = dict(values)
    both, memory = found.pop(MEMORY_AND_SWAP, None), found.get("memory.max")
    if isinstance(both, (int, float)) and isinstance(memory, (int, float)):
        found["memory.swap.max"] = math.inf if math.inf in {both, memory} else max(both - memory, 0)
    return found


def device_keys(device: str) -> tuple[str, ...]:
    """Return the keys of all bounds of one block device."""
    return tuple(f"io.max.{word}[{device}]" for word in _WORDS)


def _parser(version: int, file: str) -> Parse | None:
    if found := _PARSERS[version].get(file):
        return found
    size = _HUGETLB[version].fullmatch(file)
    return _one(f"{size[1]}.max", limit if version == V2 else parse_limit_v1) if size else None


_HUGETLB = {
    1: re.compile(r"(hugetlb\.\d{1,7}[KMG]B(?:\.rsvd)?)\.limit_in_bytes"),
    V2: re.compile(r"(hugetlb\.\d{1,7}[KMG]B(?:\.rsvd)?)\.max"),
}


def _one(key: str, parse: Callable[[bytes], Value]) -> Parse:
    return lambda raw: {key: parse(raw)}


def _cpu_max(raw: bytes) -> dict[str, Value]:
    maximum = parse_cpu_max(raw)
    return {"cpu.max": maximum.quota_microseconds, "cpu.max.period": maximum.period_microseconds}


def _io_max(raw: bytes) -> dict[str, Value]:
    return {
        f"io.max.{word}[{bound.major}:{bound.minor}]": getattr(bound, field)
        for bound in parse_io_max(raw)
        for word, field in _WORDS.items()
    }


def _bound_v1(word: str) -> Parse:
    return lambda raw: {
        f"io.max.{word}[{major}:{minor}]": value for (major, minor), value in parse_blkio_bound(raw).items()
    }


def _numbers(raw: bytes) -> str:
    try:
        return format_numbers(numbers_of(raw.decode("ascii")))
    except UnicodeDecodeError as error:
        raise FormatError("a list of numbers and ranges", raw) from error


def _switch(raw: bytes) -> int:
    return int(boolean(raw))


def _made(knob: Knob, version: int) -> Parse:
    """Return the parser of a file that has one number for the whole cgroup."""
    if knob.unit is Unit.NUMBERS:
        return _one(knob.key, _numbers)
    if knob.unit is Unit.SWITCH:
        return _one(knob.key, _switch)
    if knob.controller == "io":
        return _one(knob.key, parse_weight)
    if knob.key == "cpu.max":
        return _one(knob.key, parse_quota_v1)
    if version != V2 and knob.controller == "memory":
        key = MEMORY_AND_SWAP if knob.v1 and knob.v1.above_file else knob.key
        return _one(key, parse_limit_v1)
    return _one(knob.key, limit if knob.unlimited else integer)


def _parsers(version: int) -> dict[str, Parse]:
    found: dict[str, Parse] = {}
    for knob in KNOBS:
        place = knob.place(version)
        if place is None or knob.per is Per.SIZE:
            continue
        if place.file == "cpu.max":
            found[place.file] = _cpu_max
        elif knob.per is Per.DEVICE:
            word = knob.key.removeprefix("io.max.").removesuffix("[DEVICE]")
            found[place.file] = _io_max if version == V2 else _bound_v1(word)
        else:
            found[place.read_file or place.file] = _made(knob, version)
    return found


_PARSERS = {version: _parsers(version) for version in (1, V2)}
