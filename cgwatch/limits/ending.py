"""Overrides that end without a write of a kernel's file, and whether a limit is still what we made of it."""

from __future__ import annotations

from collections.abc import Sequence

from cgwatch.change import Actor, Outcome, Report, Request, Tree
from cgwatch.limits.parts import Ground, log
from cgwatch.limits.record import Identity, Override, Records
from cgwatch.limits.verify import period_of, same


class Endings:
    """Records what is over."""

    def __init__(self, *, ground: Ground, records: Records) -> None:
        self._ground = ground
        self._records = records

    def noted(
        self,
        identity: Identity,
        rows: Sequence[tuple[Override, Outcome]],
        actor: Actor,
        reason: str,
    ) -> Report:
        """End overrides of one cgroup with these outcomes; there is one at least."""
        target = rows[0][0].target
        pairs = [(identity, override.key) for override, _ in rows]
        self._ground.forget_baseline(target, [key for _, key in pairs])
        number = self._records.note(
            rows[0][1].seconds,
            [(target, actor, reason, None, outcome) for _, outcome in rows],
            dropped=pairs,
            forgotten=pairs,
            boot_id=identity.boot_id,
        )
        outcomes = tuple(outcome for _, outcome in rows)
        wanted = {outcome.change.key: outcome.change.to for outcome in outcomes}
        report = Report(Request(target, wanted, actor, reason), outcomes, number=number)
        log(report)
        return report


def is_ours(override: Override, tree: Tree) -> bool:
    """Whether the limit of a cgroup in ``tree`` is what the override made of it."""
    values = tree.cgroups[override.target.path].values
    return same(
        override.key,
        values.get(override.key),
        override.value,
        page_bytes=tree.node.page_bytes,
        via=override.via,
        period=period_of(values),
    )
