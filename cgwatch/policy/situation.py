"""What a decision is made from: one moment of the node, and each container's situation in it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from cgwatch.cgroup.knob import Per, Value
from cgwatch.cgroup.knobs import DEFAULT_PERIOD_MICROSECONDS, knob_of
from cgwatch.change import Key
from cgwatch.oom.kill import Cause
from cgwatch.policy.amounts import Known
from cgwatch.policy.subject import Subject


class Kill(Struct, frozen=True):
    """An OOM kill that counts for a container."""

    seconds: float
    cause: Cause


class Situation(Struct, frozen=True):
    """One container at one moment."""

    subject: Subject
    values: Mapping[str, float]
    """By the names of ``terms.METRICS``; what is not there is not known."""
    current: Mapping[Key, Value]
    """Every limit that it offers, as it is now: as it was read back where cgwatch has just written it."""
    baseline: Mapping[Key, Value] = {}
    """What limits were before cgwatch first wrote them; others are at their baseline."""
    written: Mapping[Key, Value] = {}
    """What cgwatch wrote last for a policy, as the kernel showed it then. Where the present value is another
    one, somebody else has written."""
    overrides: Mapping[Key, float] = {}
    """Limits that somebody has set by hand, and until when; ``math.inf``: until they are reset."""
    kills: tuple[Kill, ...] | None = ()
    """Of the last hours, in their order; ``None``: nobody counts."""

    def present(self, key: Key) -> Value | None:
        """The limit as it is; ``None``: the container does not offer it."""
        found = self.current.get(key)
        if found is None and knob_of(key).per is Per.DEVICE:
            return math.inf  # of a device that has no bound the kernel says nothing
        return found

    def base(self, key: Key) -> Value | None:
        """The limit as it was before cgwatch wrote it."""
        return self.baseline[key] if key in self.baseline else self.present(key)

    def is_foreign(self, key: Key) -> bool:
        """Whether somebody else has written over what cgwatch wrote."""
        return key in self.written and self.present(key) != self.written[key]

    @property
    def period_microseconds(self) -> int:
        """Of ``cpu.max``."""
        period = self.current.get("cpu.max.period")
        return period if isinstance(period, int) else DEFAULT_PERIOD_MICROSECONDS


class Host(Struct, frozen=True):
    """The node, as far as decisions depend on it; ``None``: not known."""

    memory_total_bytes: int | None = None
    cpus: int | None = None
    page_bytes: int = 4096
    devices: Mapping[str, str] = {}
    """``MAJOR:MINOR`` of block devices by path, such as ``/dev/sda``."""
    values: Mapping[str, float] = {}
    """Of the metrics whose name begins with ``host.``."""

    def whole(self, key: Key, situation: Situation) -> float | None:
        """All that the node has of what a limit counts."""
        if key == "cpu.max":
            return None if self.cpus is None else float(self.cpus * situation.period_microseconds)
        return self.memory_total_bytes if key.startswith("memory.") else None

    def known(self, key: Key, situation: Situation, baseline: Value | None) -> Known:
        """Return what an amount of a limit is worked out from."""
        return Known(
            situation.present(key), baseline, self.whole(key, situation), situation.period_microseconds
        )


class Moment(Struct, frozen=True):
    """The whole node at one moment: one entry of the history that decisions come from."""

    seconds: float
    """Since the epoch; later than the moment before."""
    situations: tuple[Situation, ...]
    host: Host = Host()
    interval_seconds: float = 5.0
    """Between two moments, as it is meant to be; much more is a hole in the history."""
