"""What Docker says right now, in one request: for who asks once, and watches nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cgwatch.discovery.docker_answers import describe_listed
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Description

if TYPE_CHECKING:
    from docker import APIClient

T = TypeVar("T")


def describe_running(base_url: str, *, timeout_seconds: float) -> dict[str, Description]:
    """Return the running containers by id: name, image and labels; nothing where there is no such socket.

    Raises ``RuntimeUnavailableError`` when Docker does not answer, or not as documented.
    """
    if not _is_there(base_url):
        return {}
    listed = _asked(base_url, timeout_seconds, lambda client: client.containers())
    return {said.container_id: said for said in map(describe_listed, listed)}


def stored_config(base_url: str, container_id: str, *, timeout_seconds: float) -> Mapping[str, Any] | None:
    """Return the ``HostConfig`` of a container: what it is to run with; ``None`` where there is no socket.

    Raises ``RuntimeUnavailableError`` when Docker does not answer, or knows no such container.
    """
    if not _is_there(base_url):
        return None
    found = _asked(base_url, timeout_seconds, lambda client: client.inspect_container(container_id))
    config: Mapping[str, Any] = found.get("HostConfig") or {}
    return config


def _is_there(base_url: str) -> bool:
    path = base_url.removeprefix("unix://")
    return path == base_url or Path(path).exists()


def _asked(base_url: str, timeout_seconds: float, ask: Callable[[APIClient], T]) -> T:
    from docker import APIClient  # noqa: PLC0415 - 8 MiB, for those who have a Docker
    from docker.errors import DockerException  # noqa: PLC0415 - the same

    seconds = math.ceil(timeout_seconds)  # what docker's types take
    try:
        with closing(APIClient(base_url, version="auto", timeout=seconds)) as client:
            return ask(client)
    except (DockerException, OSError) as error:
        raise RuntimeUnavailableError(f"{base_url}: {error}") from error
