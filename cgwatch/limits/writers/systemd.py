"""Limits of systemd's units, by ``SetUnitProperties`` over D-Bus: systemd keeps them and sets them again.

All is set with ``runtime=true``: it lasts until the unit is stopped or the machine restarted, over every
``daemon-reload``, and leaves nothing in /etc. org.freedesktop.systemd1(5) has the properties.

- Numbers are unsigned, of 64 bits; 2^64 - 1 is no limit.
- A quota is microseconds for each second. systemd writes it down in hundredths of a CPU (so does runc), and
  after a ``daemon-reload`` that is what is left of it: it is rounded up to that at once.
- A unit is found by ``GetUnitByControlGroup``, which also answers for cgroups *below* a unit; so it is asked
  back whether the cgroup is its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from cgwatch.cgroup.knob import How, Knob, Value
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, knob_of
from cgwatch.change import Key, Target
from cgwatch.errors import OwnerRefusedError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dbus_fast.aio import MessageBus

T = TypeVar("T")

UNLIMITED = 2**64 - 1
QUOTA_STEP = 10_000
"""Microseconds for each second: a hundredth of a CPU."""
_SECOND = 1_000_000
_NAME = "org.freedesktop.systemd1"
_MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ADDRESS = "unix:path=/run/dbus/system_bus_socket"


class Property(Struct, frozen=True):
    """One property, as D-Bus has it."""

    name: str
    signature: str
    value: int | bytes | tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        """As ``systemctl show`` has it, nearly."""
        value = self.value
        return f"{self.name}={'infinity' if value == UNLIMITED else value!r}"


def properties_of(wanted: Mapping[Key, Value], now: Mapping[Key, Value]) -> tuple[Property, ...]:
    """Say in systemd's words what is ``wanted``; ``now``: all limits of the cgroup."""
    after = {**now, **wanted}
    found: dict[str, Property] = {}
    for key, value in wanted.items():
        for each in _properties(knob_of(key), value, after):
            before = found.get(each.name)
            if before is not None and isinstance(before.value, tuple) and isinstance(each.value, tuple):
                found[each.name] = Property(each.name, each.signature, before.value + each.value)
            else:
                found[each.name] = each
    return tuple(found.values())


def _properties(knob: Knob, value: Value, after: Mapping[Key, Value]) -> Iterable[Property]:
    said = knob.systemd
    if said is None:
        return
    if knob.key in {"cpu.max", "cpu.max.period"}:
        # The quota is for a second, so it is said anew when the period changes.
        quota, period = (
            after.get("cpu.max", math.inf),
            after.get("cpu.max.period", DEFAULT_PERIOD_MICROSECONDS),
        )
        yield Property("CPUQuotaPeriodUSec", "t", int(period))
        yield Property("CPUQuotaPerSecUSec", "t", _per_second(quota, int(period)))
    elif said.how is How.MASK:
        yield Property(said.field, "ay", mask_of(str(value)))
    elif said.how is How.DEVICES:
        yield Property(said.field, "a(st)", ((f"/dev/block/{knob.detail}", _unsigned(value)),))
    else:
        yield Property(said.field, "t", _unsigned(value))


def _unsigned(value: Value) -> int:
    return UNLIMITED if value == math.inf else int(value)


