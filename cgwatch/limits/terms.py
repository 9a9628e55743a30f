"""How long overrides last: until their time is over, the agent ends, or a crash is cleared up."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import groupby

from cgwatch.cgroup.knob import Value
from cgwatch.change import Actor, ActorKind, Change, Key, Outcome, Report, Result, Tree, Via
from cgwatch.errors import CgwatchError, FileMissingError
from cgwatch.limits.crash import Aftermath
from cgwatch.limits.ending import Endings, is_ours
from cgwatch.limits.enforce import Enforcer
from cgwatch.limits.parts import Ground, Held, Observer, Owner, Rules, family
from cgwatch.limits.record import Identity, Override, Records
from cgwatch.limits.transaction import Pace
from cgwatch.limits.verify import same
from cgwatch.limits.watch import Watch

LOG = logging.getLogger(__name__)

_EXPIRY = Actor(ActorKind.EXPIRY, "")
_AGENT = Actor(ActorKind.AGENT, "")
_AGAIN_SECONDS = 60.0
_LONGEST_AGAIN_SECONDS = 3600.0
_UNHURRIED = 3
"""More cgroups than that at once do not wait for one another's second look."""


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
        self._watch = Watch(
            enforcer,
            ground=ground,
            records=records,
            owners=owners,
            pace=pace,
            rules=rules,
            observer=observer,
        )
        self._endings = Endings(ground=ground, records=records)
        self._aftermath = Aftermath(ground=ground, records=records, owners=owners, pace=pace)
        self._ground = ground
        self._records = records
        self._owners = owners
        self._pace = pace
        self._rules = rules
        self._observer = observer
        self._again: dict[Identity, tuple[float, float]] = {}
        """When to try again what could not be restored, and the pause before that."""

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
        for identity, overrides in self._records.overrides_by_cgroup():
            reports += self._end(identity, overrides, _AGENT, "cgwatch ends", is_hurried=True)
        return reports

    def expire(self, now_seconds: float) -> list[Report]:
        """Undo the overrides whose time is over, if the values are still ours."""
        reports = self._settle()
        all_due = []
        for identity, overrides in self._records.overrides_by_cgroup():
            due = [
                each
                for each in overrides
                if each.expires_seconds is not None and each.expires_seconds <= now_seconds
            ]
            if due and self._again.get(identity, (0.0, 0.0))[0] <= now_seconds:
                all_due.append((identity, due))
        for identity, due in all_due:
            is_hurried = len(all_due) > _UNHURRIED
            reports += self._end(identity, due, _EXPIRY, "its time is over", is_hurried=is_hurried)
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
        """See how every override does (``Watch.look``); return those in force."""
        return self._watch.look(now_seconds)

    # -- the end of an override ----------------------------------------------------------------------------

    def _end(
        self,
        identity: Identity,
        overrides: Sequence[Override],
        actor: Actor,
        reason: str,
        *,
        is_hurried: bool,
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
        reports = [self._endings.noted(identity, left, actor, reason)] if left else []
        for override, _ in left:
            self._observer.limit_conflicted(family(override.key))
        if wanted:
            report = self._enforcer.restore(target, wanted, actor, reason, is_hurried=is_hurried)
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
        if at_baseline or is_ours(override, tree):
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
        return [self._endings.noted(identity, rows, actor, reason)]

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
