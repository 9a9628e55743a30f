"""One arbiter for each limit: of all that want it to be something, one is heard. Pure.

What was set by hand wins as long as it holds, then the highest priority; in one policy a rule is above
``limits``, and between equals who gives more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.knob_values import format_value
from cgwatch.change import Key
from cgwatch.policy.decision import Decision, Kind
from cgwatch.policy.episodes import Turn, is_past
from cgwatch.policy.protection import protected
from cgwatch.policy.rules import Guards, Leaving, Mode, OnConflict, Policy
from cgwatch.policy.state import Asked, Memory
from cgwatch.policy.values import is_relief, is_tightening, looseness, shown

RETRY_SECONDS = 30.0
"""The same is not asked for more often: it was refused, or it is on its way."""
_RESTORE_COOLDOWN_SECONDS = 60.0


class Claim(Struct, frozen=True):
    """What one rule, or the ``limits`` of one policy, want a limit to be."""

    key: Key
    to: Value
    by: str
    policy: Policy
    mode: Mode
    priority: int
    cooldown_seconds: float
    reason: str
    from_rule: bool = False

    @property
    def is_real(self) -> bool:
        """Whether it is to be carried out."""
        return self.mode is Mode.ENFORCE


class Arbiter:
    """Decides of one container's limits at one moment."""

    def __init__(self, turn: Turn, memory: Memory, guards: Guards, names: frozenset[str]) -> None:
        self._turn = turn
        self._now = turn.look.now
        self._situation = turn.look.situation
        self._memory = memory
        self._guards = guards
        self._names = names

    def decisions(self, claims: Mapping[Key, list[Claim]]) -> Iterable[Decision]:
        """Yield what is wanted of each limit: at most one that is carried out, and one that would be."""
        for key, rivals in claims.items():
            if self._is_overridden(key):
                self._turn.note(rivals[0].by, f"override {key}", f"{key} was set by hand, which holds")
                continue
            first = max(rivals, key=_rank)
            real = max((claim for claim in rivals if claim.is_real), key=_rank, default=None)
            if not first.is_real and (decision := self._wanted(first)):
                yield decision
            if (real and (decision := self._wanted(real))) or (
                not real and (decision := self._restored(key))
            ):
                yield decision
        for key in sorted((self._memory.tended.keys() | self._situation.written.keys()) - claims.keys()):
            if not self._is_overridden(key) and (decision := self._restored(key)):
                yield decision

    def _is_overridden(self, key: Key) -> bool:
        return self._situation.overrides.get(key, 0.0) > self._now

    def _wanted(self, claim: Claim) -> Decision | None:
        key, present = claim.key, self._situation.present(claim.key)
        if present is None:
            self._turn.note(claim.by, key, f"the container has no {key} here")
            return None
        if claim.is_real and self._situation.is_foreign(key) and claim.policy.on_conflict is OnConflict.YIELD:
            self._turn.note(
                claim.by,
                f"conflict {key}",
                f"somebody else made {key} {format_value(key, present)}; it is left so (onConflict: yield)",
            )
            return None
        to = self._guarded(claim.by, key, present, claim.to)
        if to == present or self._is_too_soon(key, present, to, claim.cooldown_seconds, real=claim.is_real):
            return None
        return Decision(
            self._situation.subject,
            Kind.WRITE,
            claim.mode,
            claim.by,
            claim.reason,
            key,
            present,
            to,
            is_relief(key, present, to),
            claim.priority,
        )

    def _restored(self, key: Key, *, at_exit: bool = False) -> Decision | None:
        """Bring back a limit that nobody wants to be anything, where cgwatch wrote it and nobody since."""
        tended = self._memory.tended.get(key)
        by = tended.by if tended else ""
        present, base = self._situation.present(key), self._situation.base(key)
        if key not in self._situation.written or present is None or base is None or present == base:
            return None
        is_removed = by not in self._names
        leaving = (tended.on_exit if at_exit else tended.on_removed) if tended else Leaving.RESTORE
        if (is_removed or at_exit) and leaving is Leaving.KEEP:
            return None
        if self._situation.is_foreign(key):
            message = f"somebody else made {key} {format_value(key, present)}; it is not brought back"
            self._turn.note(by, f"conflict {key}", message)
            return None
        to = self._guarded(by, key, present, base, restores=True)
        cooldown = 0.0 if at_exit else _RESTORE_COOLDOWN_SECONDS
        if to == present or self._is_too_soon(key, present, to, cooldown, real=True):
            return None
        reason = "the agent ends" if at_exit else "no rule wants it any more"
        return Decision(
            self._situation.subject,
            Kind.RESTORE,
            Mode.ENFORCE,
            by,
            f"{reason}: back to {format_value(key, base)}, as it was",
            key,
            present,
            to,
            is_relief(key, present, to),
        )

    def farewell(self) -> Iterable[Decision]:
        """Yield what is brought back at the agent's end."""
        for key in sorted(self._memory.tended.keys() | self._situation.written.keys()):
            if not self._is_overridden(key) and (decision := self._restored(key, at_exit=True)):
                yield decision

    def _guarded(self, by: str, key: Key, present: Value, to: Value, *, restores: bool = False) -> Value:
        """Return what of a change the guards leave, which may be nothing; and say so."""
        if not restores:
            to = shown(key, to, self._turn.look.host.page_bytes)
        guarded, problem = protected(self._turn.look, self._guards, key, present, to)
        if problem:
            self._turn.note(by, f"guard {key}", problem)
        return guarded if restores else shown(key, guarded, self._turn.look.host.page_bytes)

    def _is_too_soon(self, key: Key, present: Value, to: Value, cooldown: float, *, real: bool) -> bool:
        asked: Asked | None = self._memory.asked.get((key, real))
        if asked is None:
            return False
        if asked.to == to and not is_past(self._now, asked.seconds, max(cooldown, RETRY_SECONDS)):
            return True
        # Relief comes at once; what takes something away waits.
        return is_tightening(key, present, to) and not is_past(self._now, asked.seconds, cooldown)


def _rank(claim: Claim) -> tuple[int, bool, float]:
    return claim.priority, claim.from_rule, looseness(claim.key, claim.to)
