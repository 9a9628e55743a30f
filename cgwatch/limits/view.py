"""All limits of one cgroup side by side: what is configured, what holds, and who knows what of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knobs import KNOBS, knob_of
from cgwatch.change import Actor, Key, Target, Via
from cgwatch.limits.effective import Effective
from cgwatch.limits.protect import protection
from cgwatch.limits.record import Override
from cgwatch.limits.writers.choice import choose

_ORDER = {knob.key: number for number, knob in enumerate(KNOBS)}


class Limit(Struct, frozen=True):
    """One limit of a cgroup."""

    key: Key
    configured: Value
    """By the kernel's file."""
    effective: Value | None
    """The least of its own and of all above; ``None``: it acts on this cgroup alone, or it is not known."""
    effective_path: str | None
    """The cgroup that ``effective`` is of."""
    runtime: Value | None
    """What its runtime believes; ``None``: it knows nothing of this limit, or does not say."""
    via: Via | None
    """The way that ``set-limit`` takes; ``None``: there is none."""
    override: Value | None
    """What cgwatch has set it to, and nobody has reset so far."""
    baseline: Value | None
    """What it was before that."""
    expires_seconds: float | None
    """When it is going to be that again, since the epoch."""
    actor: Actor | None
    """Who wanted the override."""
    reason: str | None


class View(Struct, frozen=True):
    """All limits of one cgroup, in the order of the table of limits."""

    target: Target
    limits: tuple[Limit, ...]
    notes: tuple[str, ...] = ()
    """What could not be found out, and why."""


class Known(Struct, frozen=True):
    """What a view is made of beside the kernel's files."""

    versions: Mapping[str, int]
    """As ``change.Tree.versions``."""
    effective: Mapping[Key, Effective] = {}
    runtime: Mapping[Key, Value] = {}
    baselines: Mapping[Key, Value] = {}
    overrides: Sequence[Override] = ()
    """Of this very cgroup."""
    notes: tuple[str, ...] = ()


def view_of(target: Target, values: Mapping[Key, Value], known: Known) -> View:
    """Put together what is known of the limits that a cgroup offers (``values``)."""
    closed = protection(target.path, target.owner, own_paths=())
    ways = {} if closed else choose(Via.AUTO, target, values, versions=known.versions).ways
    notes = (*known.notes, *([f"nobody changes its limits by cgwatch: {closed}"] if closed else []))
    overrides = {each.key: each for each in known.overrides}
    limits = []
    for key in sorted(values, key=_place):
        holds = known.effective.get(key)
        override = overrides.get(key)
        limits.append(
            Limit(
                key=key,
                configured=values[key],
                effective=holds.value if holds else None,
                effective_path=holds.path if holds else None,
                runtime=known.runtime.get(key),
                via=ways.get(key),
                override=override.value if override else None,
                baseline=known.baselines.get(key),
                expires_seconds=override.expires_seconds if override else None,
                actor=override.actor if override else None,
                reason=override.reason if override else None,
            )
        )
    return View(target, tuple(limits), notes)


def _place(key: Key) -> tuple[int, str]:
    return _ORDER.get(knob_of(key).family, len(_ORDER)), key
