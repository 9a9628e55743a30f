"""What all changes of one moment may come to: the node's memory, and how many a minute. Pure.

Relief comes first, then what neither gives nor takes; then by priority, then by path, so that the same
history always has the same changes held back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import structs

from cgwatch.policy.decision import Decision, Kind, Note
from cgwatch.policy.rules import Guards, Mode
from cgwatch.policy.situation import Moment, Situation
from cgwatch.policy.state import Identity
from cgwatch.policy.values import is_tightening, shown
from cgwatch.units import format_size

_MEMORY = "memory.max"
_MINUTE_SECONDS = 60.0


class Budget:
    """Of one moment."""

    def __init__(self, guards: Guards, moment: Moment, changes: tuple[float, ...]) -> None:
        self._guards = guards
        self._moment = moment
        self.changes = [each for each in changes if 0 <= moment.seconds - each < _MINUTE_SECONDS]
        self._raised: dict[Identity, float] | None = None
        self._bases: dict[Identity, float] = {}

    def grant(self, decisions: Iterable[Decision]) -> tuple[list[Decision], list[tuple[str, Note]]]:
        """Return what is done, the memory's share cut to what the node has, and what is held back.

        With each note its kind, by which it is told once.
        """
        granted, notes = [], []
        for decision in sorted(decisions, key=_order):
            within, problem = self._within_memory(decision)
            real = decision.mode is Mode.ENFORCE and decision.kind is not Kind.NOTIFY
            if not problem and real and len(self.changes) >= self._guards.changes_per_minute:
                most = self._guards.changes_per_minute
                problem = f"{most} changes were made in this minute (maxChangesPerMinute)"
            if problem:
                what = decision.key or decision.kind
                note = Note(decision.subject, decision.by, f"{what}: {problem}")
                notes.append((f"{decision.by}: budget {what}", note))
                continue
            granted.append(within)
            if real:
                self._spend(within)
        return granted, notes

    def _spend(self, decision: Decision) -> None:
        self.changes.append(self._moment.seconds)
        if decision.key == _MEMORY and decision.relief and self._raised is not None:
            identity = (decision.subject.path, decision.subject.inode)
            if isinstance(decision.to, int | float):
                self._raised[identity] = decision.to

    def _within_memory(self, decision: Decision) -> tuple[Decision, str]:
        """Cut a raise of memory.max so that all that is raised fits in the node beside its reserve."""
        to, before, guards = decision.to, decision.before, self._guards
        if decision.key != _MEMORY or not decision.relief or decision.kind is not Kind.WRITE:
            return decision, ""
        raised = self._raised = self._all_raised() if self._raised is None else self._raised
        identity = (decision.subject.path, decision.subject.inode)
        total = self._moment.host.memory_total_bytes
        if not isinstance(to, int | float) or to <= self._bases.get(identity, 0.0):
            return decision, ""
        if total is None:
            is_guarded = guards.memory_reserve_bytes or guards.memory_reserve_ratio
            return decision, "the node's memory cannot be told, so nothing is raised" if is_guarded else ""
        reserve = max(guards.memory_reserve_bytes, total * guards.memory_reserve_ratio)
        others = sum(size for key, size in raised.items() if key != identity)
        room = max(total - reserve - others, 0)
        if to <= room:
            return decision, ""
        most = shown(_MEMORY, int(room), self._moment.host.page_bytes)
        if isinstance(most, str) or not isinstance(before, int | float) or most <= before:
            return decision, (
                f"{format_size(others)} are given to others that were raised and {format_size(reserve)} are "
                f"the node's own, of {format_size(total)}; there is no more (hostReserve)"
            )
        reason = f"{decision.reason}; no more, for the node keeps {format_size(reserve)} for itself"
        return structs.replace(decision, to=most, reason=reason), ""

    def _all_raised(self) -> dict[Identity, float]:
        raised = {}
        for situation in self._moment.situations:
            identity = (situation.subject.path, situation.subject.inode)
            base, present = situation.base(_MEMORY), situation.present(_MEMORY)
            self._bases[identity] = math.inf if isinstance(base, str) or base is None else base
            if _is_raised(situation) and isinstance(present, int | float):
                raised[identity] = present
        return raised


def _is_raised(situation: Situation) -> bool:
    base, present = situation.base(_MEMORY), situation.present(_MEMORY)
    return isinstance(base, int | float) and isinstance(present, int | float) and math.inf > present > base


def _order(decision: Decision) -> tuple[bool, int, int, str, str, str]:
    takes = (
        decision.before is not None
        and decision.to is not None
        and decision.kind in {Kind.WRITE, Kind.RESTORE}
        and is_tightening(decision.key, decision.before, decision.to)
    )
    is_real = decision.mode is Mode.ENFORCE
    urgency = 3 if decision.kind is Kind.NOTIFY else 0 if decision.relief else 2 if takes else 1
    return not is_real, urgency, -decision.priority, decision.subject.path, decision.key, decision.by
