"""The same on cgroup v2 without a second machine: the bench inside User Mode Linux."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.table import Row
from tests.real.dockerd import RealKernelError
from tests.real.uml import run_in_uml, uml_available

_DISK_MEGABYTES = 64
_DISK = "/dev/ubda"

# Its machine has a file system on the disk, which the bench writes over. Open files: what systemd grants a
# service at most; here it is 4,096. cAdvisor does not start on a processor that does not tell its clock.
_PREPARE = f"""\
umount {_DISK}
ulimit -n 524288
sed '/^model name/a cpu MHz : 1000.000' /proc/cpuinfo > /run/cpuinfo
mount --bind /run/cpuinfo /proc/cpuinfo"""


def run(
    arguments: Sequence[str], folder: Path, memory: str, deadline_seconds: float, found: list[Row]
) -> str:
    """Boot, run the bench with these arguments, and return what it wrote; its rows are added to ``found``.

    Raises ``RealKernelError`` when the machine cannot be booted or did not end in time, or the bench failed
    in it; rows that it had found by then are there.
    """
    if reason := uml_available():
        raise RealKernelError(f"no User Mode Linux: {reason}")
    output = folder / "rows.json"
    command = [sys.executable, "-m", "bench", *arguments, "--disk", _DISK, "--json", str(output)]
    script = f"{_PREPARE}\nexec {shlex.join(command)}"
    try:
        done = run_in_uml(
            ["bash", "-e", "-c", script],
            memory=memory,
            disk_megabytes=_DISK_MEGABYTES,
            deadline_seconds=deadline_seconds,
        )
    finally:
        if output.exists():
            found += msgspec.json.decode(output.read_bytes(), type=list[Row])
    if done.status:
        raise RealKernelError(f"the bench in User Mode Linux ended with status {done.status}:\n{done.output}")
    return done.output
