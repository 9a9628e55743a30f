"""What runs under Docker right now, in one request: for a command that ends, and watches nothing."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path

from cgwatch.discovery.docker_answers import describe_listed
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Description


def describe_running(base_url: str, *, timeout_seconds: float) -> dict[str, Description]:
    """Return the running containers by id: name, image and labels; nothing where there is no such socket.

    Raises ``RuntimeUnavailableError`` when Docker does not answer, or not as documented.
    """
    path = base_url.removeprefix("unix://")
    if path != base_url and not Path(path).exists():
        return {}
    from docker import APIClient  # noqa: PLC0415 - 8 MiB, for those who have a Docker
    from docker.errors import DockerException  # noqa: PLC0415 - the same

    seconds = math.ceil(timeout_seconds)  # what docker's types take
    try:
        with closing(APIClient(base_url, version="auto", timeout=seconds)) as client:
            return {said.container_id: said for said in map(describe_listed, client.containers())}
    except (DockerException, OSError) as error:
        raise RuntimeUnavailableError(f"{base_url}: {error}") from error
