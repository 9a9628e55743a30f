"""Real kernels and runtimes as fixtures: each skips with its reason where the machine cannot offer it.

With ``CI=true`` or ``CGWATCH_REQUIRE_REAL=1`` a thing that is missing fails the test instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.dockerd import Dockerd, docker_available, root_available
from tests.real.needs import require
from tests.real.systemd_machine import run_in_systemd_machine, systemd_machine_available
from tests.real.uml import run_in_uml, uml_available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.uml import Finished


@pytest.fixture(scope="session")
def root() -> None:
    """Let the test make cgroups of its own."""
    require(root_available())


@pytest.fixture(scope="session")
def docker() -> Iterator[Dockerd]:
    """Give a private Docker daemon, the same one for the whole session; remove the containers you start."""
    require(docker_available())
    with Dockerd() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def uml() -> Callable[..., Finished]:
    """Give ``run_in_uml``, which boots a kernel with cgroup v2 for each call."""
    require(uml_available())
    return run_in_uml


@pytest.fixture(scope="session")
def systemd_machine() -> Callable[..., Finished]:
    """Give ``run_in_systemd_machine``, which boots a Debian with systemd and Docker for each call."""
    require(systemd_machine_available())
    return run_in_systemd_machine
