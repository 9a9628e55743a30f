"""A moment to ask a Prometheus about, after which its answers for that moment stay the same."""

from __future__ import annotations

from collections.abc import Iterable

from tests.real.dockerd import RealKernelError
from tests.real.prometheus import Prometheus

_LATEST_SECONDS = 3.0
"""A scrape of up to 2 s is written under the moment at which it began, and so is that it failed."""
_TRIES = 20


def moment_with(prometheus: Prometheus, conditions: Iterable[str], deadline_seconds: float) -> float:
    """Wait for a moment at which all of these give an answer; a busy machine misses a scrape now and then."""
    ready = " and on () ".join(f"({condition})" for condition in conditions)
    for _ in range(_TRIES):
        moment = prometheus.wait_for(f"vector(time()) and on () ({ready})", deadline_seconds)[""]
        prometheus.wait_for(f"vector(time()) > {moment + _LATEST_SECONDS}")
        if prometheus.api("query", query=ready, time=str(moment))["result"]:
            return moment
    raise RealKernelError(f"{_TRIES} times what held at first did not hold in the end: {ready}")
