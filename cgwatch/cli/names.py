"""Names for the verbs that sample by themselves: asked for once, where an agent would watch."""

from __future__ import annotations

import logging

from cgwatch.discovery.docker_once import describe_running
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Description
from cgwatch.settings import Docker

LOG = logging.getLogger(__name__)


def described_by_docker(docker: Docker) -> dict[str, Description]:
    """Ask Docker for what runs, by id; what is left without a name has its id."""
    if not docker.enabled:
        return {}
    try:
        return describe_running(docker.socket, timeout_seconds=docker.timeout_seconds)
    except RuntimeUnavailableError as error:
        LOG.warning(
            "Docker does not tell names; containers have their ids",
            extra={"socket": docker.socket, "problem": str(error)},
        )
        return {}
