"""How much: amounts of a limit as a policy writes them, and what they are for one container. Pure.

``512MiB``, ``max``, ``20%`` (of the present value, for ``by``), ``150% of baseline``, ``50% of host``.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum

from msgspec import Struct

from cgwatch.cgroup.knob import Per, Unit, Value
from cgwatch.cgroup.knob_values import format_value, parse_cpus, parse_value
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, knob_of
from cgwatch.errors import LimitValueError, UnitError
from cgwatch.policy.terms import parse_bytes, parse_percent
from cgwatch.units import shortened

CPUS = "cpus"
"""What people call ``cpu.max``, in CPUs."""


class Of(StrEnum):
    """What an amount is a share of."""

    NOTHING = "nothing"
    """It is the value itself."""
    PRESENT = "present"
    """Of the present value: ``20%``."""
    BASELINE = "baseline"
    HOST = "host"


class Amount(Struct, frozen=True):
    """How much of one limit."""

    of: Of
    number: Value
    """The value in the limit's unit; else a ratio."""
    cpus: float | None = None
    """Written as CPUs: the value is that many for the period that the container has."""
    text: str = ""
    """As it was written."""


class Known(Struct, frozen=True):
    """What an amount is worked out from; ``None``: not known."""

    present: Value | None
    baseline: Value | None
    host: float | None
    """All that the node has of it."""
    period_microseconds: int = DEFAULT_PERIOD_MICROSECONDS


_SHARE = re.compile(r"(.+?%) of (baseline|host)")
_HOST = frozenset(
    {"memory.max", "memory.high", "memory.low", "memory.min", "memory.soft_limit_in_bytes", "cpu.max"}
)
"""Limits that the node has a number for."""


def parse_limit(name: str, text: str) -> Amount:
    """Return what a limit is to be, or a bound of it.

    ``name`` is a key, or ``cpus``. Raises ``UnitError`` or ``LimitValueError`` that says how to write it, and
    ``UnknownLimitError``.
    """
    key = key_of(name)
    knob = knob_of(key)
    if share := _SHARE.fullmatch(text):
        _is_number(name, knob.unit)
        if share[2] == Of.HOST and key not in _HOST:
            raise UnitError(f"the node has no number for {name}; write a value, or a share of baseline")
        return Amount(Of(share[2]), parse_percent(share[1]), text=text)
    if text.endswith("%"):
        raise UnitError(f'{shortened(text)} of what? Write "{text} of baseline" or "{text} of host"')
    if name == CPUS:
        return _cpus(text)
    if knob.unit in {Unit.BYTES, Unit.BYTES_PER_SECOND}:
        bare = text.removesuffix("/s") if knob.unit is Unit.BYTES_PER_SECOND else text
        value = parse_value(key, bare)
        if value != math.inf:
            parse_bytes(bare)
    elif knob.unit is Unit.MICROSECONDS and text.isdecimal() and int(text):
        raise UnitError(f"{shortened(text)} has no unit; write it like 50ms, or use cpus")
    else:
        value = parse_value(key, text.removesuffix("/s") if knob.per is Per.DEVICE else text)
    if isinstance(value, int | float) and value != math.inf and not knob.least <= value <= knob.most:
        raise LimitValueError(
            key, f"{shortened(text)} is not from {_shown(key, knob.least)} to {_shown(key, knob.most)}"
        )
    return Amount(Of.NOTHING, value, text=text)


def parse_change(name: str, text: str) -> Amount:
    """Return by how much a limit is to go up or down: ``20%`` of the present value, or an amount of it.

    Raises as ``parse_limit``.
    """
    _is_number(name, knob_of(key_of(name)).unit)
    if text.endswith("%"):
        ratio = parse_percent(text)
        if not ratio:
            raise UnitError("0% changes nothing; write more, such as 20%")
        return Amount(Of.PRESENT, ratio, text=text)
    amount = parse_limit(name, text)
    if amount.number in {0, math.inf} and amount.cpus is None:
        raise UnitError(f"{shortened(text)} is no change; write one such as 20%")
    return amount


def key_of(name: str) -> str:
    """Return the key of a limit's name in a policy."""
    return "cpu.max" if name == CPUS else name


def _is_number(name: str, unit: Unit) -> None:
    if unit in {Unit.NUMBERS, Unit.SWITCH}:
        raise UnitError(f"{name} has no more and no less; use set")


def _cpus(text: str) -> Amount:
    try:
        if text == "max":
            return Amount(Of.NOTHING, math.inf, text=text)
        return Amount(Of.NOTHING, 0, cpus=float(parse_cpus(text)), text=text)
    except LimitValueError as error:
        raise UnitError(error.problem) from error


def _shown(key: str, value: float) -> str:
    return format_value(key, value)


def resolve(amount: Amount, known: Known) -> Value | None:
    """Return the value that an amount is for one container; ``None``: what it is a share of is not known."""
    if amount.cpus is not None:
        return int(amount.cpus * known.period_microseconds)
    if amount.of is Of.NOTHING:
        return amount.number
    whole = {Of.PRESENT: known.present, Of.BASELINE: known.baseline, Of.HOST: known.host}[amount.of]
    if whole is None or isinstance(whole, str) or isinstance(amount.number, str):
        return None
    return math.inf if whole == math.inf else int(whole * amount.number)
