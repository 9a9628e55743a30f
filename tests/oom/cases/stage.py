"""Where a case is recorded: an agent, and cgroups or containers with programs in them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from msgspec import structs

from cgwatch.oom.evidence import decode
from cgwatch.storage import DATABASE, Storage, StoredKill
from tests.oom.cases.recorded import Recorded, Truth
from tests.oom.hogs import Hogs
from tests.real.agent_process import AgentProcess
from tests.real.dockerd import IMAGE, Dockerd

PROGRAM = str(Path(__file__).with_name("program.py"))
NO_DOCKER = "unix:///nonexistent/docker.sock"
_SETTLED_SECONDS = 360.0


class Stage:
    """An agent that samples every second, and a folder of cgroups."""

    def __init__(self, daemon: Dockerd | None = None) -> None:
        self.hogs = Hogs()
        self.daemon = daemon
        self._state = tempfile.TemporaryDirectory(prefix="cgwtest-case-")
        url = daemon.url if daemon else NO_DOCKER
        self._agent = AgentProcess(url, interval="1s", state_dir=self._state.name)
        self._programs: list[subprocess.Popen[bytes]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._state.cleanup)
            if self.daemon is not None:
                stack.enter_context(self.daemon)
            stack.callback(self.hogs.close)
            stack.enter_context(self._agent)
            stack.callback(self._end_programs)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def _end_programs(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()
        for place in self.hogs.directory(self.hogs.top).rglob("cgroup.procs"):
            for pid in place.read_text().split():
                os.kill(int(pid), signal.SIGKILL)  # what the programs have started

    def start(self, path: str, *steps: str) -> subprocess.Popen[bytes]:
        """Start a program in a cgroup; it has the same pid from the beginning."""
        command = ("sh", "-c", 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"', "sh")
        python = (sys.executable, "-S", PROGRAM, *steps)
        program = subprocess.Popen(
            [*command, str(self.hogs.directory(path)), *python], stdin=subprocess.DEVNULL
        )
        self._programs.append(program)
        return program

    def run(self, name: str, limit_bytes: int | None, work: str, *options: str) -> tuple[str, int]:
        """Start a container that runs this script, with no swap; give its cgroup's path and main process."""
        assert self.daemon is not None
        memory = (f"--memory={limit_bytes}", f"--memory-swap={limit_bytes}") if limit_bytes else ()
        identity = self.daemon.run("--name", name, *memory, *options, IMAGE, "sh", "-c", work)
        pid = self.daemon.docker("inspect", "--format={{.State.Pid}}", identity)
        return f"/docker/{identity}", int(pid)

    def ended(self, name: str) -> int:
        """Wait for the end of a container, and give its exit code."""
        assert self.daemon is not None
        return int(self.daemon.docker("wait", name, timeout_seconds=400))

    def see(self, path: str) -> None:
        """Wait until the agent has a cgroup in its samples."""
        self._agent.wait_for(lambda page: page.shows(path))

    def running(self, name: str) -> bool:
        """Tell whether a container runs."""
        assert self.daemon is not None
        return self.daemon.docker("inspect", "--format={{.State.Running}}", name) == "true"

    def kills(self, path: str) -> list[StoredKill]:
        """Give what is stored of a cgroup, the newest first: others on this node may be killed, too."""
        with Storage.open_reader(f"{self._state.name}/{DATABASE}") as storage:
            return storage.kills(container=path)

    def settled(self, path: str, count: int = 1) -> list[StoredKill]:
        """Wait until so many of its kills are stored whose records will not change, and give those."""
        deadline_seconds = time.monotonic() + _SETTLED_SECONDS
        while True:
            kills = self.kills(path)
            if sum(each.kill.count for each in kills if each.kill.settled) >= count:
                return kills
            assert time.monotonic() < deadline_seconds, f"{kills}\n{self._agent.log}"
            time.sleep(1)

    def record(self, path: str, how: str, truth: Truth) -> Recorded:
        """Make the case of the newest kill in a cgroup."""
        newest, *earlier = self.settled(path, truth.kills)
        return Recorded(
            how=how,
            kernel=os.uname().release,
            version=2 if self.hogs.is_v2 else 1,
            truth=structs.replace(
                truth, is_told=newest.kill.limit_path is not None or truth.limit_path is None
            ),
            kill=newest.kill,
            evidence=decode(newest.forensics),
            earlier=tuple(each.kill for each in earlier),
        )
