"""cAdvisor's families (v0.60) as data, and cgwatch's own beside them: what each is called, and who has it.

``v1`` and ``v2`` say which cgroups have the family on that version, by what the captured kernel files of the
cgroup say; ``departs`` says what cAdvisor does otherwise. ``LEFT_OUT`` are cAdvisor's families that cgwatch
does not have, each for its reason: without the ``own`` rows, the tables are all of cAdvisor's.

A module of this package has ``ROWS``, ``NODE_ROWS`` or both, for families that belong together.
"""

from __future__ import annotations

from tests.metrics.conformance import usual
from tests.metrics.conformance.rules import Captured, NodeRow, Row

__all__ = ["CONTAINER_ROWS", "LEFT_OUT", "NODE_ROWS", "Captured", "NodeRow", "Row"]

CONTAINER_ROWS: tuple[Row, ...] = (*usual.ROWS,)
NODE_ROWS: tuple[NodeRow, ...] = (*usual.NODE_ROWS,)

_CFQ = "counted by the CFQ scheduler, which went with kernel 5.0; what cAdvisor shows since is the host's"
_NVM = "persistent memory in a machine's slots, a product that is gone"
_DIMM = "what is in a machine's slots: node_exporter's edac collector has it"
LEFT_OUT: dict[str, str] = {
    "container_fs_sector_reads_total": _CFQ,
    "container_fs_sector_writes_total": _CFQ,
    "container_fs_reads_merged_total": _CFQ,
    "container_fs_writes_merged_total": _CFQ,
    "container_fs_read_seconds_total": _CFQ,
    "container_fs_write_seconds_total": _CFQ,
    "container_fs_io_current": _CFQ,
    "container_fs_io_time_seconds_total": _CFQ,
    "container_fs_io_time_weighted_seconds_total": _CFQ,
    "container_fs_io_cost_usage_seconds_total": "of the io.cost controller, not read yet",
    "container_fs_io_cost_wait_seconds_total": "of the io.cost controller, not read yet",
    "container_fs_io_cost_indebt_seconds_total": "of the io.cost controller, not read yet",
    "container_fs_io_cost_indelay_seconds_total": "of the io.cost controller, not read yet",
    "container_file_descriptors": "a directory to list for each process, not read yet",
    "container_sockets": "a link to read for each descriptor of each process, not read yet",
    "container_ulimits_soft": "of one process, not read yet",
    "machine_dimm_count": _DIMM,
    "machine_dimm_capacity_bytes": _DIMM,
    "machine_nvm_capacity": _NVM,
    "machine_nvm_avg_power_budget_watts": _NVM,
}
