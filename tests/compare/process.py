"""What a process has cost so far."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec import Struct


class Cost(Struct, frozen=True):
    """CPU time of a process over some seconds, its memory at their end, and how often it sampled."""

    cpu_seconds: float
    resident_bytes: int
    seconds: float
    samples: float = 0
    """Of each container, on average."""


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process; clock_getcpuclockid(3) has the clock's number."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Resident set size (proc_pid_status(5), ``VmRSS``)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kibibytes) * 1024
