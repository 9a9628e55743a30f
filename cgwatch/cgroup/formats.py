"""The text formats of cgroup files, as pure functions from bytes to values.

The kernel documents four shapes (Documentation/admin-guide/cgroup-v2.rst, "Format"; cgroup v1 uses the
same ones): one value, a list of values, ``KEY VALUE`` lines ("flat keyed") and ``KEY SUB=VALUE ...``
lines ("nested keyed"). Every function here takes a whole file and raises ``FormatError`` when the text
is anything else; nothing is ever guessed, and a malformed number is never a zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

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
    # int() alone would also take "1_000", "+5" and surrounding exotic white space.
    if text.isdigit() or (text[:1] == b"-" and text[1:].isdigit()):
        try:
            return int(text)
        except ValueError:  # longer than sys.get_int_max_str_digits() allows
            pass
    raise FormatError("one integer", raw)


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
    return tuple(integer(text) for text in raw.split())


def flat_keyed(shape: type[Shape], keys: Mapping[str, str]) -> Callable[[bytes], Shape]:
    """Return a parser of ``KEY VALUE`` lines into ``shape``.

    ``keys`` maps fields of ``shape`` to the kernel's keys. A key that the kernel does not print leaves the
    field ``None``; keys that are not in ``keys`` are newer than we are, and skipped.

    Two replacements turn such a file into a JSON object, and msgspec then decodes just the wanted keys in
    one pass in C: 1.5 microseconds for a ``memory.stat`` of 40 lines, against 5 for splitting it in Python.
    """
    # astuple() below needs the fields of both structs in the same order.
    fields = [(name, int | None, None) for name in shape.__struct_fields__ if name in keys]
    wire = msgspec.defstruct(f"{shape.__name__}Wire", fields, rename=dict(keys), gc=False)
    decode = msgspec.json.Decoder(wire).decode
    positional = tuple(name for name, _, _ in fields) == shape.__struct_fields__
    names = [name for name, _, _ in fields]
    astuple = msgspec.structs.astuple

    def parse(raw: bytes) -> Shape:
        if not raw:
            return shape()
        body = raw[:-1] if raw[-1] == _NEWLINE else raw
        # Quotes could smuggle in keys, null would pass for "not printed": neither is in any kernel file.
        if b'"' in raw or b"null" in raw:
            raise FormatError("lines of KEY VALUE", raw)
        try:
            found = decode(b'{"' + body.replace(b" ", b'":').replace(b"\n", b',"') + b"}")
        except (msgspec.MsgspecError, ValueError) as error:
            raise FormatError("lines of KEY VALUE with integer values", raw) from error
        if positional:
            return shape(*astuple(found))
        return shape(**dict(zip(names, astuple(found), strict=True)))

    return parse


_NEWLINE = ord("\n")


def nested_keyed(raw: bytes) -> dict[str, dict[str, str]]:
    """``KEY SUB=VALUE SUB=VALUE`` lines, such as ``io.max``; the values are left as text.

    A line of a key alone is allowed: ``io.stat`` prints ``8:0 `` for a device without statistics.
    """
    found: dict[str, dict[str, str]] = {}
    for line in _text(raw).splitlines():
        key, *pairs = line.split()
        values = found.setdefault(key, {})
        for pair in pairs:
            name, separator, value = pair.partition("=")
            if not separator or not name:
                raise FormatError("lines of KEY SUB=VALUE", raw)
            values[name] = value
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


_PRESSURE_LINE = rb"%s avg10=(\d+\.\d+) avg60=(\d+\.\d+) avg300=(\d+\.\d+) total=(\d+)\n"
_PRESSURE = re.compile(rb"(?:" + _PRESSURE_LINE % b"some" + rb")?(?:" + _PRESSURE_LINE % b"full" + rb")?")


def pressure(raw: bytes) -> Pressure:
    """A pressure stall file (Documentation/accounting/psi.rst, since 4.20; ``irq`` since 6.1).

    Averages are percent in the file and ratios here; totals are microseconds there and seconds here.
    """
    match = _PRESSURE.fullmatch(raw)
    if match is None or not raw:
        raise FormatError("some/full lines of avg10= avg60= avg300= total=", raw)
    try:
        return Pressure(_pressure_line(match.group(1, 2, 3, 4)), _pressure_line(match.group(5, 6, 7, 8)))
    except ValueError as error:  # a total longer than sys.get_int_max_str_digits() allows
        raise FormatError("numbers of a sane length", raw) from error


def _pressure_line(fields: tuple[bytes | None, ...]) -> PressureLine | None:
    avg10, avg60, avg300, total = fields
    if avg10 is None or avg60 is None or avg300 is None or total is None:
        return None
    return PressureLine(float(avg10) / 100, float(avg60) / 100, float(avg300) / 100, int(total) / 1_000_000)
