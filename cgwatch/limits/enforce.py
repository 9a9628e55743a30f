"""The one writer of limits: checks, records, writes, reads back, and undoes in time.

The order of things is what makes a crash harmless: what is going to be done, and what was there before, is on
the disk before the first write; what became of it is on the disk before anybody is told. ``resume`` undoes
what lies between.

An override is what somebody set. There is one for each limit of a cgroup, the newest; it ends by its time, by
``reset`` or by another one, and only the first value before all of them, the baseline, is ever brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import structs

from cgwatch.cgroup.knob import Value
from cgwatch.change import (
    Actor,
    Change,
    Key,
    Outcome,
    Plan,
    Report,
    Request,
    Result,
    Target,
    Tree,
    Via,
)
from cgwatch.errors import CgroupGoneError, CgwatchError, FileMissingError
from cgwatch.limits.lock import HostLock
from cgwatch.limits.parts import Ground, Observer, Owner, Rules, family, log
from cgwatch.limits.protect import protection
from cgwatch.limits.record import Identity, Intent, Override, Records, never_made
from cgwatch.limits.transaction import Pace, Transaction
from cgwatch.limits.writers.choice import Choice, choose
from cgwatch.oom.observation import LimitWrite

_MADE = frozenset({Result.APPLIED, Result.APPLIED_NOT_EFFECTIVE, Result.CLAMPED, Result.UNCHANGED})
"""Results after which the limit is what somebody made of it."""
_OVER = _MADE | {Result.GONE}
"""Results of a restore after which there is nothing left to restore."""


class Enforcer:
    """Not thread-safe: one thread calls it, and may be kept waiting by the kernel for ``limits.deadline``.

    Nothing here raises for what the kernel or an owner refuses: that is in the report. ``StorageError`` is
    raised where the record cannot be written, and then no limit was.
    """

    def __init__(
        self,
        *,
        ground: Ground,
        records: Records,
        owners: Mapping[Via, Owner],
        lock: HostLock,
        pace: Pace,
        rules: Rules,
        observer: Observer,
        told: Callable[[LimitWrite], None],
    ) -> None:
        """``told`` learns of writes to memory, for the ledger of OOM kills."""
        self._ground = ground
        self._records = records
        self._owners = owners
        self._lock = lock
        self._pace = pace
        self._rules = rules
        self._observer = observer
        self._told = told

    # -- what is asked for ---------------------------------------------------------------------------------

    def apply(self, request: Request) -> Report:
        """Carry out a request; a dry run plans it alone."""
        try:
            return self._apply(request, restores=False)
        finally:
            self._ground.end()

    def reset(self, target: Target, keys: Iterable[Key] | None, actor: Actor) -> Report:
        """Bring back what was there before the first override of each key; ``None``: of all keys."""
        known = self.baselines(target)
        wanted = known if keys is None else {key: known[key] for key in keys if key in known}
        request = Request(target, wanted, actor, "reset")
        unknown = () if keys is None else tuple(sorted(set(keys) - known.keys()))
        if not wanted:
            return Report(request, (), (f"cgwatch has changed nothing of {target.path} that it could reset",))
        try:
            report = self._apply(request, restores=True)
        finally:
            self._ground.end()
        warnings = tuple(f"{key}: cgwatch has not changed it" for key in unknown)
        return structs.replace(report, warnings=(*report.warnings, *warnings))

    def restore(
        self,
        target: Target,
        wanted: Mapping[Key, Value],
        actor: Actor,
        reason: str,
        *,
        is_hurried: bool = False,
    ) -> Report:
        """Bring back these values, and end the overrides of these keys where that was done.

        ``is_hurried``: others wait, so what was written is read back at once and not again later.
        """
        pace = self._pace
        try:
            if is_hurried:
                self._pace = structs.replace(pace, verify_seconds=0.0)
            return self._apply(Request(target, wanted, actor, reason), restores=True)
        finally:
            self._pace = pace
            self._ground.end()

    def baselines(self, target: Target) -> Mapping[Key, Value]:
        """Return what each limit of a cgroup goes back to."""
        # What is on the cgroup alone was recorded in a database that is lost.
        return {**self._ground.baseline(target), **self._records.baselines(self.identity(target))}

    def identity(self, target: Target) -> Identity:
        """Return what tells a cgroup from all others."""
        return Identity(self._ground.boot_id, target.path, target.inode)

    # -- one request's way ---------------------------------------------------------------------------------

    def _apply(self, request: Request, *, restores: bool) -> Report:
        if reason := self._forbidden(request):
            return self._refused(request, reason)
        tree = self._surveyed(request, restores=restores)
        if isinstance(tree, Report):
            return tree
        plan = self._ground.plan(request, tree, restores=restores)
        choice = self._choose(plan, tree) if not plan.refusals else Choice({})
        if refusals := (*plan.refusals, *choice.refusals):
            messages = {each.key: each.message for each in refusals}
            return self._refused(request, "not done, as another limit was refused", messages)
        warnings = (*plan.warnings, *choice.warnings)
        if request.dry_run:
            return self._previewed(plan, choice, tree, warnings)
        return self._carry_out(plan, choice, tree, warnings, restores=restores)

    def _surveyed(self, request: Request, *, restores: bool) -> Tree | Report:
        """Return what the kernel says, or the report that it says too little."""
        target = request.target
        try:
            tree = self._ground.survey(target)
        except (FileMissingError, CgroupGoneError) as error:
            return self._gone(request, str(error), restores=restores)
        except CgwatchError as error:
            return self._refused(request, str(error))
        if target.path not in tree.cgroups or tree.cgroups[target.path].inode != target.inode:
            return self._gone(request, "another cgroup has its path now", restores=restores)
        return tree

    def _forbidden(self, request: Request) -> str | None:
        target = request.target
        if self._rules.read_only and not request.dry_run:
            return "cgwatch only observes here (read_only: true in its configuration)"
        if not self._lock.is_held and not request.dry_run:
            holder = self._lock.holder()
            return (
                f"process {holder} writes the limits of this host"
                if holder
                else "another process writes limits"
            ) + f" ({self._lock.path} is locked): ask that one, or end it"
        try:
            target.path.encode()
        except UnicodeEncodeError:
            return "its path is no text, so it cannot be recorded"
        why = protection(
            target.path, target.owner, own_paths=self._ground.own_paths, globs=self._rules.protect
        )
        return f"{target.path} is protected: {why}" if why else None

    def _choose(self, plan: Plan, tree: Tree) -> Choice:
        """Choose the ways; what an owner finds that it cannot do goes another way."""
        target, keys = plan.request.target, [change.key for change in plan.changes]
        unable: dict[Via, str] = {
            via: f"the agent cannot speak to {via}"
            for via in (Via.DOCKER, Via.SYSTEMD)
            if via not in self._owners
        }
        impossible: dict[tuple[Via, Key], str] = {}
        now = tree.cgroups[target.path].values
        while True:
            choice = choose(
                plan.request.via, target, keys, versions=tree.versions, unable=unable, impossible=impossible
            )
            before = len(unable) + len(impossible)
            for via in set(choice.ways.values()) - {Via.CGROUPFS}:
                wanted = {each.key: each.to for each in plan.changes if choice.ways.get(each.key) is via}
                try:
                    found = self._owners[via].impossible(target, wanted, now)
                except CgwatchError as error:
                    unable[via] = str(error)
                else:
                    impossible |= {(via, key): why for key, why in found.items()}
            if len(unable) + len(impossible) == before:
                return choice

    def _previewed(self, plan: Plan, choice: Choice, tree: Tree, warnings: tuple[str, ...]) -> Report:
        now = self._pace.clock()
        path = plan.request.target.path
        outcomes = []
        for change in plan.changes:
            effective, whose = self._ground.effective(tree, path, change.key)
            outcomes.append(
                Outcome(
                    change,
                    Result.DRY_RUN,
                    choice.ways[change.key],
                    now,
                    read_back=change.before,
                    effective=effective,
                    effective_path=whose,
                    message=change.note,
                )
            )
        outcomes += [self._unchanged(change, now) for change in plan.unchanged]
        expires = None if plan.request.for_seconds is None else now + plan.request.for_seconds
        return Report(plan.request, tuple(outcomes), warnings, expires_seconds=expires, steps=plan.steps)

    def _carry_out(
        self, plan: Plan, choice: Choice, tree: Tree, warnings: tuple[str, ...], *, restores: bool
    ) -> Report:
        request, now = plan.request, self._pace.clock()
        identity = self.identity(request.target)
        number = self._records.begin(identity.boot_id, now, Intent(plan, choice.ways, restores))
        if not restores:
            self._ground.keep_baseline(request.target, self._records.baselines(identity))
        done: tuple[Outcome, ...] = ()
        is_clean = True
        if plan.changes:
            transaction = Transaction(
                plan, choice.ways, tree, kernel=self._ground, owners=self._owners, pace=self._pace
            )
            writes_memory = any(change.key.startswith("memory.") for change in plan.changes)
            if writes_memory:
                self._told(LimitWrite(request.target.path, now))
            try:
                done = transaction.run()
            finally:
                if writes_memory:
                    self._told(LimitWrite(request.target.path, now, self._pace.clock()))
            warnings = (*warnings, *transaction.warnings)
            is_clean = transaction.is_clean
        outcomes = (*done, *(self._unchanged(change, now) for change in plan.unchanged))
        report = Report(request, outcomes, warnings, number)
        report = self._recorded(report, identity, now, restores=restores, is_clean=is_clean)
        for outcome in outcomes:
            knob = family(outcome.change.key)
            self._observer.limit_written(knob, outcome.via, outcome.result, outcome.duration_seconds)
        log(report)
        return report

    def _recorded(
        self, report: Report, identity: Identity, now: float, *, restores: bool, is_clean: bool
    ) -> Report:
        """Record the end of it: the overrides that it made, or those that are over."""
        request, number = report.request, report.number or 0
        expires = None if request.for_seconds is None else now + request.for_seconds
        over = {
            outcome.change.key
            for outcome in report.outcomes
            if outcome.result in (_OVER if restores else {Result.GONE, Result.REVERTED})
        }
        before = {
            override.key: override.via for each, override in self._records.overrides() if each == identity
        }
        made = [
            Override(
                request.target,
                outcome.change.key,
                outcome.change.to if outcome.read_back is None else outcome.read_back,
                # Nothing was written: whoever knows of it is who was told before.
                before.get(outcome.change.key, outcome.via)
                if outcome.result is Result.UNCHANGED
                else outcome.via,
                request.actor,
                request.reason,
                now,
                expires,
                number,
            )
            for outcome in report.outcomes
            if not restores and outcome.result in _MADE
        ]
        pairs = [(identity, key) for key in over]
        if not restores and is_clean:
            pairs += never_made(self._records, report.outcomes, identity)
        # First: what is on the cgroup alone counts as well.
        self._ground.forget_baseline(request.target, [key for _, key in pairs])
        self._records.complete(
            number,
            report.outcomes,
            overrides=made,
            dropped=[(identity, key) for key in over],
            forgotten=pairs,
            boot_id=identity.boot_id,
        )
        for key in over if restores else ():
            self._observer.limit_restored(family(key))
        return structs.replace(report, expires_seconds=expires if made else None)

    # -- what comes to nothing -----------------------------------------------------------------------------

    def _refused(self, request: Request, others: str, reasons: Mapping[Key, str] | None = None) -> Report:
        messages = {key: (reasons or {}).get(key, others) for key in request.wanted}
        messages |= reasons or {}
        return self._noted(request, Result.REFUSED, messages)

    def _gone(self, request: Request, message: str, *, restores: bool) -> Report:
        messages = dict.fromkeys(request.wanted, f"{message}: nothing was written")
        return self._noted(request, Result.GONE, messages, ends=restores)

    def _noted(
        self, request: Request, result: Result, messages: Mapping[Key, str], *, ends: bool = False
    ) -> Report:
        now = self._pace.clock()
        outcomes = tuple(
            Outcome(
                Change(key, None, request.wanted.get(key, ""), request.wanted.get(key, "")),
                result,
                request.via,
                now,
                message=message,
            )
            for key, message in messages.items()
        )
        report = Report(request, outcomes)
        if request.dry_run or self._rules.read_only:
            return report
        identity = self.identity(request.target)
        rows = [
            (request.target, request.actor, request.reason, request.for_seconds, outcome)
            for outcome in outcomes
        ]
        pairs = [(identity, key) for key in messages] if ends else []
        for outcome in outcomes:
            self._observer.limit_written(family(outcome.change.key), outcome.via, outcome.result, 0.0)
        number = self._records.note(now, rows, dropped=pairs, forgotten=pairs, boot_id=identity.boot_id)
        log(report)
        return structs.replace(report, number=number)

    def _unchanged(self, change: Change, now: float) -> Outcome:
        return Outcome(change, Result.UNCHANGED, Via.CGROUPFS, now, read_back=change.before)
