"""Durations, sizes and counts as people write and read them.

Sizes follow what the reader already types elsewhere: docker's ``512m``, the kernel's ``512M`` and Kubernetes'
``512Mi`` are powers of 1024; only ``kB``, ``MB``, ``GB``, ``TB`` and ``PB`` are powers of 1000.
"""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction

from cgwatch.errors import UnitError

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"

DURATION_PATTERN = rf"^(?=[0-9])(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?$"
"""What :func:`parse_duration` takes, as a regular expression that JSON Schema understands too."""
_DURATION = re.compile(DURATION_PATTERN)
_SECONDS = (Fraction(86400), Fraction(3600), Fraction(60), Fraction(1), Fraction(1, 1000))

_SIZE = re.compile(_NUMBER + r" ?([A-Za-z]*)")
_BYTES = (
    {"": 1, "b": 1, "B": 1}
    | {
        suffix: 1024**power
        for power, letter in enumerate("kmgtp", start=1)
        for suffix in (letter, letter.upper(), f"{letter.upper()}i", f"{letter.upper()}iB")
    }
    | {suffix: 1000**power for power, suffix in enumerate(("kB", "MB", "GB", "TB", "PB"), start=1)}
)
_MAX_BYTES = 2**63 - 1
"""The kernel counts memory in a signed 64-bit number; a larger limit means "no limit" there."""

_SECOND = 1_000_000
"""In microseconds: what :func:`format_duration` counts in."""

# Far more than any duration or size needs, and short enough that its arithmetic costs nothing.
_MAX_LENGTH = 64


def quoted(text: str) -> str:
    """``text`` in double quotes on one line, with JSON's escapes for all that cannot be printed."""
    return "".join(
        character if character.isprintable() else _escaped(character)
        for character in json.dumps(text, ensure_ascii=False)
    )


def _escaped(character: str) -> str:
    # JSON leaves DELETE as it is; everything else that is not printable is beyond ASCII.
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def shortened(text: str) -> str:
    """``text`` quoted for an error message, cut where it is longer than anybody wants to read."""
    return quoted(text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…")


def parse_duration(text: str) -> float:
    """Seconds in ``100ms``, ``5s``, ``1m30s``, ``1h``, ``1d``; larger units first, each at most once.

    Raises ``UnitError``. The result is finite and not negative.
    """
    found = _DURATION.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        if re.fullmatch(_NUMBER, text):
            raise UnitError(f"{shortened(text)} has no unit; give a unit, such as 5s")
        raise UnitError(f"{shortened(text)} is not a duration; write it like 5s or 1m30s")
    parts = zip(found.groups(), _SECONDS, strict=True)
    return float(sum(Fraction(number) * unit for number, unit in parts if number))


def parse_size(text: str) -> int:
    """Bytes in ``512m``, ``512M``, ``512Mi``, ``512MiB`` (1024), ``512MB`` (1000) or a bare ``536870912``.

    A fraction of a byte is dropped. Raises ``UnitError``, also for ``mb`` and ``KB``, which mean 1000 to some
    and 1024 to others, and for more than 2^63-1 bytes.
    """
    found = _SIZE.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        raise UnitError(f"{shortened(text)} is not a size; write it like 512MiB, 512m or 536870912")
    number, suffix = found.groups()
    if suffix not in _BYTES:
        raise UnitError(f"{shortened(text)} has no known unit; {_suffix_advice(number, suffix)}")
    size = int(Fraction(number) * _BYTES[suffix])
    if size > _MAX_BYTES:
        raise UnitError(f"{shortened(text)} is more than the kernel counts (2^63-1 bytes)")
    return size


def _suffix_advice(number: str, suffix: str) -> str:
    letter = suffix[:1].upper()
    if suffix.lower() in {"kb", "mb", "gb", "tb", "pb"}:
        decimal = "kB" if letter == "K" else f"{letter}B"
        return f"write {number}{letter}iB (powers of 1024) or {number}{decimal} (powers of 1000)"
    return "write it like 512MiB, 512m or 536870912"


def format_duration(seconds: float) -> str:
    """``1m30s``, ``1.5s``, ``100ms``; to the microsecond, in the notation that :func:`parse_duration` reads.

    ``seconds`` is finite and not negative.
    """
    microseconds = round(seconds * _SECOND)
    if 0 < microseconds < _SECOND:
        return f"{_decimal(microseconds, _SECOND // 1000)}ms"
    minutes, rest = divmod(microseconds, 60 * _SECOND)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = "".join(f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count)
    return f"{text}{_decimal(rest, _SECOND)}s" if rest or not text else text


def _decimal(count: int, scale: int) -> str:
    """``count / scale`` without trailing zeros; ``scale`` is a power of ten."""
    whole, rest = divmod(count, scale)
    fraction = str(rest).zfill(len(str(scale)) - 1).rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


def format_size(size_bytes: float) -> str:
    """Like ``docker stats``: powers of 1024, four digits at most (``12.3MiB``); ``max`` for ``math.inf``."""
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def exact_size(size_bytes: int) -> str:
    """``128MiB``, ``1000B``: the largest unit without a fraction, in the notation of :func:`parse_size`."""
    for power, suffix in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{suffix}"
    return f"{size_bytes}B"


def format_count(count: float) -> str:
    """Powers of 1000, four digits at most (``1.5k``, ``20M``); ``max`` for ``math.inf``."""
    return _scaled(count, 1000, ("", "k", "M", "G", "T", "P", "E"))


def _scaled(value: float, base: int, suffixes: tuple[str, ...]) -> str:
    if value == math.inf:
        return "max"
    power = 0
    while abs(value) >= base and power < len(suffixes) - 1:
        value /= base
        power += 1
    return f"{value:.4g}{suffixes[power]}"
