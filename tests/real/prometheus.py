"""A Prometheus and an Alertmanager of our own, on the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tests.real import leftovers

CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: cgwatch
    static_configs: [{{targets: ["{address}"]}}]
  - job_name: cadvisor
    metrics_path: /metrics/cadvisor
    static_configs: [{{targets: ["{address}"]}}]
"""


class Server:
    """A program that listens on an address of its own, as a context manager."""

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        """Start ``name`` with these options later; ``{address}`` in them becomes host and port."""
        self._log = folder / f"{name}.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._command = [name, *(option.format(address=self.address) for option in options)]

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Have it do nothing for a while."""
        pid = self._process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            assert leftovers.wait_until(lambda: set(leftovers.thread_states(pid)) == {"T"}, 10)
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def get(self, path: str, **parameters: str) -> Any:
        """Give what it answers, as JSON."""
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)

    def wait_until(self, ask: Callable[[], Any], what: str, deadline_seconds: float) -> Any:
        """Ask until there is an answer, as there is no way to be told; give it."""
        deadline = time.monotonic() + deadline_seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if found := ask():
                    return found
            except OSError:
                pass  # it does not listen yet, or does not answer yet (503)
            time.sleep(0.2)
        raise AssertionError(f"no answer to {what} after {deadline_seconds} s:\n{self.log}")


class Prometheus(Server):
    """One that scrapes one address; another ``prometheus.yml`` may be written before it starts."""

    def __init__(self, folder: Path, target: str) -> None:
        self.config = folder / "prometheus.yml"
        self.config.write_text(CONFIG.format(address=target))
        super().__init__(
            "prometheus",
            folder,
            f"--config.file={self.config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address={address}",
        )

    def api(self, path: str, **parameters: str) -> Any:
        return self.get(f"/api/v1/{path}", **parameters)["data"]

    def query(self, promql: str) -> dict[str, float]:
        """Give the value of each series by its name label."""
        found = self.api("query", query=promql)["result"]
        return {series["metric"].get("name", ""): float(series["value"][1]) for series in found}

    def wait_for(self, promql: str, deadline_seconds: float = 40) -> dict[str, float]:
        """Ask until there is an answer."""
        found: dict[str, float] = self.wait_until(lambda: self.query(promql), promql, deadline_seconds)
        return found


class Alertmanager(Server):
    """One that speaks to no other."""

    def __init__(self, folder: Path, config: Path) -> None:
        super().__init__(
            alertmanager(),
            folder,
            f"--config.file={config}",
            f"--storage.path={folder / 'alertmanager'}",
            "--web.listen-address={address}",
            "--cluster.listen-address=",
        )

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        """Give the alerts that it has, whether it tells of them or not."""
        found: list[dict[str, Any]] = self.get("/api/v2/alerts")
        return [alert for alert in found if labels.items() <= alert["labels"].items()]

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], **labels: str) -> dict[str, Any]:
        """Ask until it has one alert with these labels that is as it should be, and give that."""
        found: list[dict[str, Any]] = self.wait_until(
            lambda: [alert for alert in self.alerts(**labels) if condition(alert)], f"alerts {labels}", 60
        )
        (alert,) = found
        return alert


def alertmanager() -> str:
    """Give the program's name: Debian has another one than its makers."""
    return next(filter(shutil.which, ("prometheus-alertmanager", "alertmanager")), "alertmanager")


def monitoring_available() -> str | None:
    """Say why neither can be started here; None when both can."""
    commands = {"prometheus": "prometheus", alertmanager(): "prometheus-alertmanager"}
    missing = sorted(package for name, package in commands.items() if not shutil.which(name))
    return f"needs the Debian packages {', '.join(missing)}" if missing else None
