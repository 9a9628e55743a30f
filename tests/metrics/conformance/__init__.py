"""cAdvisor's families (v0.60) as data, and cgwatch's own beside them: what each is called, and who has it.

``v1`` and ``v2`` say which cgroups have the family on that version, by what the captured kernel files of the
cgroup say; ``departs`` says what cAdvisor does otherwise. ``LEFT_OUT`` are cAdvisor's families that cgwatch
does not have, each for its reason: without the ``own`` rows, the tables are all of cAdvisor's.

A module of this package has ``ROWS``, ``NODE_ROWS`` or both, for families that belong together.
"""

from __future__ import annotations

from tests.metrics.conformance import cpuset, disk, extras, hugetlb, node, numa, processes, state, usual
from tests.metrics.conformance.rules import Captured, NodeRow, Row

__all__ = ["CONTAINER_ROWS", "LEFT_OUT", "NODE_ROWS", "Captured", "NodeRow", "Row"]

CONTAINER_ROWS: tuple[Row, ...] = (
    *usual.ROWS,
    *extras.ROWS,
    *processes.ROWS,
    *node.ROWS,
    *state.ROWS,
    *disk.ROWS,
    *hugetlb.ROWS,
    *cpuset.ROWS,
    *numa.ROWS,
)
NODE_ROWS: tuple[NodeRow, ...] = (*usual.NODE_ROWS, *node.NODE_ROWS, *state.NODE_ROWS)

_NVM = "persistent memory in a machine's slots, a product that is gone"
LEFT_OUT: dict[str, str] = {
    "machine_nvm_capacity": _NVM,
    "machine_nvm_avg_power_budget_watts": _NVM,
}
