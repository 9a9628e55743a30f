"""Guards of one container: what policies do not take from it, and not from the node. Pure."""

from __future__ import annotations

import math

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knob_values import format_value
from cgwatch.change import Key
from cgwatch.policy.evaluate import WORKING_SET, Look
from cgwatch.policy.rules import Guards
from cgwatch.policy.values import is_relief, is_tightening

QUIET_AFTER_KILL_SECONDS = 600.0
"""So long after an OOM kill nothing takes memory from the container."""
_USED = {"memory.max": WORKING_SET, "pids.max": "pids.current"}
"""What a limit bounds. Of memory without the idle page cache: that can be reclaimed, and fills any limit."""


def protected(look: Look, guards: Guards, key: Key, present: Value, to: Value) -> tuple[Value, str]:
    """Return how far a change may go, and why not further; ``present``: not at all."""
    if isinstance(to, str) or isinstance(present, str):
        return to, ""
    if key in _USED and is_tightening(key, present, to):
        return _above_usage(look, guards, key, present, to)
    if key == "cpu.max" and guards.cpu_reserve and is_relief(key, present, to):
        return _within_cpus(look, guards, present, to)
    return to, ""


def _above_usage(look: Look, guards: Guards, key: Key, present: float, to: float) -> tuple[Value, str]:
    kills = look.situation.kills or ()
    if key == "memory.max" and kills and 0 <= look.now - kills[-1].seconds < QUIET_AFTER_KILL_SECONDS:
        return present, "an OOM kill was there within ten minutes, so no memory is taken away"
    used = look.values.get(_USED[key])
    if used is None:
        return present, f"{_USED[key]} cannot be told, so {key} is not lowered"
    margin = used * guards.margin_ratio
    least = math.ceil(used + (max(margin, guards.margin_bytes) if key == "memory.max" else margin))
    if key == "memory.max":
        least += look.host.page_bytes  # what rounding down to pages takes
    if to >= least:
        return to, ""
    return min(present, least), f"with what is used and the margin {format_value(key, least)} is the least"


def _within_cpus(look: Look, guards: Guards, present: float, to: float) -> tuple[Value, str]:
    if look.host.cpus is None:
        return present, "the node's CPUs cannot be told, so cpu.max is not raised"
    base = look.situation.base("cpu.max")
    if isinstance(base, int | float) and to <= base:
        return to, ""
    most = int(max(look.host.cpus - guards.cpu_reserve, 0) * look.situation.period_microseconds)
    if to <= most:
        return to, ""
    return max(present, most), f"the node keeps {guards.cpu_reserve:g} CPUs for itself"
