"""Checks of the container runtimes' sockets, where the names of containers come from."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey


def docker(host: Host, survey: Survey) -> Iterator[Finding]:
    """Whether Docker's API answers, asked as the agent asks it."""
    subject = "Docker"
    wanted = host.settings.discovery.docker
    if not wanted.enabled:
        yield ok(subject, "not asked: discovery.docker.enabled is false")
        return
    named = sum(sample.container.owner.runtime is Runtime.DOCKER for sample in survey.containers)
    try:
        answer = _ask_docker(wanted.socket, wanted.timeout_seconds)
    except _DockerError as problem:
        yield Finding(
            Level.WARNING if named or problem.is_there else Level.NOTE,
            subject,
            str(problem),
            (f"{counted(named, 'container')} of Docker: " if named else "for containers of Docker: ")
            + "no labels name, image and container_label_*, container_health_state is -1, and an OOM kill"
            " that only Docker can name counts for nobody",
            problem.advice,
        )
    else:
        yield ok(subject, f"{wanted.socket} answers: {answer}")


class _DockerError(RuntimeUnavailableError):
    def __init__(self, found: str, advice: str, *, is_there: bool = True) -> None:
        super().__init__(found)
        self.advice = advice
        self.is_there = is_there


def _ask_docker(base_url: str, timeout_seconds: float) -> str:
    """Return the daemon's versions; every wait is bounded by ``timeout_seconds``."""
    path = base_url.removeprefix("unix://")
    if path != base_url:
        _knock(path, timeout_seconds)
    from docker import APIClient  # noqa: PLC0415 - 8 MiB, for those who have a Docker
    from docker.errors import DockerException  # noqa: PLC0415 - as above
    from requests import RequestException  # noqa: PLC0415 - as above

    timeout: Any = timeout_seconds  # the stubs of docker know whole seconds only
    try:
        with closing(APIClient(base_url, version="auto", timeout=timeout)) as client:
            said = client.version(api_version=False)
            return f"version {said.get('Version', 'unknown')}, API {client.api_version}"
    except (DockerException, RequestException, ValueError) as error:
        if "timed out" in str(error).lower():
            raise _DockerError(
                f"{base_url} takes connections, and does not answer within {timeout_seconds:g} s",
                "does `docker version` hang too? restart the daemon, or raise discovery.docker.timeout",
            ) from error
        raise _DockerError(
            f"{base_url}: {error}", "see `docker version`, and discovery.docker.socket"
        ) from error


def _knock(path: str, timeout_seconds: float) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as channel:
        channel.settimeout(timeout_seconds)
        try:
            channel.connect(path)
        except FileNotFoundError as error:
            raise _DockerError(
                f"{path} is not there",
                f"start Docker; in a container: -v {path}:{path}; elsewhere: discovery.docker.socket; without"
                " Docker: discovery.docker.enabled: false",
                is_there=False,
            ) from error
        except PermissionError as error:
            raise _DockerError(
                f"{path}: permission denied", "run as root, or as a member of the socket's group (docker)"
            ) from error
        except ConnectionRefusedError as error:
            raise _DockerError(
                f"{path} is there, and nobody listens", "start Docker; the socket is a leftover"
            ) from error
        except OSError as error:
            raise _DockerError(f"{path}: {error}", "see discovery.docker.socket") from error
