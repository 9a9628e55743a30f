"""Rules and history to decisions. Pure: a fold over moments, so that a history that is kept replays the same.

For each container its policies' rules are advanced by one moment (``episodes``), what they and ``limits``
claim goes to one arbiter for each limit (``arbiter``), and what all containers want together has to fit into
the budget of the node and of the minute (``budget``). What is decided and held back is wanted again at the
next moment: a claim stands until its rule gives it up.

Whoever carries decisions out gives what became of them by the next moment's ``Situation``: the present value
as it was read back, what was written, and the baseline that was kept before the first write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, structs

from cgwatch.cgroup.knob import Value
from cgwatch.change import Key
from cgwatch.policy.amounts import resolve
from cgwatch.policy.arbiter import Arbiter, Claim
from cgwatch.policy.budget import Budget
from cgwatch.policy.decision import Decision, Kind, Note
from cgwatch.policy.episodes import Shot, Turn, advance, claims_of
from cgwatch.policy.evaluate import WORKING_SET, Look, extended
from cgwatch.policy.ready import Ready, ReadyPolicy, ReadyRule
from cgwatch.policy.rules import Mode, Reclaim
from cgwatch.policy.situation import Moment, Situation
from cgwatch.policy.state import Asked, Episode, Identity, Memory, State, Tended

_HOLE = 3
"""So many intervals without a moment are a hole in the history: nothing holds across it."""


class Decided(Struct, frozen=True):
    """What follows from one moment."""

    decisions: tuple[Decision, ...]
    """In the order in which they are to be carried out: relief first."""
    notes: tuple[Note, ...]
    """What is not done, and why; each once, as long as it holds."""
    state: State


def decide(ready: Ready, state: State, moment: Moment) -> Decided:
    """Take one moment; never raises, and gives the same for the same."""
    is_new = state.policies is not ready.policies and state.policies != ready.policies
    is_hole = state.seconds is None or not (
        0 <= moment.seconds - state.seconds <= moment.interval_seconds * _HOLE
    )
    in_force = ready.in_force(moment.seconds)
    containers: dict[Identity, Memory] = {}
    wanted: list[Decision] = []
    notes: list[Note] = []
    for situation in moment.situations:
        subject = situation.subject
        identity = (subject.path, subject.inode)
        memory = state.containers.get(identity)
        if memory is None:
            memory = Memory(subject, ready.policies_for(subject))
        elif is_new or (memory.subject is not subject and memory.subject != subject):
            memory = structs.replace(memory, subject=subject, policies=ready.policies_for(subject), held={})
        if memory.policies or memory.tended or memory.episodes or situation.written:
            container = _Container(ready, in_force, moment, situation, memory, is_hole=is_hole)
            memory = container.memory
            wanted += container.decisions
            notes += container.notes
        containers[identity] = memory
    budget = Budget(ready.policies.guards, moment, state.changes)
    granted, held_back = budget.grant(wanted)
    _remember(containers, granted, ready, moment.seconds)
    for what, note in held_back:
        identity = (note.subject.path, note.subject.inode)
        before, memory = state.containers.get(identity), containers[identity]
        containers[identity] = structs.replace(memory, told=memory.told | {what})
        if before is None or what not in before.told:
            notes.append(note)
    return Decided(
        tuple(granted),
        tuple(notes),
        State(ready.policies, moment.seconds, containers, tuple(budget.changes)),
    )


def farewell(ready: Ready, state: State, moment: Moment) -> tuple[Decision, ...]:
    """Return what is brought back at the agent's end, by the ``onExit`` of each policy."""
    wanted: list[Decision] = []
    for situation in moment.situations:
        memory = state.containers.get((situation.subject.path, situation.subject.inode))
        memory = memory or Memory(situation.subject, ())
        turn = Turn(Look(moment.seconds, situation, moment.host, {}, ()), {})
        wanted += Arbiter(turn, memory, ready.policies.guards, ready.names).farewell()
    return tuple(wanted)


