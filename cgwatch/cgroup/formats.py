"""The text formats of cgroup files, as pure functions from bytes to values.

The kernel documents four shapes (Documentation/admin-guide/cgroup-v2.rst, "Format"; cgroup v1 uses the
same ones): one value, a list of values, ``KEY VALUE`` lines ("flat keyed") and ``KEY SUB=VALUE ...``
lines ("nested keyed"). Every function here takes a whole file and raises ``FormatError`` when the text
is anything else; nothing is ever guessed, and a malformed number is never a zero.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, TypeVar, cast, get_args

import msgspec
from msgspec import Struct

Shape = TypeVar("Shape", bound=Struct)

_SHOWN = 60  # bytes of the offending text that an error repeats


class FormatError(ValueError):
    """The text of a kernel file is not in its documented format."""

    def __init__(self, expected: str, raw: bytes) -> None:
        shown = raw[:_SHOWN].decode("utf-8", "backslashreplace")
        super().__init__(f"expected {expected}, found {shown!r}{'...' if len(raw) > _SHOWN else ''}")


def integer(raw: bytes) -> int:
    """One decimal integer, such as ``memory.current``; negative values are kept (``-1`` in v1 limits)."""
    text = raw.strip()
    # int() alone would also take "1_000", "+5" and numbers that no float can hold.
    if len(text) <= _DIGITS and (text.isdigit() or (text[:1] == b"-" and text[1:].isdigit())):
        return int(text)
    raise FormatError("one integer", raw)


_DIGITS = 20  # of the longest number of 64 bits; with a sign it is 19 and the sign


def limit(raw: bytes) -> int | float:
    """One integer or ``max``, such as ``memory.max``; ``max`` is ``math.inf``."""
    if raw == b"max\n" or raw.strip() == b"max":
        return math.inf
    return integer(raw)


def boolean(raw: bytes) -> bool:
    """``0`` or ``1``, such as ``memory.oom.group``."""
    value = integer(raw)
    if value not in (0, 1):
        raise FormatError("0 or 1", raw)
    return value == 1


def integers(raw: bytes) -> tuple[int, ...]:
    """Integers separated by white space, such as ``cpuacct.usage_percpu``."""
    texts = raw.split()
    if not texts:
        raise FormatError("integers", raw)
    return tuple(integer(text) for text in texts)


def flat_keyed(shape: type[Shape], keys: Mapping[str, str]) -> Callable[[bytes], Shape]:
    """Return a parser of ``KEY VALUE`` lines into ``shape``.

    ``keys`` maps fields of ``shape`` to the kernel's keys. A key that the kernel does not print leaves the
    field ``None``; keys that are not in ``keys`` are newer than we are, and skipped. A field's type may bound
    its value with ``msgspec.Meta``.

    Two replacements turn such a file into a JSON object, and msgspec then decodes just the wanted keys into
    their fields in one pass in C: half the time of splitting it in Python. What comes out is of a subclass of
    ``shape`` that knows the kernel's names, and like any ``Struct`` it equals none of another class.
    """
    # Without None: "null" is no number of the kernel.
    fields = [
        (field.name, _without_none(field.type), None)
        for field in msgspec.structs.fields(shape)
        if field.name in keys
    ]
    wire = cast(
        "type[Shape]",
        msgspec.defstruct(shape.__name__, fields, bases=(shape,), rename=dict(keys), frozen=True, gc=False),
    )
    decode = msgspec.json.Decoder(wire).decode

    def parse(raw: bytes) -> Shape:
        if not raw:
            return empty
        body = raw[:-1] if raw[-1] == _NEWLINE else raw
        if b'"' in raw:  # it could smuggle in keys
            raise FormatError("lines of KEY VALUE", raw)
        try:
            return decode(b'{"' + body.replace(b" ", b'":').replace(b"\n", b',"') + b"}")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FormatError("lines of KEY VALUE with integer values", raw) from error

    empty = wire()
    return parse


def _without_none(kind: Any) -> Any:  # noqa: ANN401 - a type
    return functools.reduce(operator.or_, (each for each in get_args(kind) if each is not NoneType))


_NEWLINE = ord("\n")


def nested_keyed(raw: bytes) -> dict[str, dict[str, str]]:
    """``KEY SUB=VALUE SUB=VALUE`` lines, such as ``io.max``; the values are left as text.

    A key alone is allowed: ``io.stat`` prints ``8:0 `` for a device without statistics, 5.15 and 5.16 without
    a newline after it. One line then holds several keys, and the values are the last one's.
    """
    found: dict[str, dict[str, str]] = {}
    for line in _text(raw).splitlines():
        values: dict[str, str] | None = None
        for word in line.split():
            name, separator, value = word.partition("=")
            if not separator:
                values = found.setdefault(word, {})
            elif name and values is not None:
                values[name] = value
            else:
                raise FormatError("lines of KEY SUB=VALUE", raw)
    return found


def _text(raw: bytes) -> str:
    """Kernel files are ASCII, without blank lines."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise FormatError("ASCII text", raw) from error
    if any(not line.strip() for line in text.splitlines()):
        raise FormatError("no blank lines", raw)
    return text


class PressureLine(Struct, frozen=True, gc=False):
    """One line of a pressure file: how much time tasks were held up by a lack of the resource."""

    avg10_ratio: float
    avg60_ratio: float
    avg300_ratio: float
    total_seconds: float


class Pressure(Struct, frozen=True, gc=False):
    """One pressure file. ``some``: at least one task waited; ``full``: all of them did at once.

    ``full`` is ``None`` where the kernel does not print it (cpu before 5.13); ``some`` is ``None`` in
    ``irq.pressure``, which only knows ``full``.
    """

    some: PressureLine | None = None
    full: PressureLine | None = None


_PRESSURE_LINE = rb"%s avg10=(\d{1,20}\.\d+) avg60=(\d{1,20}\.\d+) avg300=(\d{1,20}\.\d+) total=(\d{1,20})\n"
_PRESSURE = re.compile(rb"(?:" + _PRESSURE_LINE % b"some" + rb")?(?:" + _PRESSURE_LINE % b"full" + rb")?")


def pressure(raw: bytes) -> Pressure:
    """A pressure stall file (Documentation/accounting/psi.rst, since 4.20; ``irq`` since 6.1).

    Averages are percent in the file and ratios here; totals are microseconds there and seconds here.
    """
    match = _PRESSURE.fullmatch(raw)
    if match is None or not raw:
        raise FormatError("some/full lines of avg10= avg60= avg300= total=", raw)
    return Pressure(_pressure_line(match.group(1, 2, 3, 4)), _pressure_line(match.group(5, 6, 7, 8)))


def _pressure_line(fields: tuple[bytes | None, ...]) -> PressureLine | None:
    avg10, avg60, avg300, total = fields
    if avg10 is None or avg60 is None or avg300 is None or total is None:
        return None
    return PressureLine(float(avg10) / 100, float(avg60) / 100, float(avg300) / 100, int(total) / 1_000_000)
