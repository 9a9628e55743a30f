"""(c, d, e) A real agent process: memory, time to the first page, CPU time."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from bench.subtree import Subtree

MEBIBYTE = 1 << 20
_START_SECONDS = 60.0
# What Prometheus sends.
_SCRAPE_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}


class AgentError(Exception):
    """The agent did not come up, or did not answer; the message ends with its log."""


class Agent:
    """``cgwatch run`` in a process (and, if asked for, a memory cgroup) of its own."""

    def __init__(
        self, folder: Path, *, interval: str, docker: str | None = None, join: Path | None = None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._log = folder / "agent.log"
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CGWATCH_", "PYTHON", "DOCKER_"))
        }
        # An installed package has its byte code beside it; a checkout gets it in our folder.
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        # A socket that is not there: the machine's own Docker is none of the bench's business.
        environment["CGWATCH_DISCOVERY_DOCKER_SOCKET"] = docker or f"unix://{folder}/no-docker.sock"
        command = [sys.executable, "-m", "cgwatch", "run", "--listen", f"127.0.0.1:{self._port}"]
        command += ["--interval", interval, "--state-dir", str(folder / "state")]
        if join is not None:
            # The shell moves itself, so that all memory of the interpreter is charged there.
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(join / "cgroup.procs"), *command]
        self.started_seconds = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_for_page(self) -> float:
        """Connect until there is an answer; return the seconds from the start to the end of a whole page."""
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self._port)):
                    break
            except ConnectionRefusedError:
                self._check()
                time.sleep(0.001)
        page = self.scrape({})
        if b"container_last_seen" not in page or b"cgwatch_build_info" not in page:
            raise AgentError("the first page is not complete")
        return time.monotonic() - self.started_seconds

    def scrape(self, headers: dict[str, str] | None = None) -> bytes:
        """Return one page, as sent; by default the way Prometheus asks for it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/metrics", headers=_SCRAPE_HEADERS if headers is None else headers)
            answer = connection.getresponse()
            if answer.status != http.HTTPStatus.OK:
                raise AgentError(f"/metrics answered {answer.status}")
            return answer.read()
        finally:
            connection.close()

    def wait_for(self, arrived: Callable[[bytes], bool]) -> None:
        """Scrape until a page has what is waited for."""
        deadline = time.monotonic() + _START_SECONDS
        while not arrived(self.scrape({})):
            self._check()
            if time.monotonic() > deadline:
                raise AgentError(f"the agent does not get there\n{self._tail()}")
            time.sleep(0.1)

    def cpu_seconds(self) -> float:
        """CPU time of the process so far, user and system; clock_getcpuclockid(3) has the clock's number."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

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


class Memory(Struct, frozen=True):
    """Of an agent after some ticks and scrapes, in bytes."""

    resident_bytes: int
    proportional_bytes: int
    kernel_bytes: int | None
    """Kernel memory charged to its cgroup: open files, page tables, sockets."""
    charged_bytes: int | None
    """All memory charged to its cgroup."""


_TICKS = 5


def _ticks(page: bytes) -> int:
    for line in page.splitlines():
        if line.startswith(b"cgwatch_sample_duration_seconds_count "):
            return int(float(line.split()[1]))
    return 0


def memory(folder: Path, tree: Subtree | None, docker: str | None) -> Memory:
    """Measure a new agent after five ticks, and a scrape of each kind."""
    places = tree.make_one("agent-with-docker" if docker else "agent") if tree else []
    own = next((place for place in places if (place / "memory.kmem.usage_in_bytes").exists()), None)
    with Agent(folder, interval="1s", docker=docker, join=own) as agent:
        agent.wait_for_page()
        agent.scrape()
        if docker:
            agent.wait_for(lambda page: b'cgwatch_runtime_up{runtime="docker"} 1.0' in page)
        agent.wait_for(lambda page: _ticks(page) >= _TICKS)
        agent.scrape()
        resident, proportional = agent.memory()
        return Memory(
            resident,
            proportional,
            int((own / "memory.kmem.usage_in_bytes").read_text()) if own else None,
            int((own / "memory.usage_in_bytes").read_text()) if own else None,
        )


def start_seconds(folder: Path, times: int) -> tuple[float, float]:
    """Return the median and the least time from a process's start to its first whole page."""
    took = []
    for number in range(times + 1):
        with Agent(folder, interval="5s") as agent:
            seconds = agent.wait_for_page()
        if number:  # the first one compiles
            took.append(seconds)
    return statistics.median(took), min(took)


def cpu_ratio(folder: Path, seconds: float, work: Callable[[], object]) -> float:
    """Return the share of one core that an agent takes at 5 s with a scrape every 15 s.

    ``work`` is called every 5 seconds: containers that do something.
    """
    with Agent(folder, interval="5s") as agent:
        agent.wait_for_page()
        agent.scrape()
        start = time.monotonic()
        spent = agent.cpu_seconds()
        step = 0
        while (now := time.monotonic()) < start + seconds:
            if now >= start + 5 * step:
                step += 1
                work()
                if step % 3 == 0:
                    agent.scrape()
            time.sleep(max(0.0, min(start + 5 * step, start + seconds) - time.monotonic()))
        return (agent.cpu_seconds() - spent) / (time.monotonic() - start)
