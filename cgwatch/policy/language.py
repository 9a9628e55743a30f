"""The language of policies: YAML to typed rules; every error names its file, line and key. Pure.

A file is first held against its shape (``written``), then each value is read for what it means, then the
policies are held against each other. All that is wrong is told at once, as far as one error does not hide
another. Files that are read together are one ``PolicySet``: the strictest guards of all of them hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

from msgspec import Struct, structs

from cgwatch.change import Key
from cgwatch.errors import ConfigError
from cgwatch.placed_yaml import read_yaml
from cgwatch.policy import written
from cgwatch.policy.actions import actions_of
from cgwatch.policy.amounts import Amount, key_of, parse_limit
from cgwatch.policy.checks import contradictions
from cgwatch.policy.conditions import Conditions, check_hysteresis, read, seconds_of
from cgwatch.policy.rules import (
    Approach,
    Guards,
    Leaving,
    Match,
    Mode,
    OnConflict,
    Policy,
    PolicySet,
    Rule,
    Set,
    Shift,
)
from cgwatch.policy.schedule import Schedule, parse_cron, parse_zone
from cgwatch.policy.spot import Spot
from cgwatch.policy.terms import Measure, parse_bytes, parse_percent, parse_threshold
from cgwatch.units import shortened

_STEP_BACK = 0.1
_FREEZE = "cgroup.freeze"
_KINDS = ("container", "pod", "unit", "plain")
_RUNTIMES = ("docker", "containerd", "crio", "podman", "lxc", "kubernetes", "systemd", "none")


class Source(Struct, frozen=True):
    """One file."""

    name: str
    raw: bytes


class Checked(Struct, frozen=True):
    """What became of some files."""

    policies: PolicySet
    """Those that are right; in force only where nothing is wrong."""
    errors: tuple[ConfigError, ...] = ()


def load_policies(sources: Iterable[Source]) -> PolicySet:
    """Return the policies of some files. Raises ``ConfigError`` for the first thing that is wrong."""
    checked = check_policies(sources)
    if checked.errors:
        raise checked.errors[0]
    return checked.policies


def check_policies(sources: Iterable[Source]) -> Checked:
    """Return the policies of some files and all that is wrong with them; never raises."""
    reader = _Reader()
    for source in sources:
        reader.file(source)
    reader.errors += contradictions(reader.policies, reader.spots)
    return Checked(PolicySet(tuple(reader.policies.values()), reader.guards), tuple(reader.errors))


class _Reader:
    """Reads one file after the other."""

    def __init__(self) -> None:
        self.policies: dict[str, Policy] = {}
        self.spots: dict[str, Spot] = {}
        self.errors: list[ConfigError] = []
        self.guards = Guards(changes_per_minute=_NO_CHANGES_BOUND)
        self._conditions = Conditions()

    def file(self, source: Source) -> None:
        try:
            spot = Spot(source.name, read_yaml(source.raw, source.name))
            if not isinstance(spot.placed.value, dict):
                raise spot.error(f"holds no policies; begin it with apiVersion: {written.API_VERSION}")
            document, errors = written.document_of(spot)
            self.errors += errors
            if document is None:
                return
            self.guards = _stricter(self.guards, _guards(spot.at("guards"), document.guards))
        except ConfigError as error:
            self.errors.append(error)
            return
        for index, policy in enumerate(document.policies):
            self._policy(spot.at("policies", index), policy, document, spot.at("defaults"))

    def _policy(self, spot: Spot, form: written.Policy, document: written.Document, defaults: Spot) -> None:
        try:
            if not form.name or "/" in form.name:
                raise spot.at("name").error("a name is not empty and has no slash; correct it")
            if form.name in self.policies:
                first = self.spots[form.name]
                raise spot.at("name").error(
                    f"{shortened(form.name)} is the name of another policy "
                    f"({first.file}:{first.placed.line}); choose another"
                )
            policy = self._head(spot, form, document, defaults)
        except ConfigError as error:
            self.errors.append(error)
            return
        rules: dict[str, Rule] = {}
        ttl = seconds_of(spot, "ttl", seconds_of(defaults, "ttl", math.inf))
        for index, rule in enumerate(form.rules):
            place = spot.at("rules", index)
            try:
                if not rule.name or rule.name in rules:
                    raise place.at("name").error("is empty, or another rule has this name; choose another")
                rules[rule.name] = self._rule(place, rule, policy, ttl)
            except ConfigError as error:
                self.errors.append(error)
        self.spots[form.name] = spot
        self.policies[form.name] = structs.replace(policy, rules=tuple(rules.values()))
        if not form.rules and not form.limits:
            self.errors.append(spot.error("does nothing; add limits or rules"))

    def _head(self, spot: Spot, form: written.Policy, document: written.Document, defaults: Spot) -> Policy:
        limits: dict[Key, Amount] = {}
        for name, entry in spot.at("limits").entries() if spot.has("limits") else ():
            try:
                if key_of(name) in limits:
                    raise entry.error("cpus and cpu.max are the same limit; keep one")
                limits[key_of(name)] = read(entry, partial(parse_limit, name))
            except ConfigError as error:
                self.errors.append(error)
        general = document.defaults
        return Policy(
            name=form.name,
            match=_match(spot.at("match"), form.match),
            limits=limits,
            schedule=_schedule(spot, form.schedule),
            mode=Mode(form.mode or document.mode),
            priority=form.priority,
            cooldown_seconds=seconds_of(spot, "cooldown", seconds_of(defaults, "cooldown", 60.0)),
            on_conflict=OnConflict(form.on_conflict or general.on_conflict),
            on_exit=Leaving(form.on_exit or general.on_exit),
            on_rule_removed=Leaving(form.on_rule_removed or general.on_rule_removed),
        )

    def _rule(self, spot: Spot, form: written.Rule, policy: Policy, ttl: float) -> Rule:
        when = self._conditions.read(spot.at("when"), form.when)
        clear = None
        if form.clear is not None:
            clear = self._conditions.read(spot.at("clear"), form.clear)
            check_hysteresis(when, clear, spot.at("clear"))
        do = actions_of(spot.at("do"))
        step_back: float | None = _STEP_BACK if any(isinstance(each, Shift) for each in do) else None
        if form.else_ is not None:
            step_back = read(spot.at("else", "step"), parse_percent)
            if not 0 < step_back <= 1:
                raise spot.at("else", "step").error("is not more than 0% and at most 100%; correct it")
        ttl = seconds_of(spot, "ttl", ttl)
        if math.isinf(ttl) and any(isinstance(each, Set) and each.key == _FREEZE for each in do):
            raise spot.error("freezes without end, and what is frozen does not change by itself; add a ttl")
        keys = [each.key for each in do if isinstance(each, (Set, Shift, Approach))]
        if len(keys) > len(set(keys)):
            raise spot.at("do").error("does two things to the same limit; keep one, or make two rules")
        return Rule(
            name=f"{policy.name}/{form.name}",
            when=when,
            do=do,
            clear=clear,
            step_back=step_back,
            cooldown_seconds=seconds_of(spot, "cooldown", policy.cooldown_seconds),
            ttl_seconds=ttl,
            schedule=_schedule(spot, form.schedule),
            mode=Mode(form.mode or policy.mode),
            priority=policy.priority if form.priority is None else form.priority,
        )


def _match(spot: Spot, form: written.Match) -> Match:
    fields = {
        name: (value,) if isinstance(value := getattr(form, name), str) else value
        for name in ("runtime", "kind", "name", "image", "namespace", "pod", "cgroup", "unit")
    }
    for name, known in (("kind", _KINDS), ("runtime", _RUNTIMES)):
        for item in spot.at(name).items() if fields[name] else ():
            if item.text not in known:
                raise item.error(f"{shortened(item.text)} is none of {', '.join(known)}; write one of them")
    return Match(**fields, labels=form.labels, not_labels=form.not_labels)


def _schedule(spot: Spot, form: written.Schedule | None) -> Schedule | None:
    if form is None:
        return None
    spot = spot.at("schedule")
    cron = read(spot.at("cron"), parse_cron)
    if spot.has("tz"):
        read(spot.at("tz"), parse_zone)
    for_seconds = seconds_of(spot, "for", 0.0)
    if not for_seconds and not cron.every_minute:
        raise spot.error(
            "is in force for single minutes; add for, such as for: 8h, or write * for the minute of "
            f"{shortened(cron.text)}"
        )
    return Schedule(cron, form.tz, for_seconds)


_NO_CHANGES_BOUND = 10_000


def _guards(spot: Spot, form: written.Guards) -> Guards:
    reserve, below = spot.at("hostReserve"), spot.at("neverLowerBelowUsage")
    memory_bytes, memory_ratio = 0, 0.0
    if reserve.has("memory"):
        place = reserve.at("memory")
        if place.text.endswith("%"):
            memory_ratio = read(place, parse_percent)
            if memory_ratio >= 1:
                raise place.error("leaves nothing for containers; write less")
        else:
            memory_bytes = read(place, parse_bytes)
    return Guards(
        memory_reserve_bytes=memory_bytes,
        memory_reserve_ratio=memory_ratio,
        cpu_reserve=read(reserve.at("cpus"), partial(parse_threshold, Measure.CPUS))
        if reserve.has("cpus")
        else 0.0,
        margin_ratio=read(below.at("margin"), parse_percent) if below.has("margin") else 0.1,
        margin_bytes=read(below.at("min"), parse_bytes) if below.has("min") else 32 << 20,
        changes_per_minute=form.max_changes_per_minute,
        protect=form.protect,
    )


def _stricter(one: Guards, other: Guards) -> Guards:
    return Guards(
        memory_reserve_bytes=max(one.memory_reserve_bytes, other.memory_reserve_bytes),
        memory_reserve_ratio=max(one.memory_reserve_ratio, other.memory_reserve_ratio),
        cpu_reserve=max(one.cpu_reserve, other.cpu_reserve),
        margin_ratio=max(one.margin_ratio, other.margin_ratio),
        margin_bytes=max(one.margin_bytes, other.margin_bytes),
        changes_per_minute=min(one.changes_per_minute, other.changes_per_minute),
        protect=tuple(dict.fromkeys((*one.protect, *other.protect))),
    )
