"""Real OOM kills beside a real agent: what its tests have in common."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from cgwatch.proc.vmstat import read_vmstat
from tests.oom.hogs import MEGABYTE
from tests.real.agent_process import AgentError, AgentProcess, Page
from tests.real.dockerd import IMAGE, Docker

LIMIT_BYTES = 16 * MEGABYTE
NO_DOCKER = "unix:///nonexistent/docker.sock"
HOG = "tail /dev/zero"
"""It keeps the last line, which never ends: some memory more with each read."""
KERNEL_SILENT_SECONDS = 5.5
SETTLED_SECONDS = 60
"""A kill whose line the kernel's log does not have is settled after 30 s."""


def node_total() -> int:
    total = read_vmstat().oom_kills_total
    assert total is not None
    return total


class Watched:
    """An agent and the node's own count of kills when it began."""

    def __init__(self, state_dir: Path, docker_url: str = NO_DOCKER) -> None:
        self.agent = AgentProcess(docker_url, interval="500ms", state_dir=str(state_dir))

    def __enter__(self) -> Self:
        self.before = node_total()
        self.agent.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self.agent.__exit__(None, None, None) if problem[0] is None else self.agent.kill()

    def wait_for(self, name: str, value: float, /, **labels: str) -> Page:
        """Give the first page on which the series of these labels add up to a value."""
        return self._wait(lambda page: sum(found for _, found in page.find(name, **labels)) == value)

    def wait_for_names(self, kills: Mapping[str, int]) -> Page:
        """Give the first page that has so many kills, of whatever cause, by the names that they count for."""
        return self._wait(lambda page: {name: of_name(page, name) for name in kills} == kills)

    def wait_until_known(self, kills: int) -> Page:
        """Give the first page of a ledger that has all of the node's kills, which are so many of ours."""

        def is_known(page: Page) -> bool:
            total = page.value("cgwatch_oom_node_kills_total")
            known = page.value("cgwatch_oom_attributed_total") + page.value("cgwatch_oom_unattributed_total")
            return total == known == node_total() - self.before == kills

        return self._wait(is_known)

    def _wait(self, condition: Callable[[Page], bool]) -> Page:
        try:
            return self.agent.wait_for(condition, SETTLED_SECONDS)
        except AgentError as error:
            kills = [line for line in self.agent.get().splitlines() if line.startswith("cgwatch_oom")]
            raise AgentError("\n".join([str(error), *kills])) from error


def of_name(page: Page, name: str) -> float:
    """Give how many kills count for a container of this name."""
    return sum(value for _, value in page.find("cgwatch_oom_kills_total", name=name))


def run(daemon: Docker, name: str, work: str, *options: str) -> subprocess.Popen[bytes]:
    """Start ``docker run`` in the foreground."""
    memory = (f"--memory={LIMIT_BYTES}", f"--memory-swap={LIMIT_BYTES}")
    command = ("docker", "run", "--name", name, *memory, *options, IMAGE, "sh", "-c", work)
    environment = {**os.environ, "DOCKER_HOST": daemon.url, "DOCKER_CONFIG": "/nonexistent"}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[bytes]) -> int:
    _, said = process.communicate(timeout=60)
    assert process.returncode is not None, said
    return process.returncode
