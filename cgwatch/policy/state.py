"""What decisions remember from one moment to the next. Pure, and nothing but a fold over the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.change import Key
from cgwatch.policy.rules import Leaving, PolicySet
from cgwatch.policy.subject import Subject

Identity: TypeAlias = tuple[str, int]
"""Path and inode."""


class Episode(Struct, frozen=True):
    """A rule at work on a container."""

    began_seconds: float
    acted_seconds: float
    """When it acted last."""
    stepped_seconds: float
    """When it went a step back last; else as above."""
    reason: str
    claims: Mapping[Key, Value] = {}
    """What it wants limits to be."""
    returning: bool = False
    """It has ended, and goes back step by step."""
    spent: bool = False
    """Its time to live is over; it does not begin again before its condition was untrue."""
    relapses: int = 0
    """How often it had to act again while it went back. Each makes it wait twice as long before it goes back,
    so that a load which stays the same does not make limits go up and down for ever."""


class Asked(Struct, frozen=True):
    """What was decided of a limit last."""

    to: Value
    seconds: float


class Tended(Struct, frozen=True):
    """A limit that cgwatch wrote, and for whom."""

    by: str
    on_removed: Leaving
    on_exit: Leaving


class Memory(Struct, frozen=True):
    """Of one container."""

    subject: Subject
    policies: tuple[int, ...]
    """Those that match it, by their place in the set."""
    held: Mapping[int, float] = {}
    """Since when conditions have held, by number."""
    episodes: Mapping[str, Episode] = {}
    """By the rule's name."""
    asked: Mapping[tuple[Key, bool], Asked] = {}
    """By limit, and whether it was to be carried out."""
    tended: Mapping[Key, Tended] = {}
    trail: tuple[tuple[float, float], ...] = ()
    """Seconds and working set, where a rule looks at its growth."""
    told: frozenset[str] = frozenset()
    """Notes that were given and still hold."""


class State(Struct, frozen=True):
    """Of the whole node. As MessagePack it may be kept over a restart: decisions go on where they were."""

    policies: PolicySet = PolicySet()
    seconds: float | None = None
    containers: Mapping[Identity, Memory] = {}
    changes: tuple[float, ...] = ()
    """When limits were changed, in the last minute."""


BEGINNING = State()
