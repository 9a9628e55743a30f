"""What tests/limits shows natively once more on cgroup v2, and limits of units by a real systemd."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.uml import CHECKOUT, Finished

SYSTEMD = Path(__file__).with_name("inside_systemd_limits.py")
DOCKER = Path(__file__).with_name("test_limits_docker.py")
NATIVE = CHECKOUT / "tests" / "limits" / "test_enforce.py"
COMMAND = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=5"]


def check(finished: Finished, inner: Path) -> None:
    sys.stdout.write(finished.output)
    assert finished.status == 0, finished.output
    passed = re.search(r"= (\d+) passed in ", finished.output.splitlines()[-1])  # and not one skipped
    assert passed is not None, finished.output
    assert int(passed[1]) >= len(re.findall(r"^def test_", inner.read_text(), re.MULTILINE))


@pytest.mark.real
@pytest.mark.timeout(400)
def test_limits_are_set_and_undone_on_cgroup_v2(uml: Callable[..., Finished]) -> None:
    check(uml([*COMMAND, str(NATIVE)], deadline_seconds=300), NATIVE)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_limits_of_dockers_containers_on_cgroup_v2(uml: Callable[..., Finished]) -> None:
    check(uml([*COMMAND, str(DOCKER)], disk_megabytes=256, deadline_seconds=500), DOCKER)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_systemd_keeps_the_limits_of_its_units(systemd_machine: Callable[..., Finished]) -> None:
    check(systemd_machine([*COMMAND, str(SYSTEMD)]), SYSTEMD)
