"""Everything that can be limited: one row for each kernel limit, on v2 and v1. Pure.

The canonical name of a limit is that of its cgroup v2 file, also where v1 is what there is. A file that holds
several numbers has a row for each: ``io.max.rbps[8:0]``, ``cpu.max.period``.
"""

from __future__ import annotations

from typing import TypeAlias

Value: TypeAlias = int | float | str
"""Bytes, counts, microseconds and weights as integers; ``math.inf``: no limit; the text of a list of CPUs or
memory nodes (``0-3,8``)."""