class _Container:
    """One container's turn."""

    def __init__(
        self,
        ready: Ready,
        in_force: frozenset[str],
        moment: Moment,
        situation: Situation,
        memory: Memory,
        *,
        is_hole: bool,
    ) -> None:
        trail = memory.trail
        if ready.windows:
            trail = extended(trail, moment.seconds, situation.values.get(WORKING_SET), ready.windows)
        look = Look(moment.seconds, situation, moment.host, {} if is_hole else memory.held, trail)
        self._in_force = in_force
        self._policies = [ready.each[place] for place in memory.policies]
        statics = self._statics(look)
        self._turn = Turn(look, {claim.key: claim.to for claim in reversed(statics)})
        episodes, claims = self._advanced(memory.episodes)
        for claim in statics:
            claims.setdefault(claim.key, []).append(claim)
        self.decisions: list[Decision] = []
        if claims or memory.tended or situation.written:
            arbiter = Arbiter(self._turn, memory, ready.policies.guards, ready.names)
            self.decisions += arbiter.decisions(claims)
        self.decisions += (_of_shot(situation, shot) for shot in self._turn.shots)
        if memory.tended:
            memory = _untended(memory, situation, claims.keys())
        told = {f"{by}: {what}" for by, what in self._turn.notes}
        self.notes = [
            Note(situation.subject, by, message)
            for (by, what), message in self._turn.notes.items()
            if f"{by}: {what}" not in memory.told
        ]
        if look.held or memory.held or episodes or memory.episodes or told or memory.told or trail:
            memory = structs.replace(
                memory, held=look.held, episodes=episodes, trail=trail, told=frozenset(told)
            )
        self.memory = memory

    def _statics(self, look: Look) -> list[Claim]:
        """Return what the ``limits`` of the policies in force say, the highest priority first."""
        situation, host = look.situation, look.host
        found = [
            Claim(
                key,
                value,
                policy.name,
                policy,
                policy.mode,
                policy.priority,
                policy.cooldown_seconds,
                f"limits say {amount.text}",
            )
            for policy in (ready.policy for ready in self._policies)
            if policy.limits and policy.name in self._in_force
            for key, amount in policy.limits.items()
            if (value := resolve(amount, host.known(key, situation, situation.base(key)))) is not None
        ]
        return sorted(found, key=lambda claim: -claim.priority)

    def _advanced(
        self, before: Mapping[str, Episode]
    ) -> tuple[Mapping[str, Episode], dict[Key, list[Claim]]]:
        episodes: dict[str, Episode] = {}
        claims: dict[Key, list[Claim]] = {}
        in_force, turn = self._in_force, self._turn
        for policy in self._policies:
            for ready in policy.rules:
                name = ready.rule.name
                old = before.get(name)
                if old is None and name not in in_force:
                    continue
                turn.look.missing.clear()
                episode = advance(ready, old, turn, in_force=name in in_force)
                if episode is None:
                    continue
                episodes[name] = episode
                for key, value in claims_of(ready, episode, turn) if episode.claims else ():
                    claims.setdefault(key, []).append(_claim(ready, policy, key, value, episode))
        return episodes, claims


def _untended(memory: Memory, situation: Situation, claimed: Collection[Key]) -> Memory:
    """Forget the limits that are back where they were."""
    tended = {
        key: kept
        for key, kept in memory.tended.items()
        if key in claimed or situation.present(key) != situation.base(key)
    }
    return memory if len(tended) == len(memory.tended) else structs.replace(memory, tended=tended)


def _claim(ready: ReadyRule, policy: ReadyPolicy, key: Key, value: Value, episode: Episode) -> Claim:
    rule = ready.rule
    return Claim(
        key,
        value,
        rule.name,
        policy.policy,
        rule.mode,
        rule.priority,
        rule.cooldown_seconds,
        episode.reason,
        from_rule=True,
    )


def _of_shot(situation: Situation, shot: Shot) -> Decision:
    rule = shot.rule.rule
    reason = shot.reason if isinstance(shot.action, Reclaim) else f"{shot.action.message}: {shot.reason}"
    kind = Kind.RECLAIM if isinstance(shot.action, Reclaim) else Kind.NOTIFY
    return Decision(
        situation.subject, kind, rule.mode, rule.name, reason, to=shot.size_bytes, priority=rule.priority
    )


def _remember(
    containers: dict[Identity, Memory], granted: Iterable[Decision], ready: Ready, seconds: float
) -> None:
    """Keep what was decided, and for whom limits are tended."""
    policies = {each.policy.name: each.policy for each in ready.each}
    for decision in granted:
        if not decision.key or decision.to is None:
            continue
        identity = (decision.subject.path, decision.subject.inode)
        memory, real = containers[identity], decision.mode is Mode.ENFORCE
        asked = {**memory.asked, (decision.key, real): Asked(decision.to, seconds)}
        tended = memory.tended
        policy = policies.get(decision.by.partition("/")[0])
        if real and policy and decision.kind is Kind.WRITE:
            kept = Tended(decision.by, policy.on_rule_removed, policy.on_exit)
            tended = {**tended, decision.key: kept}
        containers[identity] = structs.replace(memory, asked=asked, tended=tended)
