"""One wanted value as the kernel is going to have it. Pure."""

from __future__ import annotations

import math

from cgwatch.cgroup.cpuset import numbers_of
from cgwatch.cgroup.formats import FormatError
from cgwatch.cgroup.knob import MOST_BYTES, Knob, Rounding, Unit, Value
from cgwatch.cgroup.knob_values import format_numbers, format_value
from cgwatch.change import Node
from cgwatch.errors import LimitValueError
from cgwatch.units import parse_size

_FIRST_LETTERS = {"K": "KiB", "M": "MiB", "G": "GiB"}


def normalised(knob: Knob, value: Value, node: Node) -> tuple[Value, str]:
    """Return the value rounded and brought into the kernel's range, and a note where that changed it.

    Raises ``LimitValueError`` for what no kernel could mean: not a number, negative, a fraction, too large to
    count, a list of what this machine has not got.
    """
    if knob.unit is Unit.NUMBERS:
        return _listed(knob, value, node), ""
    if isinstance(value, str):
        raise LimitValueError(knob.key, f"{value!r} is not a number")
    if math.isnan(value):
        raise LimitValueError(knob.key, "it is not a number")
    if value < 0:
        raise LimitValueError(knob.key, f"{value:g} is negative")
    if value == math.inf:
        if not knob.unlimited:
            raise LimitValueError(knob.key, f"it cannot be without limit; write a number up to {knob.most}")
        return value, ""
    if value != int(value):
        raise LimitValueError(knob.key, f"{value:g} is not a whole number of {knob.unit.value}")
    if value > MOST_BYTES:
        raise LimitValueError(knob.key, f"{value:g} is more than the kernel counts (2^63-1)")
    return _fitted(knob, int(value), node)


def _fitted(knob: Knob, value: int, node: Node) -> tuple[Value, str]:
    if knob.unit is Unit.SWITCH and value > 1:
        raise LimitValueError(knob.key, f"{value} is neither 0 nor 1")
    fitted = min(max(value, knob.least), knob.most)
    if fitted != value:
        bound = "least" if value < knob.least else "most"
        return fitted, f"the kernel's {bound} is {format_value(knob.key, fitted)}"
    grain = _grain(knob, node)
    rounded = value // grain * grain
    if knob.unlimited and rounded >= MOST_BYTES // node.page_bytes * node.page_bytes:
        return math.inf, "the kernel takes that much for no limit"
    if rounded != value:
        return rounded, f"rounded down to {knob.rounding.value}s of {format_value(knob.key, grain)}"
    return value, ""


def _grain(knob: Knob, node: Node) -> int:
    if knob.rounding is Rounding.PAGE:
        return node.page_bytes
    if knob.rounding is Rounding.HUGE_PAGE:
        return parse_size(knob.detail[:-2] + _FIRST_LETTERS[knob.detail[-2]])
    return 1


def _listed(knob: Knob, value: Value, node: Node) -> str:
    if not isinstance(value, str):
        raise LimitValueError(knob.key, f"{value:g} is not a list such as 0-3,8")
    try:
        numbers = numbers_of(value)
    except FormatError as error:
        raise LimitValueError(knob.key, f"{value!r} is not a list such as 0-3,8") from error
    is_cpus = knob.key == "cpuset.cpus"
    here = node.cpus if is_cpus else node.memory_nodes
    if here and (absent := numbers - here):
        what = "CPU" if is_cpus else "memory node"
        raise LimitValueError(
            knob.key,
            f"this machine has no {what} {format_numbers(absent)} online, only {format_numbers(here)}",
        )
    return format_numbers(numbers)
