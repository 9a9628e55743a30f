"""A set of policies made ready: globs and conditions compiled once, for a thousand containers. Pure."""

from __future__ import annotations

from msgspec import Struct

from cgwatch.policy.conditions import metrics_of
from cgwatch.policy.evaluate import GROWTH, WORKING_SET, Check, compiled
from cgwatch.policy.match import Matcher, matcher, protector
from cgwatch.policy.rules import Condition, Policy, PolicySet, Rule
from cgwatch.policy.subject import Subject

_ALWAYS = frozenset({WORKING_SET, "memory.usage", "pids.current"})
"""What guards look at."""


class ReadyRule(Struct, frozen=True):
    """A rule, its policy, and its conditions as functions."""

    rule: Rule
    policy: Policy
    holds: Check
    clears: Check | None


class ReadyPolicy(Struct, frozen=True):
    """A policy, and whether it is for a container."""

    policy: Policy
    matches: Matcher
    rules: tuple[ReadyRule, ...]


class Ready(Struct, frozen=True):
    """All that is in force together."""

    policies: PolicySet
    each: tuple[ReadyPolicy, ...]
    protects: Matcher
    metrics: frozenset[str]
    """What ``points`` has to fill in."""
    windows: tuple[float, float] | None
    """The shortest and the longest that the growth of a container is looked at over."""
    names: frozenset[str]
    """Of policies and rules."""

    def policies_for(self, subject: Subject) -> tuple[int, ...]:
        """Return the places of the policies that are for a container."""
        if self.protects(subject):
            return ()
        return tuple(place for place, ready in enumerate(self.each) if ready.matches(subject))

    def in_force(self, seconds: float) -> frozenset[str]:
        """Return the names of the policies and rules whose schedules let them be in force."""
        found = set()
        for ready in self.each:
            schedule = ready.policy.schedule
            if schedule and not schedule.in_force(seconds):
                continue
            found.add(ready.policy.name)
            found.update(
                each.rule.name
                for each in ready.rules
                if each.rule.schedule is None or each.rule.schedule.in_force(seconds)
            )
        return frozenset(found)


def make_ready(policies: PolicySet) -> Ready:
    """Compile a set of policies."""
    each = tuple(
        ReadyPolicy(
            policy,
            matcher(policy.match),
            tuple(
                ReadyRule(rule, policy, compiled(rule.when), compiled(rule.clear) if rule.clear else None)
                for rule in policy.rules
            ),
        )
        for policy in policies.policies
    )
    conditions = [
        condition
        for policy in policies.policies
        for rule in policy.rules
        for condition in (rule.when, rule.clear)
        if condition is not None
    ]
    metrics = frozenset(name for condition in conditions for name in metrics_of(condition))
    windows = [span for condition in conditions for span in _growth_windows(condition)]
    names = [policy.name for policy in policies.policies]
    names += [rule.name for policy in policies.policies for rule in policy.rules]
    return Ready(
        policies,
        each,
        protector(policies.guards),
        metrics | _ALWAYS,
        (min(windows), max(windows)) if windows else None,
        frozenset(names),
    )


def _growth_windows(condition: Condition) -> list[float]:
    own = [condition.window_seconds] if condition.metric in GROWTH else []
    return own + [span for part in condition.parts for span in _growth_windows(part)]
