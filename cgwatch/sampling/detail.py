"""What needs /proc of each process or network namespace: read only where wanted, and never all at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import structs

from cgwatch.errors import KernelFileError
from cgwatch.model import Cgroup, Detail
from cgwatch.proc.namespaces import Candidate
from cgwatch.sampling import processes, sockets
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.rounds import Rounds

_BUDGET_RATIO = 0.2
"""Of a tick's interval: the rest is for the cgroups themselves, and for scrapes."""
_NOTHING = Detail()


class DetailReader:
    """Keeps the ``Detail`` of each cgroup, and reads some of them anew at each tick."""

    def __init__(
        self,
        *,
        proc_root: str,
        plan: Plan,
        monotonic: Callable[[], float],
        knows_pids: bool,
        failed: Callable[[KernelFileError], None],
    ) -> None:
        """``knows_pids``: the pids in cgroup files are those of ``proc_root``.

        ``failed`` is called for each file that could not be read or understood without a good reason.
        """
        wanted = frozenset(part.removeprefix("detail.") for part in plan.parts if part.startswith("detail."))
        of_processes, of_sockets = wanted & processes.PARTS, wanted & sockets.PARTS
        kinds = bool(of_processes) + bool(of_sockets)

        def rounds(seconds: float) -> Rounds[Cgroup]:
            budget_seconds = plan.interval_seconds * _BUDGET_RATIO / kinds
            return Rounds(ticks=plan.ticks(seconds), budget_seconds=budget_seconds, monotonic=monotonic)

        self._details: dict[Cgroup, Detail] = {}
        self._processes = self._sockets = None
        if of_processes:
            self._processes = processes.ProcessReader(
                proc_root=proc_root,
                parts=of_processes,
                rounds=rounds(plan.processes_seconds),
                monotonic=monotonic,
                knows_pids=knows_pids,
                failed=failed,
            )
        if of_sockets:
            self._sockets = sockets.SocketReader(
                proc_root=proc_root, parts=of_sockets, rounds=rounds(plan.sockets_seconds), failed=failed
            )

    def read(
        self,
        followed: Mapping[str, Followed],
        counts: Mapping[str, int],
        pids: Mapping[str, int],
        owners: Iterable[Candidate[Cgroup]],
    ) -> Mapping[Cgroup, Detail]:
        """Return what is known of each cgroup; call it once a tick.

        ``followed`` are all cgroups by path, in its order; ``counts`` has those whose processes the kernel
        lists, ``pids`` one process of each that has any; ``owners`` show one network namespace each.
        """
        if self._processes is None and self._sockets is None:
            return self._details
        alive = {each.container.cgroup for each in followed.values()}
        details = {cgroup: detail for cgroup, detail in self._details.items() if cgroup in alive}
        of_processes = self._processes.read(followed, counts, pids) if self._processes else {}
        of_sockets = self._sockets.read(owners) if self._sockets else {}
        for cgroup, fields in itertools.chain(of_processes.items(), of_sockets.items()):
            if cgroup in alive:
                details[cgroup] = _changed(details.get(cgroup, _NOTHING), fields)
        self._details = details
        return details


def _changed(detail: Detail, fields: Mapping[str, Any]) -> Detail:
    """Replace what is new: a part that is equal stays the same object, and so does the text made of it."""
    before = {name: getattr(detail, name) for name in fields}
    new = {name: value for name, value in fields.items() if value != before[name]}
    return structs.replace(detail, **new) if new else detail
