"""A real Alertmanager of our own, on the loopback and in no cluster."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.notify.receiver import free_port
from tests.real.needs import require

_CONFIG = """\
route:
  receiver: test
  group_by: ["..."]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: test
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


class Alertmanager:
    """Sends what fires and what is resolved to ``url``."""

    def __init__(self, folder: Path, url: str) -> None:
        require(None if shutil.which("prometheus-alertmanager") else "needs Debian's prometheus-alertmanager")
        folder.mkdir(exist_ok=True)
        self._log = folder / "alertmanager.log"
        config = folder / "alertmanager.yml"
        config.write_text(_CONFIG.format(url=url))
        self.url = f"http://127.0.0.1:{free_port()}"
        self._command = [
            "prometheus-alertmanager",
            f"--config.file={config}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--cluster.listen-address=",
        ]

    def __enter__(self) -> Self:
        self._start()
        return self

    def restart(self) -> None:
        """Stop it and start it again: it keeps no alerts."""
        self._stop()
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_for(lambda: self._get("/-/ready") is not None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire."""
        found: list[dict[str, Any]] = json.loads(self._get("/api/v2/alerts") or "[]")
        return found

    def wait_for_alerts(self, number: int, name: str = "") -> list[dict[str, Any]]:
        """Wait until so many fire, of all or of one container."""

        def found() -> list[dict[str, Any]]:
            return [alert for alert in self.alerts() if name in ("", alert["labels"].get("name"))]

        self._wait_for(lambda: len(found()) == number)
        return found()

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - http
                text: str = answer.read().decode()
                return text
        except OSError:
            return None

    def _wait_for(self, condition: Callable[[], bool], deadline_seconds: float = 30) -> None:
        deadline = time.monotonic() + deadline_seconds
        while not condition():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, f"{self.alerts()}\n{self._log.read_text()}"
            time.sleep(0.05)
