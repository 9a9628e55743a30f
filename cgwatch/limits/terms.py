"""How long overrides last: their expiry, what a crash or a restart left, and cgroups that are made anew."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from msgspec import structs

from cgwatch.cgroup.knob import Value
from cgwatch.change import Actor, ActorKind, Change, Key, Outcome, Report, Request, Result, Target, Tree, Via
from cgwatch.errors import CgwatchError, FileMissingError, OwnerRefusedError
from cgwatch.limits.crash import Aftermath
from cgwatch.limits.enforce import Enforcer
from cgwatch.limits.parts import Ground, Held, Observer, Owner, Rules, family
from cgwatch.limits.record import Identity, Override, Records
from cgwatch.limits.transaction import Pace
from cgwatch.limits.verify import period_of, same
from cgwatch.model import Kind

LOG = logging.getLogger(__name__)

_EXPIRY = Actor(ActorKind.EXPIRY, "")
_AGENT = Actor(ActorKind.AGENT, "")
_AGAIN_SECONDS = 60.0
_LONGEST_AGAIN_SECONDS = 3600.0
_GONE_SECONDS = 600.0
"""How long a container without a cgroup may take to be started again; then its overrides are over."""


class Terms:
    """Not thread-safe: called by the thread that calls the enforcer."""

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        ground: Ground,
        records: Records,
        owners: Mapping[Via, Owner],
        pace: Pace,
        rules: Rules,
        observer: Observer,
    ) -> None:
        self._enforcer = enforcer
        self._aftermath = Aftermath(ground=ground, records=records, owners=owners, pace=pace)
        self._ground = ground
        self._records = records
        self._owners = owners
        self._pace = pace
        self._rules = rules
        self._observer = observer
        self._again: dict[Identity, tuple[float, float]] = {}
        """When to try again what could not be restored, and the pause before that."""
        self._missing: dict[Identity, float] = {}
        """Since when there is no cgroup."""
        self._drifted: dict[tuple[Identity, Key], Value | None] = {}
        """What somebody else has made of a limit, so that each is told once."""

    # -- moments -------------------------------------------------------------------------------------------

    def resume(self) -> list[Report]:
        """At a start: undo what a crash left half done, and restore what expired while nobody ran."""
        now = self._pace.clock()
        reports = self._settle()
        self.watch(now)  # containers that were started again in the meantime have their overrides again
        return [*reports, *self.expire(now)]

    def leave(self) -> list[Report]:
        """At the end: undo every override (``limits.on_exit: restore``), or leave them (``keep``)."""
        if self._rules.on_exit == "keep":
            return []
        reports = []
        for identity, overrides in self._by_cgroup():
            reports += self._end(identity, overrides, _AGENT, "cgwatch ends")
        return reports

    def expire(self, now_seconds: float) -> list[Report]:
        """Undo the overrides whose time is over, if the values are still ours."""
        reports = self._settle()
        for identity, overrides in self._by_cgroup():
            due = [each for each in overrides if (each.expires_seconds or now_seconds + 1) <= now_seconds]
            if due and self._again.get(identity, (0.0, 0.0))[0] <= now_seconds:
                reports += self._end(identity, due, _EXPIRY, "its time is over")
        return reports

    def next_seconds(self) -> float | None:
        """Return when ``expire`` has something to do next, since the epoch; ``None``: never, as it stands."""
        times = [
            max(override.expires_seconds, self._again.get(identity, (0.0, 0.0))[0])
            for identity, override in self._records.overrides()
            if override.expires_seconds is not None
        ]
        return min(times, default=None)

    def watch(self, now_seconds: float) -> tuple[Held, ...]:
        """Look at every override's cgroup: follow those made anew, count what others wrote; return them."""
        held: list[Held] = []
        for identity, overrides in self._by_cgroup():
            target = overrides[0].target
            try:
                inode = self._ground.identify(target.path)
                if inode == target.inode and identity.boot_id == self._ground.boot_id:
                    self._missing.pop(identity, None)
                    held += self._look(identity, overrides)
                else:
                    self._made_anew(identity, overrides, structs.replace(target, inode=inode), now_seconds)
            except FileMissingError:
                self._is_missing(identity, overrides, now_seconds)
            except CgwatchError as error:
                LOG.warning(
                    "a limit could not be looked at", extra={"path": target.path, "problem": str(error)}
                )
        return tuple(held)

    def _by_cgroup(self) -> list[tuple[Identity, list[Override]]]:
        found = self._records.overrides()
        grouped: dict[Identity, list[Override]] = {}
        for identity, override in found:
            grouped.setdefault(identity, []).append(override)
        return list(grouped.items())

    # -- the end of an override ----------------------------------------------------------------------------

    def _end(
        self, identity: Identity, overrides: Sequence[Override], actor: Actor, reason: str
    ) -> list[Report]:
        target = overrides[0].target
        try:
            if identity.boot_id != self._ground.boot_id or self._ground.identify(target.path) != target.inode:
                return self._end_gone(identity, overrides, actor, reason)
            tree = self._ground.survey(target)
        except FileMissingError:
            return self._end_gone(identity, overrides, actor, reason)
        except CgwatchError as error:
            LOG.warning("a limit cannot be restored yet", extra={"path": target.path, "problem": str(error)})
            self._later(identity)
            return []
        baselines = self._enforcer.baselines(target)
        wanted: dict[Key, Value] = {}
        left: list[tuple[Override, Outcome]] = []
        for override in overrides:
            problem = self._conflict(override, tree, baselines)
            if problem:
                left.append((override, self._left_alone(override, tree, baselines, problem)))
            else:
                wanted[override.key] = baselines[override.key]
        reports = [self._noted(identity, left, actor, reason)] if left else []
        for override, _ in left:
            self._observer.limit_conflicted(family(override.key))
        if wanted:
            report = self._enforcer.restore(target, wanted, actor, reason)
            if any(outcome.result is Result.REFUSED for outcome in report.outcomes):
                self._later(identity)
            else:
                self._again.pop(identity, None)
            reports.append(report)
        return reports

    def _later(self, identity: Identity) -> None:
        pause = min(max(self._again.get(identity, (0.0, 0.0))[1] * 2, _AGAIN_SECONDS), _LONGEST_AGAIN_SECONDS)
        self._again[identity] = (self._pace.clock() + pause, pause)

    def _conflict(self, override: Override, tree: Tree, baselines: Mapping[Key, Value]) -> str:
        """Say why a limit is not ours to bring back; empty: it is."""
        state = tree.cgroups[override.target.path]
        if override.key not in baselines:
            return "what it was before is not known any more: it is left as it is"
        current, baseline = state.values.get(override.key), baselines[override.key]
        at_baseline = same(override.key, current, baseline, page_bytes=tree.node.page_bytes, via=override.via)
        if at_baseline or self._is_ours(override, tree, state.values):
            return ""
        return "somebody else has written it since: it is left as it is"

    def _left_alone(
        self, override: Override, tree: Tree, baselines: Mapping[Key, Value], problem: str
    ) -> Outcome:
        current = tree.cgroups[override.target.path].values.get(override.key)
        to = baselines.get(override.key, override.value)
        return Outcome(
            Change(override.key, current, to, to),
            Result.REFUSED,
            override.via,
            self._pace.clock(),
            read_back=current,
            message=problem,
        )

    def _end_gone(
        self, identity: Identity, overrides: Sequence[Override], actor: Actor, reason: str
    ) -> list[Report]:
        """End what has no cgroup any more; Docker is told all the same, as it would set it again."""
        baselines = self._records.baselines(identity)
        rows = []
        for via, group in groupby(sorted(overrides, key=lambda each: each.via), key=lambda each: each.via):
            those = list(group)
            wanted = {each.key: baselines[each.key] for each in those if each.key in baselines}
            said = ""
            if via is Via.DOCKER and via in self._owners and wanted:
                try:
                    said, _ = self._owners[via].write(
                        those[0].target, wanted, {**baselines, **{each.key: each.value for each in those}}
                    )
                except CgwatchError as error:
                    LOG.info("Docker has not got it any more", extra={"problem": str(error)})
            for each in those:
                to = baselines.get(each.key, each.value)
                message = "the cgroup is gone" + ("; Docker has what was there before" if said else "")
                change = Change(each.key, each.value, to, to)
                rows.append(
                    (
                        each,
                        Outcome(
                            change,
                            Result.GONE,
                            via,
                            self._pace.clock(),
                            written=said or None,
                            message=message,
                        ),
                    )
                )
        return [self._noted(identity, rows, actor, reason)]

    def _noted(
        self, identity: Identity, rows: Sequence[tuple[Override, Outcome]], actor: Actor, reason: str
    ) -> Report:
        """Record what is over without a write of a kernel's file."""
        target = rows[0][0].target
        pairs = [(identity, override.key) for override, _ in rows]
        self._ground.forget_baseline(target, [key for _, key in pairs])
        number = self._records.note(
            self._pace.clock(),
            [(target, actor, reason, None, outcome) for _, outcome in rows],
            dropped=pairs,
            forgotten=pairs,
            boot_id=identity.boot_id,
        )
        outcomes = tuple(outcome for _, outcome in rows)
        for outcome in outcomes:
            LOG.warning(
                "limit",
                extra={
                    "container": target.name or target.path,
                    "limit": outcome.change.key,
                    "result": str(outcome.result),
                    "by": str(actor.kind),
                    "problem": outcome.message,
                },
            )
        wanted = {outcome.change.key: outcome.change.to for outcome in outcomes}
        return Report(Request(target, wanted, actor, reason), outcomes, number=number)

    # -- crashes -------------------------------------------------------------------------------------------

    def _settle(self) -> list[Report]:
        """Complete what was begun by a process that is gone: we hold the lock, so it is nobody else's."""
        reports = []
        for left in self._records.open_intents():
            request = left.intent.plan.request
            report = self._aftermath.take_back(left)
            if report is None:
                continue
            reports.append(report)
            is_there = all(outcome.result is Result.REFUSED for outcome in report.outcomes)
            if left.intent.restores and is_there and request.actor.kind is ActorKind.COMMAND:
                reports.append(
                    self._enforcer.restore(request.target, request.wanted, request.actor, request.reason)
                )
        return reports

    # -- cgroups that go and come --------------------------------------------------------------------------

    def _is_missing(self, identity: Identity, overrides: Sequence[Override], now_seconds: float) -> None:
        """Wait for a container to be started again; Docker keeps what it was told while it has it."""
        since = self._missing.setdefault(identity, now_seconds)
        if overrides[0].target.owner.kind is Kind.CONTAINER and now_seconds - since < _GONE_SECONDS:
            return
        self._missing[identity] = now_seconds
        over = [each for each in overrides if each.via is not Via.DOCKER or not self._has_docker(each)]
        self._lost(identity, over, "the cgroup is gone")

    def _has_docker(self, override: Override) -> bool:
        """Whether Docker still has a container; while it does not answer it may."""
        try:
            self._owners[Via.DOCKER].impossible(override.target, {}, {})
        except (OwnerRefusedError, KeyError):
            return False
        except CgwatchError:
            return True
        return True

    def _made_anew(
        self, identity: Identity, overrides: Sequence[Override], target: Target, now_seconds: float
    ) -> None:
        """Let overrides follow a container that was started again.

        What Docker was told it has set again itself; all else is set anew, where the settings want it.
        """
        self._missing.pop(identity, None)
        if target.owner.kind is not Kind.CONTAINER:
            self._lost(identity, overrides, "another cgroup has its path now")
            return
        tree = self._ground.survey(target)
        values = tree.cgroups[target.path].values
        others = [each for each in overrides if each.via is not Via.DOCKER]
        changed = []
        for override in overrides:
            if override.via is not Via.DOCKER:
                continue
            if self._is_ours(override, tree, values):
                self._records.follow(identity, override, self._ground.boot_id, target)
            else:
                changed.append(override)
        self._lost(identity, changed, "the container was started again, and somebody else had changed it")
        self._lost(
            identity,
            others,
            "the container was started again"
            + ("; what is left of its time is set anew" if self._rules.follow_restarts else ""),
        )
        if self._rules.follow_restarts:
            self._set_again(others, target, now_seconds)

    def _is_ours(self, override: Override, tree: Tree, values: Mapping[Key, Value]) -> bool:
        return same(
            override.key,
            values.get(override.key),
            override.value,
            page_bytes=tree.node.page_bytes,
            via=override.via,
            period=period_of(values),
        )

    def _lost(self, identity: Identity, overrides: Sequence[Override], message: str) -> None:
        """End overrides that went with their cgroup."""
        if not overrides:
            return
        now = self._pace.clock()
        rows = []
        for each in overrides:
            change = Change(each.key, each.value, each.value, each.value)
            rows.append((each, Outcome(change, Result.GONE, each.via, now, message=message)))
        self._noted(identity, rows, _AGENT, message)

    def _set_again(self, lost: Iterable[Override], target: Target, now_seconds: float) -> None:
        for _, group in groupby(sorted(lost, key=lambda each: each.report), key=lambda each: each.report):
            those = list(group)
            first = those[0]
            left = None if first.expires_seconds is None else first.expires_seconds - now_seconds
            wanted = {each.key: each.value for each in those}
            if left is None or left > 0:
                self._enforcer.apply(Request(target, wanted, first.actor, first.reason, left))

    def _look(self, identity: Identity, overrides: Sequence[Override]) -> list[Held]:
        target = overrides[0].target
        tree = self._ground.survey(target)
        baselines = self._records.baselines(identity)
        values = tree.cgroups[target.path].values
        held = []
        for override in overrides:
            key, current = override.key, values.get(override.key)
            if self._is_ours(override, tree, values):
                self._drifted.pop((identity, key), None)
            elif self._drifted.get((identity, key), override.value) != current:
                self._drifted[identity, key] = current
                self._observer.limit_drifted(family(key))
                LOG.warning(
                    "somebody else has written a limit of ours",
                    extra={"container": target.name or target.path, "limit": key, "now": current},
                )
            effective, _ = self._ground.effective(tree, target.path, key)
            held.append(
                Held(
                    target,
                    key,
                    override.value,
                    current,
                    effective,
                    baselines.get(key),
                    override.expires_seconds,
                    override.actor,
                    override.reason,
                )
            )
        return held
