"""Limits of Docker's containers, by ``POST /containers/ID/update``: the daemon stores them and tells runc.

The API's traps, each seen with Docker 20.10 (moby ``daemon/update.go``, ``daemon/daemon_unix.go``):

- 0 means "keep", so nothing that can be 0 can be set to 0.
- ``Memory`` of -1 is refused; "no limit" is the kernel's own largest number.
- ``Memory`` alone is refused when it is above the stored ``MemorySwap``, which may be 0 or -1: both go
  together, always. A ``MemorySwap`` of -1 is stored, and not told to a running container.
- A container that was made with ``--cpus`` has ``NanoCpus``, which excludes ``CpuQuota`` and cannot be taken
  away.

The docker library's own ``update_container`` has no ``NanoCpus``, so the endpoint is called as such.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from cgwatch.cgroup.knobs import Value, knob_of
from cgwatch.change import Key, Target
from cgwatch.errors import OwnerRefusedError, RuntimeUnavailableError

if TYPE_CHECKING:
    from docker import APIClient

UNLIMITED_BYTES = 9223372036854771712
"""2^63 - 1, rounded down to a page of 4 KiB: what the kernel itself takes for no limit."""
_NANO = 1_000_000_000
_NANO_PERIOD = 100_000
"""The period that Docker takes with ``NanoCpus``, in microseconds."""
_BLKIO_WEIGHTS = range(10, 1001)


class Update(Struct, frozen=True):
    """The body of a call, and the limits that it cannot set, with the reasons."""

    fields: Mapping[str, int | str]
    impossible: Mapping[Key, str]


def update_of(wanted: Mapping[Key, Value], now: Mapping[Key, Value], stored: Mapping[str, Any]) -> Update:
    """Say in Docker's words what is ``wanted``.

    ``now``: all limits of the cgroup. ``stored``: ``HostConfig`` of the container.
    """
    fields: dict[str, int | str] = {}
    impossible: dict[Key, str] = {}
    after: dict[Key, Value] = {**now, **wanted}
    if "memory.max" in wanted or "memory.swap.max" in wanted:
        after.setdefault("memory.swap.max", _stored_swap(stored))
        _memory(wanted, now, after, fields, impossible)
    if "cpu.max" in wanted or "cpu.max.period" in wanted:
        _cpu(wanted, after, stored, fields, impossible)
    for key, value in wanted.items():
        said = knob_of(key).docker
        if key in ("memory.max", "memory.swap.max", "cpu.max", "cpu.max.period") or said is None:
            continue
        if said.field == "BlkioWeight" and value not in _BLKIO_WEIGHTS:
            impossible[key] = "Docker takes weights from 10 to 1000"
        elif value in (0, ""):
            impossible[key] = f"Docker takes {value!r} for {said.field} as a wish to keep it as it is"
        elif value == math.inf and said.field != "PidsLimit":
            impossible[key] = f"Docker cannot take {said.field} away"
        else:
            fields[said.field] = -1 if value == math.inf else value  # type: ignore[assignment]  # no other float
    return Update(fields, impossible)


def _memory(
    wanted: Mapping[Key, Value],
    now: Mapping[Key, Value],
    after: Mapping[Key, Value],
    fields: dict[str, int | str],
    impossible: dict[Key, str],
) -> None:
    memory, swap = after.get("memory.max"), after.get("memory.swap.max")
    if not isinstance(memory, int | float):
        impossible |= dict.fromkeys(
            wanted, "it is not known what memory.max is, and Docker wants both at once"
        )
        return
    if memory == math.inf and swap not in (None, math.inf):
        if "memory.swap.max" in wanted:
            impossible["memory.swap.max"] = "Docker takes memory and swap together, and memory has no limit"
        if "memory.max" in wanted:
            impossible["memory.max"] = "Docker takes memory and swap together, and swap has a limit"
        return
    fields["Memory"] = UNLIMITED_BYTES if memory == math.inf else int(memory)
    if isinstance(swap, int) and memory != math.inf:
        fields["MemorySwap"] = int(memory) + swap
    elif "memory.swap.max" in wanted and now.get("memory.swap.max") != math.inf:
        fields["MemorySwap"] = UNLIMITED_BYTES  # -1 would not reach the running container
    else:
        fields["MemorySwap"] = -1


def _stored_swap(stored: Mapping[str, Any]) -> Value:
    """Return what swap alone may be, for a container that has no cgroup to look at."""
    memory, both = stored.get("Memory") or 0, stored.get("MemorySwap") or 0
    return both - memory if memory > 0 and both >= memory else math.inf


def _cpu(
    wanted: Mapping[Key, Value],
    after: Mapping[Key, Value],
    stored: Mapping[str, Any],
    fields: dict[str, int | str],
    impossible: dict[Key, str],
) -> None:
    quota, period = after.get("cpu.max", math.inf), after.get("cpu.max.period", _NANO_PERIOD)
    touched = [key for key in ("cpu.max", "cpu.max.period") if key in wanted]
    if not isinstance(quota, int | float) or not isinstance(period, int):
        impossible |= dict.fromkeys(touched, "it is not known what the other half of cpu.max is")
    elif not stored.get("NanoCpus"):
        fields["CpuPeriod"] = period
        fields["CpuQuota"] = -1 if quota == math.inf else int(quota)
    elif quota == math.inf:
        impossible |= dict.fromkeys(
            touched, "the container was made with --cpus, which Docker cannot take away"
        )
    elif period != _NANO_PERIOD:
        impossible |= dict.fromkeys(
            touched, f"the container was made with --cpus, whose period is always {_NANO_PERIOD} us"
        )
    else:
        fields["NanoCpus"] = round(int(quota) * _NANO / period)


class DockerWriter:
    """Speaks to one daemon; ``base_url`` is as in ``DOCKER_HOST``. Each call takes ``timeout_seconds``."""

    def __init__(self, base_url: str, *, timeout_seconds: float) -> None:
        self._base_url = base_url
        self._timeout_seconds = timeout_seconds

    def impossible(
        self, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> Mapping[Key, str]:
        """Return the limits that it cannot set. Raises as ``write``."""
        with closing(self._client()) as client:
            return self._update(client, target, wanted, now).impossible

    def write(
        self, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> tuple[str, tuple[str, ...]]:
        """Set limits; return what was sent, and what Docker warns of.

        Raises ``OwnerRefusedError`` with the daemon's words, ``RuntimeUnavailableError`` when it does not
        answer in time: then nobody knows whether it was done.
        """
        with closing(self._client()) as client:
            update = self._update(client, target, wanted, now)
            if update.impossible:
                raise OwnerRefusedError("; ".join(f"{key}: {why}" for key, why in update.impossible.items()))
            answer = _call(target, lambda: _post(client, target.owner.container_id or "", update.fields))
        sent = " ".join(f"{name}={value}" for name, value in update.fields.items())
        return sent, tuple(f"Docker: {text}" for text in answer.get("Warnings") or ())

    def _update(
        self, client: APIClient, target: Target, wanted: Mapping[Key, Value], now: Mapping[Key, Value]
    ) -> Update:
        container = target.owner.container_id or ""
        stored = _call(target, lambda: client.inspect_container(container))
        return update_of(wanted, now, stored.get("HostConfig") or {})

    def _client(self) -> APIClient:
        if self._base_url.startswith("unix://"):
            _knock(self._base_url.removeprefix("unix://"), self._timeout_seconds)
        import docker  # noqa: PLC0415 - 8 MiB, for those who have Docker

        try:
            # A timeout may be a fraction, whatever the stubs say.
            return docker.APIClient(self._base_url, version="auto", timeout=self._timeout_seconds)  # type: ignore[arg-type]
        except (docker.errors.DockerException, OSError) as error:
            raise RuntimeUnavailableError(f"{self._base_url}: Docker does not answer: {error}") from error


def _knock(path: str, timeout_seconds: float) -> None:
    """Find out whether anybody listens, before docker-py is loaded, which would leak a socket."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(timeout_seconds)
        try:
            channel.connect(path)
        except OSError as error:
            raise RuntimeUnavailableError(f"{path}: Docker does not answer: {error}") from error


def _post(client: Any, container: str, fields: Mapping[str, int | str]) -> Any:  # noqa: ANN401 - below its stubs
    url = client._url("/containers/{0}/update", container)  # noqa: SLF001 - its own update lacks NanoCpus
    return client._result(client._post_json(url, data=dict(fields)), True)  # noqa: SLF001 - as above


def _call(target: Target, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - JSON
    import docker  # noqa: PLC0415 - loaded already, there is a client
    import requests  # noqa: PLC0415 - the same

    name = target.name or target.owner.container_id
    try:
        return work()
    except docker.errors.APIError as error:
        raise OwnerRefusedError(f"Docker, container {name}: {error.explanation or error}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise RuntimeUnavailableError(f"container {name}: Docker does not answer: {error}") from error
