"""Real kills in cgroups that are gone at once, on both kinds of kernel, beside a ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import require_root_v1
from tests.real.needs import require
from tests.real.uml import Finished, run_in_uml, uml_available

COUNT = 40
NAMED_IN_A_BURST = 10
"""The kernel says whose the victims were of so many kills in five seconds, at least."""


def on_v1(command: list[str]) -> Finished:
    require_root_v1()
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100, check=False
    )
    return Finished(done.returncode, done.stdout or done.stderr)


def on_v2(command: list[str]) -> Finished:
    require(uml_available())
    return run_in_uml(command, memory="256M")


@pytest.mark.real
@pytest.mark.parametrize(("version", "run"), [("v1", on_v1), ("v2", on_v2)], ids=["v1", "v2"])
def test_a_storm_of_kills_in_cgroups_that_are_gone_at_once_is_counted_exactly(
    version: str, run: Callable[[list[str]], Finished]
) -> None:
    done = run([sys.executable, "-m", "tests.oom.storm", version, str(COUNT)])
    assert done.status == 0, done.output
    storm = json.loads(done.output)
    assert storm["node"] == storm["records"] == storm["attributed"] + storm["unattributed"] >= COUNT
    assert storm["contradicted"] == storm["unmatched_lines"] == 0
    assert storm["containers"] >= NAMED_IN_A_BURST
    assert storm["victims"] >= COUNT or storm["lost_lines"]
