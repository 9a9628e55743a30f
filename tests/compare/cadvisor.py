"""A cAdvisor binary as a process of ours, on the loopback, with a Docker daemon of our own."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_NOT_THERE = "/nonexistent.sock"
# It clears the reference bits of pages, and needs special hardware.
_NEVER = "referenced_memory,resctrl"


class CadvisorError(Exception):
    """cAdvisor did not start, or did not answer; the message ends with its log."""


class Cadvisor:
    """A running cAdvisor, as a context manager; it samples each cgroup every second or two (its jitter)."""

    def __init__(
        self, binary: Path, folder: Path, docker_url: str, *, interval: str, everything: bool
    ) -> None:
        """``everything`` enables the groups that are off by default, too."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._log = folder / "cadvisor.log"
        self._command = [
            str(binary),
            *("-logtostderr", "-listen_ip=127.0.0.1", f"-port={self._port}"),
            # An interval that grows while nothing changes would leave nothing to compare.
            *(f"-housekeeping_interval={interval}", "-allow_dynamic_housekeeping=false"),
            *(f"-docker={docker_url}", f"-podman=unix://{_NOT_THERE}", f"-containerd={_NOT_THERE}"),
            # Tasks and loads come from the kernel's taskstats (v1) when it is told to ask.
            *([f"-disable_metrics={_NEVER}", "-enable_load_reader"] if everything else []),
        ]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def scrape(self) -> str:
        """Give its page in the text format."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/metrics", headers={"Accept": "text/plain;version=0.0.4"})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise CadvisorError(f"/metrics answered {answer.status}: {text}")
        return text

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.scrape()
            except OSError:
                time.sleep(0.1)
            else:
                return
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
        raise CadvisorError(f"{self._command[0]} does not answer after {_START_SECONDS} s\n{tail}")
