"""Actions as they are written, to actions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from cgwatch.cgroup.knob import Unit
from cgwatch.cgroup.knobs import knob_of
from cgwatch.policy.amounts import Amount, Of, key_of, parse_change, parse_limit
from cgwatch.policy.conditions import read
from cgwatch.policy.rules import Action, Approach, Notify, Reclaim, Set, Shift
from cgwatch.policy.spot import Spot
from cgwatch.policy.terms import parse_bytes, parse_percent

_WITH: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "set": frozenset({"to"}),
        "raise": frozenset({"by", "floor", "ceiling"}),
        "lower": frozenset({"by", "floor", "ceiling"}),
        "step": frozenset({"by", "toward"}),
        "reclaim": frozenset({"max"}),
        "freeze": frozenset(),
        "throttle": frozenset({"read", "write", "reads", "writes"}),
        "notify": frozenset(),
    }
)
"""What goes with which action."""
_THROTTLES = MappingProxyType({"read": "rbps", "write": "wbps", "reads": "riops", "writes": "wiops"})
_DEVICE = re.compile(r"\d{1,10}:\d{1,10}|/dev/[\w./-]{1,200}")


def actions_of(spot: Spot) -> tuple[Action, ...]:
    """Return the actions of a rule's ``do``. Raises ``ConfigError``."""
    return tuple(action for item in spot.items() for action in _actions(item))


def _actions(spot: Spot) -> Iterator[Action]:
    given = [name for name in _WITH if spot.has(name)]
    if len(given) != 1:
        raise spot.error(f"write exactly one of {', '.join(_WITH)}")
    what = given[0]
    for name, entry in spot.entries():
        if name != what and name not in _WITH[what]:
            expected = ", ".join(sorted(_WITH[what])) or "nothing"
            raise entry.error(f"{name} does not go with {what}; what does is {expected}")
    match what:
        case "set":
            yield Set(_key(spot.at(what)), _needed(spot, what, "to"))
        case "raise" | "lower":
            yield _shift(spot, what)
        case "step":
            yield Approach(_key(spot.at(what)), _toward(spot), _by(spot, what))
        case "reclaim":
            yield _reclaim(spot)
        case "freeze":
            yield Set("cgroup.freeze", Amount(Of.NOTHING, 1, text="1"))
        case "throttle":
            yield from _throttle(spot)
        case _:
            yield Notify(spot.at(what).text)


def _key(spot: Spot) -> str:
    return read(spot, lambda text: knob_of(key_of(text)).key)


def _needed(spot: Spot, what: str, name: str) -> Amount:
    if not spot.has(name):
        raise spot.error(f"{what} needs {name}; add it")
    return read(spot.at(name), lambda text: parse_limit(spot.at(what).text, text))


def _by(spot: Spot, what: str) -> Amount:
    if not spot.has("by"):
        raise spot.error(f"{what} needs by, such as by: 20%; add it")
    return read(spot.at("by"), lambda text: parse_change(spot.at(what).text, text))


def _toward(spot: Spot) -> Amount:
    if not spot.has("toward") or spot.at("toward").text == "baseline":
        return Amount(Of.BASELINE, 1.0, text="baseline")
    return _needed(spot, "step", "toward")


def _shift(spot: Spot, what: str) -> Shift:
    key = _key(spot.at(what))
    by = _by(spot, what)
    floor, ceiling = _bounds(spot, what, "floor"), _bounds(spot, what, "ceiling")
    if what == "raise" and not ceiling:
        raise spot.error(f"raises {key} without end; add a ceiling")
    if what == "lower" and not floor:
        raise spot.error(f"lowers {key} without end; add a floor")
    _check_bounds(spot, floor, ceiling)
    return Shift(key, up=what == "raise", by=by, floor=floor, ceiling=ceiling)


def _bounds(spot: Spot, what: str, name: str) -> tuple[Amount, ...]:
    if not spot.has(name):
        return ()
    bounds = tuple(
        read(item, lambda text: parse_limit(spot.at(what).text, text)) for item in spot.at(name).items()
    )
    if not bounds:
        raise spot.at(name).error("is empty; write a value, or take it out")
    return bounds


def _check_bounds(spot: Spot, floor: tuple[Amount, ...], ceiling: tuple[Amount, ...]) -> None:
    for low in floor:
        for high in ceiling:
            if _size(low) is not None and low.of is high.of and not _is_below(low, high):
                raise spot.at("floor").error(
                    f"is {low.text}, not below the ceiling of {high.text}; write less"
                )


def _size(amount: Amount) -> float | None:
    if amount.cpus is not None:
        return amount.cpus
    return amount.number if isinstance(amount.number, int | float) else None


def _is_below(low: Amount, high: Amount) -> bool:
    if (low.cpus is None) != (high.cpus is None):
        return True  # microseconds and CPUs compare for one container only
    return (_size(low) or 0) < (_size(high) or 0)


def _reclaim(spot: Spot) -> Reclaim:
    entry = spot.at("reclaim")
    most = float(read(spot.at("max"), parse_bytes)) if spot.has("max") else None
    if entry.text.endswith("%"):
        if most is None:
            raise spot.error("reclaims a share without end; add max, such as max: 256MiB")
        share = read(entry, parse_percent)
        if not 0 < share <= 1:
            raise entry.error("is not more than 0% and at most 100%; correct it")
        return Reclaim(share, most)
    size = read(entry, parse_bytes)
    return Reclaim(1.0, min(size, most) if most is not None else size)


def _throttle(spot: Spot) -> Iterator[Set]:
    device = spot.at("throttle").text
    if not _DEVICE.fullmatch(device):
        raise spot.at("throttle").error("is no block device; write it like 8:0 or /dev/sda")
    given = [name for name in _THROTTLES if spot.has(name)]
    if not given:
        raise spot.error("throttles nothing; add read, write, reads or writes")
    for name in given:
        # Where the device is named by its path its number is known on the node alone.
        word = _THROTTLES[name]
        unit = Unit.BYTES_PER_SECOND if word.endswith("bps") else Unit.OPERATIONS_PER_SECOND
        example = "10MiB/s" if unit is Unit.BYTES_PER_SECOND else "100/s"
        entry = spot.at(name)
        if not entry.text.endswith("/s"):
            raise entry.error(f"is no rate; write it like {example}")
        amount = read(entry, lambda text, word=word: parse_limit(f"io.max.{word}[0:0]", text))  # type: ignore[misc]
        yield Set(f"io.max.{word}[{device}]", amount)
