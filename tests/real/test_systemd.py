"""A Debian with systemd as process 1 and Docker on the systemd cgroup driver, on cgroup v2."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.uml import Finished

INNER = Path(__file__).with_name("inside_systemd.py")


@pytest.mark.real
@pytest.mark.timeout(600)
def test_scopes_and_services_of_systemd_show_what_the_kernel_says(
    systemd_machine: Callable[..., Finished],
) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=5", str(INNER)]
    finished = systemd_machine(command)
    sys.stdout.write(finished.output)
    assert finished.status == 0, finished.output
    tests = len(re.findall(r"^def test_", INNER.read_text(), re.MULTILINE))
    # Not one of them skipped.
    assert f"= {tests} passed in " in finished.output.splitlines()[-1]
