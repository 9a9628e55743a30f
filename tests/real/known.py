"""What is known of a captured tree without looking at it: limits that were set, work that was done."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping


class Known(Struct, frozen=True):
    """What is known of one cgroup."""

    files: dict[str, str]
    """Limits: kernel file and the text that was written to it."""
    at_least: dict[str, int]
    """Work: "file" or "file key" and the number that it shows at least."""
    name: str = ""
    """Of the container, where it is one."""


def write_json(path: Path, value: Any) -> None:
    """Write a file that git can show."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_meta(out: Path, known: Mapping[str, Known], made_by: str) -> None:
    """Write meta.json of the tree in ``out``."""
    now = datetime.now(UTC).replace(microsecond=0)
    machine = "User Mode Linux" if "User Mode" in Path("/proc/cpuinfo").read_text() else "QEMU"
    write_json(
        out / "meta.json",
        {
            "command": f"python -m tests.real.trees {os.environ.get('CGWATCH_TEST_TREE', '')}",
            "date": now.isoformat(),
            "kernel": os.uname().release,
            "machine": machine,
            "made_by": made_by,
            "cgroups": {
                path: {"name": one.name, "files": one.files, "at_least": one.at_least}
                for path, one in sorted(known.items())
            },
        },
    )
