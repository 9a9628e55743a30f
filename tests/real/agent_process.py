"""The agent as its users run it: a process of its own, started, scraped and stopped from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from prometheus_client.openmetrics.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
STOP_SECONDS = 5.0
"""How long the agent may take to end in good order."""
_IDENTITY = re.compile(r"id|name|image|container_label_.*")

Labels = frozenset[tuple[str, str]]
Series = tuple[str, Labels]
"""A sample's name and its labels, without those that say whose it is."""


class AgentError(Exception):
    """The agent did not do what every test takes for granted; the message ends with its log."""


class Page:
    """One scrape, as prometheus_client's strict OpenMetrics parser understands it."""

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]  # as the library is
            for sample in family.samples:
                self.types[sample.name] = family.type
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def find(self, name: str, /, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Give labels and value of each sample called ``name`` that has these labels."""
        found = self._samples.get(name, [])
        return [(had, value) for had, value in found if labels.items() <= had.items()]

    def value(self, name: str, /, **labels: str) -> float:
        """Give the value of the one sample that has these labels."""
        found = self.find(name, **labels)
        assert len(found) == 1, f"{len(found)} samples of {name} with {labels}, not one: {found}"
        return found[0][1]

    def of(self, cgroup: str) -> dict[Series, float]:
        """Give every series of one container."""
        series: dict[Series, float] = {}
        for name, samples in self._samples.items():
            for labels, value in samples:
                if labels.get("id") == cgroup:
                    key = name, frozenset(item for item in labels.items() if not _IDENTITY.fullmatch(item[0]))
                    assert key not in series, f"twice on one page: {key}"
                    series[key] = value
        return series

    def identities(self, cgroup: str) -> set[Labels]:
        """Give the labels that say whose a series is, as they stand at all series of one container."""
        return {
            frozenset(item for item in labels.items() if item[1] and _IDENTITY.fullmatch(item[0]))
            for samples in self._samples.values()
            for labels, _ in samples
            if labels.get("id") == cgroup
        }

    def shows(self, cgroup: str) -> bool:
        """Tell whether any series is of this container."""
        return bool(self.find("container_last_seen", id=cgroup))

    def name_of(self, cgroup: str) -> str:
        """Give the container's name; empty while nobody has named it."""
        found = self.find("container_last_seen", id=cgroup)
        return found[0][0].get("name", "") if found else ""

    @property
    def sampled_seconds(self) -> float:
        """When the sample was taken: the containers' series are of this moment, or of a later one."""
        return self.value("cgwatch_last_sample_timestamp_seconds")


class AgentProcess:
    """``cgwatch run`` with a state directory and a port of its own, as a context manager.

    Where the block ends the agent gets SIGTERM, and it is an error if it does not exit with status 0.
    """

    def __init__(
        self,
        docker_url: str,
        *,
        interval: str = "200ms",
        environment: Mapping[str, str] | None = None,
        state_dir: str | None = None,
    ) -> None:
        """``state_dir``: one that outlives the agent."""
        self._outlives = state_dir is not None
        self._directory = state_dir or tempfile.mkdtemp(prefix="cgwtest-agent-")
        self._command = [
            *(sys.executable, "-m", "cgwatch", "run", "--listen=127.0.0.1:0"),
            *(f"--interval={interval}", f"--state-dir={self._directory}"),
        ]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CGWATCH_")}
        self._environment = {
            **inherited,
            "CGWATCH_DISCOVERY_DOCKER_SOCKET": docker_url,
            "CGWATCH_DISCOVERY_DOCKER_TIMEOUT": "1s",
            "CGWATCH_LIMITS_LOCK": f"{self._directory}/limits.lock",
            **(environment or {}),
        }
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self.url = self.wait_for_log(r"\burl=(http://\S+)")[1]
        except BaseException:
            self._end(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = self.stop() if self._process else 0
        if status and kind is None:
            raise AgentError(f"the agent ended with status {status}\n{self.log}")

    @property
    def pid(self) -> int:
        """The agent's process id."""
        assert self._process, "the agent does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        with self._said:
            return "".join(self._lines)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""
        parts = urllib.parse.urlsplit(self.url)
        assert parts.hostname, self.url
        assert parts.port, self.url
        return parts.hostname, parts.port

    def wait_for_log(self, pattern: str, deadline_seconds: float = 30) -> re.Match[str]:
        """Wait for a line of the log."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, "".join(self._lines))

        with self._said:
            match = self._said.wait_for(found, deadline_seconds)
        if not match:
            raise AgentError(f"no {pattern!r} in {deadline_seconds} s in the agent's log:\n{self.log}")
        return match

    def get(self, path: str = "/metrics", accept: str = OPENMETRICS) -> str:
        """Fetch one page as text."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        assert response.status == http.HTTPStatus.OK, f"{path}: {response.status} {text}"
        return text

    def page(self) -> Page:
        """Scrape once."""
        return Page(self.get())

    def pages(self, deadline_seconds: float = 30) -> Iterator[Page]:
        """Scrape again and again; AgentError when the deadline has passed and the caller wants more."""
        deadline = time.monotonic() + deadline_seconds
        while time.monotonic() < deadline:
            yield self.page()
            time.sleep(0.02)
        raise AgentError(f"what was awaited is not on the page after {deadline_seconds} s\n{self.log}")

    def page_after(self, moment_seconds: float) -> Page:
        """Give the first page whose sample began after this moment (``time.time()``)."""
        return self.wait_for(lambda page: page.sampled_seconds > moment_seconds)

    def wait_for(self, condition: Callable[[Page], bool], deadline_seconds: float = 30) -> Page:
        """Scrape until a page fulfils the condition."""
        return next(page for page in self.pages(deadline_seconds) if condition(page))

    def stop(self) -> int:
        """Send SIGTERM and give the exit status; AgentError when it takes longer than ``STOP_SECONDS``."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL: the agent has no time for anything."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process, "the agent does not run"
        try:
            process.send_signal(number)
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AgentError(
                f"the agent did not end within {STOP_SECONDS} s of {number.name}\n{self.log}"
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if self._reader:
                self._reader.join()
            assert process.stderr
            process.stderr.close()
            if not self._outlives:
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(self._directory)

    def _read_log(self) -> None:
        assert self._process
        assert self._process.stderr
        for line in self._process.stderr:
            with self._said:
                self._lines.append(line)
                self._said.notify_all()
