"""Flags that say what a limit is to be: docker's, made of the table of limits, and ``--set`` for all."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ParamSpec, TypeVar

import click

from cgwatch.cgroup.knob import V2, Knob, Per, Unit, Value
from cgwatch.cgroup.knob_values import parse_assignment, parse_value, quota_of_cpus
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, KNOBS, knob_of_flag
from cgwatch.cgroup.shares import Formula, weight_of
from cgwatch.change import Key
from cgwatch.errors import LimitValueError
from cgwatch.units import shortened

P = ParamSpec("P")
R = TypeVar("R")

_META = "cgwatch.limits"
_SET = "--set"
_CPUS, _PERIOD, _QUOTA = "--cpus", "--cpu-period", "--cpu-quota"
_MEMORY, _SWAP, _SHARES = "--memory", "--memory-swap", "--cpu-shares"
_SHORT = {_MEMORY: "-m", _SHARES: "-c"}
_MAY_BE_ZERO = frozenset({"--memory-reservation"})
_NOTES = {
    _CPUS: "CPUs, such as 1.5 (cpu.max with a period of 100ms)",
    _SWAP: "memory and swap together, as docker counts (memory.swap.max is the rest)",
}
_METAVARS = {
    Unit.BYTES: "SIZE",
    Unit.BYTES_PER_SECOND: "SIZE",
    Unit.NUMBERS: "LIST",
    Unit.MICROSECONDS: "TIME",
}


def limit_options(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb the flags; :func:`wanted` reads them."""

    def remember(context: click.Context, option: click.Parameter, value: Sequence[str] | str | None) -> None:
        texts = [value] if isinstance(value, str) else list(value or ())
        context.meta.setdefault(_META, {})[option.opts[0]] = texts

    verb = click.option(
        _SET,
        multiple=True,
        metavar="LIMIT=VALUE",
        help="By the kernel's name, also more than once: memory.high=400MiB, 'io.max=8:0 rbps=1MiB'.",
        expose_value=False,
        callback=remember,
    )(verb)
    for flag, knobs in reversed(_by_flag().items()):
        first = knobs[0]
        verb = click.option(
            flag,
            *([_SHORT[flag]] if flag in _SHORT else []),
            multiple=first.per is Per.DEVICE,
            metavar=_metavar(flag, first),
            help=_NOTES.get(flag, _help(knobs)),
            expose_value=False,
            callback=remember,
        )(verb)
    return verb


def _by_flag() -> dict[str, list[Knob]]:
    found: dict[str, list[Knob]] = {}
    for knob in KNOBS:
        for flag in knob.flags:
            found.setdefault(flag, []).append(knob)
    return found


def _metavar(flag: str, knob: Knob) -> str:
    name = "CPUS" if flag == _CPUS else _METAVARS.get(knob.unit, "NUMBER")
    return f"DEVICE:{name}" if knob.per is Per.DEVICE else name


def _help(knobs: Sequence[Knob]) -> str:
    names = " or ".join(knob.key.removesuffix("[DEVICE]") for knob in knobs)
    return f"{names}; max: no limit" if knobs[0].unlimited else names


def wanted(versions: Mapping[str, int]) -> dict[Key, Value]:
    """Return what the running verb's flags want, by key. Raises ``LimitValueError`` or ``UnknownLimitError``.

    ``versions``: as ``change.Tree.versions``.
    """
    return read(click.get_current_context().meta.get(_META, {}), versions)


def read(flags: Mapping[str, Sequence[str]], versions: Mapping[str, int]) -> dict[Key, Value]:
    """Return the values of flags with their texts; see :func:`wanted`."""
    found: dict[Key, Value] = {}
    origins: dict[Key, str] = {}
    for flag, texts in flags.items():
        for text in texts:
            for key, value in _values(flag, text, flags, versions):
                if found.get(key, value) != value:
                    raise LimitValueError(key, f"{origins[key]} and {flag} want different values; give one")
                found[key] = value
                origins[key] = flag
    return found


def _values(
    flag: str, text: str, flags: Mapping[str, Sequence[str]], versions: Mapping[str, int]
) -> Iterator[tuple[Key, Value]]:
    if flag == _SET:
        yield from parse_assignment(text, device_number).items()
        return
    knob = knob_of_flag(flag, versions)
    if text.strip() == "0" and flag not in _MAY_BE_ZERO:
        raise LimitValueError(flag, "0 would let nothing run; write max for no limit")
    if flag == _CPUS:
        if flags.get(_QUOTA):
            raise LimitValueError(_CPUS, f"{_QUOTA} says the same in another way; give one of them")
        yield from _cpus(text, flags.get(_PERIOD, ()))
    elif flag == _SWAP:
        yield knob.key, _swap(text, flags.get(_MEMORY, ()))
    elif flag == _SHARES and knob.place(versions.get(knob.controller, V2)) is None:
        raise LimitValueError(_SHARES, _as_weight(knob, text))
    elif knob.per is Per.DEVICE:
        device, separator, rate = text.rpartition(":")
        if not separator or not device:
            raise LimitValueError(flag, f"{shortened(text)} is not DEVICE:NUMBER, such as /dev/sda:1MiB")
        number = device_number(device) if device.startswith("/") else device
        key = knob.key.replace("DEVICE", number)
        yield key, parse_value(key, rate)
    else:
        yield knob.key, parse_value(knob.key, text)


def _cpus(text: str, periods: Sequence[str]) -> Iterator[tuple[Key, Value]]:
    period = DEFAULT_PERIOD_MICROSECONDS
    if periods:
        period = int(parse_value("cpu.max.period", periods[0]))
    quota = quota_of_cpus(text, period)
    yield "cpu.max", quota
    if quota != math.inf:
        yield "cpu.max.period", period


def _swap(text: str, memory: Sequence[str]) -> Value:
    total = parse_value("memory.max", text)
    if total == math.inf:
        return total
    if not memory:
        raise LimitValueError(
            _SWAP,
            f"it counts memory and swap together, so give {_MEMORY} as well; or say what swap alone may be,"
            f" with {_SET} memory.swap.max=SIZE",
        )
    below = parse_value("memory.max", memory[0])
    if not isinstance(total, int) or not isinstance(below, int) or below > total:
        raise LimitValueError(_SWAP, f"it counts memory and swap together, and is less than {_MEMORY}")
    return total - below


def _as_weight(knob: Knob, text: str) -> str:
    shares = parse_value(knob.key, text)
    weight = weight_of(int(shares), Formula.QUADRATIC)
    return f"{knob.absent}; {shares} shares are about {_SET} cpu.weight={weight} (100 is the default)"


def device_number(path: str) -> str:
    """Return ``MAJOR:MINOR`` of a block device. Raises ``LimitValueError``."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise LimitValueError(shortened(path), f"there is no such device: {error.strerror}") from error
    if not stat.S_ISBLK(found.st_mode):
        raise LimitValueError(shortened(path), "is not a block device, such as /dev/sda")
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
