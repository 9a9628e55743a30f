"""Record cases anew, each in the machine that it needs: ``python -m tests.oom.cases.record NAME...``.

A real agent runs while a real program takes memory until the kernel kills it. What the agent stored goes into
``tests/oom/cases/NAME.json``, with what is known of the case without cgwatch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from tests.oom.cases.recorded import Recorded, load, write
from tests.oom.cases.recorded import names as recorded_names
from tests.oom.cases.scenarios import SCENARIOS
from tests.oom.hogs import IN_UML
from tests.real.dockerd import RealKernelError
from tests.real.qemu import run_in_qemu
from tests.real.uml import CHECKOUT, Finished, run_in_uml

if TYPE_CHECKING:
    from collections.abc import Callable


def _here(command: list[str], *, environment: dict[str, str]) -> Finished:
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return Finished(done.returncode, done.stdout + done.stderr)


class Recipe(Struct, frozen=True):
    """In which machine a case is recorded."""

    boot: Callable[..., Finished]
    options: dict[str, Any] = {}


_V2 = {"environment": {IN_UML: "1"}, "deadline_seconds": 600}
RECIPES = {
    name: Recipe(_here, {"environment": {}})
    if name.endswith("_v1")
    else Recipe(run_in_uml, {"memory": "512M", "disk_megabytes": 128, **_V2})
    for name in SCENARIOS
} | {"group_v2": Recipe(run_in_qemu, _V2)}  # a kernel as Debian has it


def record(name: str) -> Recorded:
    """Record one case, in place of what is there."""
    recipe = RECIPES[name]
    with tempfile.TemporaryDirectory(prefix="cgwtest-record-", dir="/tmp") as folder:
        out = Path(folder) / "case.json"
        command = [sys.executable, "-m", "tests.oom.cases.record", f"--out={out}", name]
        finished = recipe.boot(command, **recipe.options)
        if finished.status:
            raise RealKernelError(f"{name}: status {finished.status}\n{finished.output}")
        case = msgspec.json.decode(out.read_bytes(), type=Recorded)
    write(name, case)
    return case


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(RECIPES)))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Record here, in this very machine, into that file."
)
@click.option("--texts", is_flag=True, help="Record nothing: write anew what is said of all cases.")
def main(names: tuple[str, ...], out: Path | None, *, texts: bool) -> None:
    """Record these cases anew, one after the other."""
    for name in recorded_names() if texts else ():
        write(name, load(name))
    for name in names:
        if out is not None:
            out.write_bytes(msgspec.json.encode(SCENARIOS[name]()))
        else:
            click.echo(f"{name}: {record(name).explained().summary}")


if __name__ == "__main__":
    main()
