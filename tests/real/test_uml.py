"""What test_docker.py shows natively, once more on a kernel that has cgroup v2 and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.uml import Finished

INNER = Path(__file__).with_name("test_docker.py")
EXPECTED_SKIP = "needs pressure stall information"
"""The kernel of User Mode Linux is built without it."""


@pytest.mark.real
@pytest.mark.timeout(600)
def test_containers_on_cgroup_v2_show_what_the_kernel_and_docker_say(uml: Callable[..., Finished]) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=5", str(INNER)]
    finished = uml(command, disk_megabytes=256, deadline_seconds=500)
    sys.stdout.write(finished.output)
    assert finished.status == 0, finished.output
    (collected,) = re.findall(r"^collected (\d+) items$", finished.output, re.MULTILINE)
    assert int(collected) >= len(re.findall(r"^def test_", INNER.read_text(), re.MULTILINE))
    skips = [line for line in finished.output.splitlines() if line.startswith("SKIPPED")]
    assert len(skips) == 1
    assert EXPECTED_SKIP in skips[0]
    assert f"= {int(collected) - 1} passed, 1 skipped in " in finished.output.splitlines()[-1]
