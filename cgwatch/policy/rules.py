"""The rules that a policy file makes: frozen, checked, in base units. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from cgwatch.change import Key
from cgwatch.policy.amounts import Amount
from cgwatch.policy.schedule import Schedule


class Mode(StrEnum):
    """How far a rule goes."""

    OBSERVE = "observe"
    """It is counted whether the rule holds; nothing is planned."""
    DRY_RUN = "dry-run"
    """What would be written is planned and logged."""
    ENFORCE = "enforce"


class OnConflict(StrEnum):
    """What to do where somebody else wrote over a limit that cgwatch had written."""

    REASSERT = "reassert"
    YIELD = "yield"


class Leaving(StrEnum):
    """What becomes of a limit when the agent ends, or when its rule is gone."""

    RESTORE = "restore"
    KEEP = "keep"


class Join(StrEnum):
    """How a condition is made of its parts."""

    METRIC = "metric"
    ALL = "all"
    ANY = "any"
    NOT = "not"


class Condition(Struct, frozen=True):
    """A tree of comparisons; each may have to hold for some time."""

    number: int
    """Of its own within the policies that were read together."""
    join: Join
    parts: tuple[Condition, ...] = ()
    metric: str = ""
    above: float = -math.inf
    below: float = math.inf
    window_seconds: float = 0.0
    for_seconds: float = 0.0


class Set(Struct, frozen=True, tag=True):
    """Make a limit this."""

    key: Key
    to: Amount


class Shift(Struct, frozen=True, tag=True):
    """Raise or lower a limit, no further than its bounds."""

    key: Key
    up: bool
    by: Amount
    floor: tuple[Amount, ...] = ()
    ceiling: tuple[Amount, ...] = ()


class Approach(Struct, frozen=True, tag=True):
    """Bring a limit nearer to a value, a step at a time."""

    key: Key
    toward: Amount
    by: Amount


class Reclaim(Struct, frozen=True, tag=True):
    """Have the kernel reclaim memory once."""

    share: float
    """Of the usage."""
    most_bytes: float
    """And never more."""


class Notify(Struct, frozen=True, tag=True):
    """Tell somebody."""

    message: str


Action: TypeAlias = Set | Shift | Approach | Reclaim | Notify


class Rule(Struct, frozen=True):
    """When, and what then."""

    name: str
    """``policy/rule``: what its state is kept under, also over reloads."""
    when: Condition
    do: tuple[Action, ...]
    clear: Condition | None = None
    """When it ends; ``None``: when ``when`` no longer holds."""
    step_back: float | None = None
    """After it ended, limits go back by this share of themselves at a time; ``None``: at once."""
    cooldown_seconds: float = 60.0
    """Between two times that it acts on the same container, and between two steps back."""
    ttl_seconds: float = math.inf
    """It holds that long at most, and then not before ``when`` was untrue once."""
    schedule: Schedule | None = None
    mode: Mode = Mode.DRY_RUN
    priority: int = 0


class Match(Struct, frozen=True):
    """Which containers: all that is said has to be true; globs, any of a list."""

    runtime: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    pod: tuple[str, ...] = ()
    cgroup: tuple[str, ...] = ()
    unit: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    """By name, a glob of the value."""
    not_labels: Mapping[str, str] = {}
    """No such label, or another value."""


class Policy(Struct, frozen=True):
    """What is wanted of some containers."""

    name: str
    match: Match
    limits: Mapping[Key, Amount] = {}
    """What they are to be at all times."""
    rules: tuple[Rule, ...] = ()
    schedule: Schedule | None = None
    mode: Mode = Mode.DRY_RUN
    priority: int = 0
    cooldown_seconds: float = 60.0
    on_conflict: OnConflict = OnConflict.REASSERT
    on_exit: Leaving = Leaving.RESTORE
    on_rule_removed: Leaving = Leaving.RESTORE


class Guards(Struct, frozen=True):
    """Bounds of all that policies do, whatever they say."""

    memory_reserve_bytes: int = 0
    memory_reserve_ratio: float = 0.0
    """Of the node's memory; the larger of the two holds."""
    cpu_reserve: float = 0.0
    """CPUs of the node that no ``cpu.max`` takes."""
    margin_ratio: float = 0.1
    """Of what is used; so much stays free below a limit that is lowered, or else"""
    margin_bytes: int = 32 << 20
    """at least that."""
    changes_per_minute: int = 20
    protect: tuple[str, ...] = ()
    """Globs of cgroups' paths and of units' names that no policy touches."""


class PolicySet(Struct, frozen=True):
    """All that is in force together."""

    policies: tuple[Policy, ...] = ()
    guards: Guards = Guards()


NO_POLICIES = PolicySet()