def _per_second(quota: Value, period: int) -> int:
    if isinstance(quota, str) or quota == math.inf:
        return UNLIMITED
    return -(-int(quota) * _SECOND // (period * QUOTA_STEP)) * QUOTA_STEP


def mask_of(numbers: str) -> bytes:
    """Return a bit for each number of a list such as ``0-3,8``, the lowest first; empty for an empty list."""
    bits = 0
    for part in filter(None, numbers.strip().split(",")):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


class SystemdWriter:
    """Speaks to the systemd of this machine. Each call takes ``timeout_seconds`` at most."""

    def __init__(self, *, timeout_seconds: float, address: str = _ADDRESS) -> None:
        self._timeout_seconds = timeout_seconds
        self._address = address

    def impossible(
        self, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> Mapping[Key, str]:
        """Return the limits that it cannot set. Raises as ``write``."""
        del now
        found = {}
        if wanted.get("pids.max") == 0:
            found["pids.max"] = "systemd makes 1 of TasksMax=0"
        unit, path = self._run(lambda bus: _unit_of(bus, target.path))
        if path != target.path:
            found |= dict.fromkeys(wanted, f"systemd knows it only as a part of {unit}")
        return found

    def write(
        self, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> tuple[str, tuple[str, ...]]:
        """Set limits; return what was said, and warnings: what systemd then shows another value of.

        Raises ``OwnerRefusedError`` with systemd's words, ``RuntimeUnavailableError`` when it does not answer
        in time or ``dbus-fast`` is not installed.
        """
        properties = properties_of(wanted, now)
        unit, warnings = self._run(lambda bus: _set(bus, target.path, properties))
        return f"{unit}: {' '.join(map(str, properties))}", warnings

    def _run(self, work: Callable[[MessageBus], Awaitable[T]]) -> T:
        try:
            from dbus_fast.aio import MessageBus  # noqa: PLC0415 - for those who have systemd
            from dbus_fast.errors import DBusError  # noqa: PLC0415 - as above
        except ImportError as error:
            raise RuntimeUnavailableError(
                "limits of systemd's units need the Python package dbus-fast: pip install 'cgwatch[systemd]'"
            ) from error

        async def session() -> T:
            bus = await MessageBus(bus_address=self._address).connect()
            try:
                return await work(bus)
            finally:
                bus.disconnect()

        async def in_time() -> T:
            return await asyncio.wait_for(session(), self._timeout_seconds)

        try:
            return asyncio.run(in_time())
        except TimeoutError as error:
            raise RuntimeUnavailableError(
                f"systemd does not answer on {self._address} within {self._timeout_seconds:g} s"
            ) from error
        except (OSError, EOFError, DBusError) as error:
            raise RuntimeUnavailableError(f"systemd does not answer on {self._address}: {error}") from error


async def _unit_of(bus: MessageBus, path: str) -> tuple[str, str]:
    """Return the name of the unit that a cgroup is of, and the unit's own cgroup."""
    [place] = await _ask(bus, *_MANAGER, "GetUnitByControlGroup", "s", [path])
    [name] = await _ask(bus, place, _PROPERTIES, "Get", "ss", [f"{_NAME}.Unit", "Id"])
    [own] = await _ask(bus, place, _PROPERTIES, "Get", "ss", [_interface(name.value), "ControlGroup"])
    return name.value, own.value


def _interface(unit: str) -> str:
    """Return the interface with a unit's limits, by what kind of unit its name says that it is."""
    return f"{_NAME}.{unit.rpartition('.')[2].capitalize()}"


async def _set(bus: MessageBus, path: str, properties: Iterable[Property]) -> tuple[str, tuple[str, ...]]:
    from dbus_fast import Variant  # noqa: PLC0415 - loaded already, there is a bus

    unit, own = await _unit_of(bus, path)
    if own != path:
        raise OwnerRefusedError(f"{path} is a part of {unit} and no unit of its own")
    said = [[each.name, Variant(each.signature, _plain(each.value))] for each in properties]
    await _ask(bus, *_MANAGER, "SetUnitProperties", "sba(sv)", [unit, True, said])
    [place] = await _ask(bus, *_MANAGER, "GetUnit", "s", [unit])
    [shown] = await _ask(bus, place, _PROPERTIES, "GetAll", "s", [_interface(unit)])
    return unit, tuple(
        f"systemd shows {each.name}={shown[each.name].value!r} after {each}"
        for each in properties
        if isinstance(each.value, int) and each.name in shown and shown[each.name].value != each.value
    )


def _plain(value: int | bytes | tuple[tuple[str, int], ...]) -> Any:  # noqa: ANN401 - as dbus-fast has it
    return [list(each) for each in value] if isinstance(value, tuple) else value


async def _ask(
    bus: MessageBus, place: str, interface: str, member: str, signature: str, body: list[Any]
) -> list[Any]:
    from dbus_fast import Message, MessageType  # noqa: PLC0415 - loaded already, there is a bus

    answer = await bus.call(
        Message(
            destination=_NAME, path=place, interface=interface, member=member, signature=signature, body=body
        )
    )
    if answer is None or answer.message_type is MessageType.ERROR:
        words = " ".join(map(str, answer.body)) if answer and answer.body else "no answer"
        raise OwnerRefusedError(f"systemd, {member}: {words}")
    return answer.body
