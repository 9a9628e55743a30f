"""What a crash left half done: found in the record, and undone."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from cgwatch.change import Outcome, Plan, Report, Result, Target, Tree, Via
from cgwatch.errors import FileMissingError
from cgwatch.limits.parts import Ground, Owner, log
from cgwatch.limits.record import Identity, OpenIntent, Records, never_made
from cgwatch.limits.transaction import Pace, bring_back
from cgwatch.limits.verify import same

LOG = logging.getLogger(__name__)


class Aftermath:
    """Takes back what nobody has completed. Its caller has the host's lock: nobody is still at it."""

    def __init__(self, *, ground: Ground, records: Records, owners: Mapping[Via, Owner], pace: Pace) -> None:
        self._ground = ground
        self._records = records
        self._owners = owners
        self._pace = pace

    def take_back(self, left: OpenIntent) -> Report | None:
        """Undo it, and complete its record; ``None``: it cannot be yet, so ask again later."""
        try:
            return self._take_back(left)
        finally:
            self._ground.end()

    def _take_back(self, left: OpenIntent) -> Report | None:
        plan, ways = left.intent.plan, left.intent.ways
        target, now = plan.request.target, self._pace.clock()
        identity = Identity(left.boot_id, target.path, target.inode)
        changes = (*plan.changes, *plan.unchanged)
        if left.boot_id != self._ground.boot_id or not is_there(self._ground, target):
            result, message = (
                Result.GONE,
                "cgwatch was ended in the middle of it, and the cgroup is gone since",
            )
        elif left.intent.restores:
            result, message = Result.REFUSED, "cgwatch was ended in the middle of it: it is done again"
        elif other := _foreign(plan, tree := self._ground.survey(target)):
            result = Result.REVERTED
            message = f"cgwatch was ended in the middle of it, and somebody else has written {other} since"
        else:
            problems = bring_back(plan, ways, tree, kernel=self._ground, owners=self._owners)
            if problems:
                LOG.error(
                    "what was left half done cannot be undone yet",
                    extra={"path": target.path, "problem": "; ".join(problems)},
                )
                return None
            result, message = Result.REFUSED, "cgwatch was ended in the middle of it: it is as before"
        outcomes = tuple(
            Outcome(each, result, ways.get(each.key, Via.CGROUPFS), now, message=message) for each in changes
        )
        gone = [(identity, each.key) for each in changes] if result is Result.GONE else []
        forgotten = gone or ([] if left.intent.restores else never_made(self._records, outcomes, identity))
        self._ground.forget_baseline(target, [key for _, key in forgotten])
        self._records.complete(left.report, outcomes, dropped=gone, forgotten=forgotten, boot_id=left.boot_id)
        report = Report(plan.request, outcomes, number=left.report)
        log(report)
        return report


def is_there(ground: Ground, target: Target) -> bool:
    """Whether the cgroup at the target's path is the target."""
    try:
        return ground.identify(target.path) == target.inode
    except FileMissingError:
        return False


def _foreign(plan: Plan, tree: Tree) -> str:
    """Name the limits that are neither what they were nor what they were to become.

    On v1 ``memory.swap.max`` is the difference of two files, and anything between two writes.
    """
    state = tree.cgroups[plan.request.target.path]
    page_bytes, between = tree.node.page_bytes, tree.versions.get("memory") == 1
    return ", ".join(
        change.key
        for change in plan.changes
        if not (between and change.key == "memory.swap.max")
        and not any(
            same(change.key, state.values.get(change.key), each, page_bytes=page_bytes, via=Via.DOCKER)
            for each in (change.before, change.to)
        )
    )
