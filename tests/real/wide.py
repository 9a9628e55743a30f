"""User Mode Linux on processors with AMX: their registers are more than it has room for (see ``wide.c``)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("wide.c")


def is_needed() -> bool:
    """Tell whether this machine's processors have AMX."""
    return " amx_tile" in Path("/proc/cpuinfo").read_text()


def missing() -> str | None:
    """Say what is needed for it and not there."""
    return "needs gcc, as this processor has AMX" if is_needed() and not shutil.which("cc") else None


def preload(folder: Path) -> dict[str, str]:
    """Return the environment for User Mode Linux, after making what it names in ``folder``."""
    if not is_needed():
        return {}
    library = folder / "wide.so"
    command = ["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}
