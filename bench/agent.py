"""A real agent process, as its users run it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.client import Client, value

_START_SECONDS = 120.0


class AgentError(Exception):
    """The agent did not come up, or did not answer; the message ends with its log."""


class Agent:
    """``cgwatch run`` in a process (and, if asked for, a memory cgroup) of its own."""

    def __init__(
        self, folder: Path, *, interval_seconds: float, docker: str | None = None, join: Path | None = None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._log = folder / "agent.log"
        # A socket that is not there: the machine's own Docker is none of the bench's business.
        variables = environment(folder, docker or f"unix://{folder}/no-docker.sock")
        command = [sys.executable, "-m", "cgwatch", "run", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--interval", f"{interval_seconds:g}s", "--state-dir", str(folder / "state")]
        if join is not None:
            # The shell moves itself, so that all memory of the interpreter is charged there.
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(join / "cgroup.procs"), *command]
        self.started_seconds = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=variables, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._check()  # whatever went wrong, the agent's end explains it
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for_page(self) -> float:
        """Connect until there is an answer; return the seconds from the start to the end of a whole page."""
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port)):
                    break
            except ConnectionRefusedError:
                self._check()
                time.sleep(0.001)
        page = self.page()
        if b"container_last_seen" not in page or b"cgwatch_build_info" not in page:
            raise AgentError("the first page is not complete")
        return time.monotonic() - self.started_seconds

    def page(self) -> bytes:
        """Return one page in the text format, not compressed."""
        with Client(self.port) as client:
            return client.scrape().page

    def wait_for(self, arrived: Callable[[bytes], bool]) -> None:
        """Scrape until a page has what is waited for."""
        deadline = time.monotonic() + _START_SECONDS
        while not arrived(self.page()):
            self._check()
            if time.monotonic() > deadline:
                raise AgentError(f"the agent does not get there\n{self._tail()}")
            time.sleep(0.1)

    def wait_for_ticks(self, number: int) -> None:
        """Wait until it has sampled that often."""
        self.wait_for(lambda page: ticks(page) >= number)

    def memory(self) -> tuple[int, int]:
        """Resident and proportional set size, in bytes (proc_pid_smaps_rollup(5))."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
        return sizes["Rss:"], sizes["Pss:"]

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise AgentError(f"the agent ended with status {self._process.returncode}\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])


def ticks(page: bytes) -> int:
    """Return how often the agent has sampled, as its page says."""
    return int(value(page, b"cgwatch_sample_duration_seconds_count") or 0)


def environment(folder: Path, docker: str) -> dict[str, str]:
    """Return the environment of a cgwatch process: nothing of ours, and the Docker daemon at that URL."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CGWATCH_", "PYTHON", "DOCKER_"))
    }
    # An installed package has its byte code beside it; a checkout gets it in our folder.
    variables["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    variables["CGWATCH_DISCOVERY_DOCKER_SOCKET"] = docker
    return variables
