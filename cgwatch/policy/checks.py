"""Policies that contradict each other. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from cgwatch.change import Key
from cgwatch.errors import ConfigError
from cgwatch.policy.amounts import Amount
from cgwatch.policy.match import may_overlap
from cgwatch.policy.rules import Approach, Policy, Rule, Set, Shift
from cgwatch.policy.spot import Spot


class _Kind(StrEnum):
    LIMIT = "sets"
    RULE = "sets by a rule"
    SHIFT = "changes"


class _Claim(Struct, frozen=True):
    """One thing that a policy does to one limit."""

    policy: Policy
    where: str
    key: Key
    kind: _Kind
    priority: int
    to: Amount | None
    spot: Spot


def contradictions(policies: Mapping[str, Policy], spots: Mapping[str, Spot]) -> Iterator[ConfigError]:
    """Yield what is said of one limit twice, with the same priority, for what may be the same container.

    Two that raise or lower it may go together: relief wins. What sets it stands alone. In one policy a rule
    is above ``limits``.
    """
    claims = [claim for name, policy in policies.items() for claim in _claims(policy, spots[name])]
    by_limit: dict[tuple[Key, int], list[_Claim]] = {}
    for claim in claims:
        by_limit.setdefault((claim.key, claim.priority), []).append(claim)
    for (key, priority), rivals in by_limit.items():
        for one, other in itertools.combinations(rivals, 2):
            if _contradict(one, other):
                yield other.spot.error(
                    f"{other.where} {_verb(other)} {key} with priority {priority}, as {one.where} "
                    f"(line {one.spot.placed.line}) does for containers that may be the same; give one of "
                    "them another priority"
                )


def _verb(claim: _Claim) -> str:
    return "changes" if claim.kind is _Kind.SHIFT else "sets"


def _contradict(one: _Claim, other: _Claim) -> bool:
    kinds = {one.kind, other.kind}
    if kinds == {_Kind.SHIFT} or (one.to is not None and one.to == other.to):
        return False
    if one.policy is other.policy:
        return _Kind.LIMIT not in kinds
    return may_overlap(one.policy.match, other.policy.match)


def _claims(policy: Policy, spot: Spot) -> Iterator[_Claim]:
    for key, amount in policy.limits.items():
        entry = spot.at("limits", key if spot.at("limits").has(key) else "cpus")
        yield _Claim(policy, policy.name, key, _Kind.LIMIT, policy.priority, amount, entry)
    for index, rule in enumerate(policy.rules):
        yield from _of_rule(policy, rule, spot.at("rules", index))


def _of_rule(policy: Policy, rule: Rule, spot: Spot) -> Iterator[_Claim]:
    for action in rule.do:
        match action:
            case Set(key, to):
                yield _Claim(policy, rule.name, key, _Kind.RULE, rule.priority, to, spot)
            case Shift(key) | Approach(key):
                yield _Claim(policy, rule.name, key, _Kind.SHIFT, rule.priority, None, spot)
            case _:
                pass
