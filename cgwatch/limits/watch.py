"""Overrides while they last: cgroups made anew are followed, other writers are noticed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from msgspec import structs

from cgwatch.cgroup.knob import Value
from cgwatch.change import Actor, ActorKind, Change, Key, Outcome, Request, Result, Target, Via
from cgwatch.errors import CgwatchError, FileMissingError, OwnerRefusedError
from cgwatch.limits.ending import Endings, is_ours
from cgwatch.limits.enforce import Enforcer
from cgwatch.limits.parts import Ground, Held, Observer, Owner, Rules, family
from cgwatch.limits.record import Identity, Override, Records
from cgwatch.limits.transaction import Pace
from cgwatch.model import Kind

LOG = logging.getLogger(__name__)

_AGENT = Actor(ActorKind.AGENT, "")
_GONE_SECONDS = 600.0
"""How long a container without a cgroup may take to be started again; then its overrides are over."""


class Watch:
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
        self._endings = Endings(ground=ground, records=records)
        self._ground = ground
        self._records = records
        self._owners = owners
        self._pace = pace
        self._rules = rules
        self._observer = observer
        self._missing: dict[Identity, float] = {}
        """Since when there is no cgroup."""
        self._drifted: dict[tuple[Identity, Key], Value | None] = {}
        """What somebody else has made of a limit, so that each is told once."""

    def look(self, now_seconds: float) -> tuple[Held, ...]:
        """Follow cgroups that were made anew, count what others wrote, and return the overrides in force."""
        held: list[Held] = []
        for identity, overrides in self._records.overrides_by_cgroup():
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
        others = [each for each in overrides if each.via is not Via.DOCKER]
        changed = []
        for override in overrides:
            if override.via is not Via.DOCKER:
                continue
            if is_ours(override, tree):
                self._records.follow(identity, override, self._ground.boot_id, target)
            else:
                changed.append(override)
        self._lost(identity, changed, "the container was started again, and somebody else had changed it")
        if self._rules.follow_restarts:
            self._set_again(others, target, now_seconds)  # before the old ones end, in case we do
        self._lost(
            identity,
            others,
            "the container was started again"
            + ("; what is left of its time is set anew" if self._rules.follow_restarts else ""),
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
        self._endings.noted(identity, rows, _AGENT, message)

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
            if is_ours(override, tree):
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
