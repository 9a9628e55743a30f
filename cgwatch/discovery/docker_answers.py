"""What Docker's API answers, read into our types. Pure; whatever is not as Docker documents it says where."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Struct

from cgwatch.discovery.runtime import Lifecycle
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.model import Description, Runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")
ACTIONS: Final = frozenset(
    {
        "create",
        "start",
        "restart",
        "stop",
        "kill",
        "die",
        "oom",
        "pause",
        "unpause",
        "rename",
        "update",
        "health_status",
        "destroy",
    }
)
"""The events that change what a description says. The others (``exec_*`` of every health check, ``attach``,
``copy``, ``top``, ...) are many and say nothing of the container."""

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Health(Struct, frozen=True, rename="pascal"):
    status: str | None = None


class _State(Struct, frozen=True, rename="pascal"):
    status: str | None = None
    running: bool | None = None
    restarting: bool | None = None
    oom_killed: bool | None = msgspec.field(default=None, name="OOMKilled")
    pid: int | None = None
    exit_code: int | None = None
    started_at: str | None = None
    finished_at: str | None = None
    health: _Health | None = None


class _Config(Struct, frozen=True, rename="pascal"):
    image: str | None = None
    labels: dict[str, str] | None = None


class _HostConfig(Struct, frozen=True, rename="pascal"):
    network_mode: str | None = None
    cgroup_parent: str | None = None
    cpu_shares: int | None = None


class _Inspect(Struct, frozen=True, rename="pascal"):
    """The fields of ``GET /containers/<id>/json`` that are used. Podman and older daemons leave some out."""

    id: _Id
    name: str | None = None
    created: str | None = None
    restart_count: int | None = None
    state: _State | None = None
    config: _Config | None = None
    host_config: _HostConfig | None = None


class _Listed(Struct, frozen=True, rename="pascal"):
    """The fields of one element of ``GET /containers/json`` that are used."""

    id: _Id
    names: tuple[str, ...] | None = None
    image: str | None = None
    labels: dict[str, str] | None = None
    state: str | None = None
    created: int | None = None


class _Info(Struct, frozen=True, rename="pascal"):
    """The fields of ``GET /info`` that are used."""

    cgroup_driver: str | None = None


class _Identified(Struct, frozen=True, rename="pascal"):
    """The same, where nothing else matters."""

    id: _Id


class _Actor(Struct, frozen=True):
    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] | None = msgspec.field(default=None, name="Attributes")


class _Event(Struct, frozen=True):
    """One line of ``GET /events``, as since API 1.22."""

    action: str = msgspec.field(name="Action")
    actor: _Actor = msgspec.field(name="Actor")
    time_nanoseconds: _Nanoseconds = msgspec.field(name="timeNano")


_EVENT: Final = msgspec.json.Decoder(_Event)


def describe(inspect: Mapping[str, Any], cgroup_driver: str | None = None) -> Description:
    """Say what Docker's ``inspect`` says of a container; ``cgroup_driver`` is what its ``info`` says.

    Absent fields are ``None`` or empty; a field of another type than Docker documents raises
    ``RuntimeUnavailableError`` with its path.
    """
    try:
        answer = msgspec.convert(inspect, _Inspect)
        state = answer.state or _State()
        created, started, finished = map(_time, (answer.created, state.started_at, state.finished_at))
    except ValueError as error:  # a field by msgspec, or a date
        raise RuntimeUnavailableError(f"docker inspect: {error}; is this Docker's API?") from error
    config, host_config = answer.config or _Config(), answer.host_config or _HostConfig()
    # dockerd sets ExitCode to 0 when a container starts, and leaves it so while it was never started.
    in_between = not state.running or state.restarting
    ended = in_between and (finished is not None or state.exit_code)
    return Description(
        runtime=Runtime.DOCKER,
        container_id=answer.id,
        name=(answer.name or "").removeprefix("/"),
        image=config.image or "",
        labels=config.labels or {},
        state=state.status or "",
        created_seconds=created,
        started_seconds=started,
        finished_seconds=finished,
        exit_code=state.exit_code if ended else None,
        oom_killed=bool(state.oom_killed),
        health=None
        if state.health is None or state.health.status in {None, "", "none"}
        else state.health.status,
        restart_count=answer.restart_count,
        pid=state.pid or None,
        network_mode=host_config.network_mode or None,
        cgroup_path=cgroup_path(answer.id, host_config.cgroup_parent or "", cgroup_driver),
        cpu_shares=host_config.cpu_shares or None,
    )


def cgroup_path(container_id: str, parent: str, driver: str | None) -> str | None:
    """Return where Docker makes a container's cgroup; ``None`` with a driver that is not known.

    ``parent`` is what the container was created with, empty for the daemon's default. What no answer of the
    API tells is a default that the daemon was started with (``--cgroup-parent``).
    """
    if driver == "cgroupfs":
        return f"/{parent.strip('/') or 'docker'}/{container_id}"
    if driver != "systemd":
        return None
    # systemd.slice(5): a-b.slice lies in a.slice; -.slice is the root.
    words = (parent.strip("/") or "system.slice").removesuffix(".slice").strip("-").split("-")
    slices = ["-".join(words[:number]) for number in range(1, len(words) + 1) if words[0]]
    return "".join(f"/{name}.slice" for name in slices) + f"/docker-{container_id}.scope"


def cgroup_driver(info: object) -> str | None:
    """Return who makes Docker's cgroups by its ``info``: ``cgroupfs``, ``systemd`` or ``none``.

    Raises ``RuntimeUnavailableError`` when the field is not as documented.
    """
    try:
        return msgspec.convert(info, _Info).cgroup_driver
    except msgspec.ValidationError as error:
        raise RuntimeUnavailableError(f"docker info: {error}; is this Docker's API?") from error


def _time(text: str | None) -> float | None:
    """Read a date of the API, RFC 3339 with up to nine digits of a second; Go's zero date says "never"."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    if moment.year == 1:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def describe_listed(container: object) -> Description:
    """Say what Docker's list says of a container: less than ``inspect``, for all of them in one answer.

    Raises ``RuntimeUnavailableError`` with the path of a field that is not as documented.
    """
    try:
        listed = msgspec.convert(container, _Listed)
    except msgspec.ValidationError as error:
        raise RuntimeUnavailableError(f"docker list: {error}; is this Docker's API?") from error
    # The other names are links: /other-container/alias.
    name = next((name for name in listed.names or () if name.count("/") == 1), "")
    return Description(
        runtime=Runtime.DOCKER,
        container_id=listed.id,
        name=name.removeprefix("/"),
        image=listed.image or "",
        labels=listed.labels or {},
        state=listed.state or "",
        created_seconds=listed.created,
    )


def listed_id(container: object) -> str | None:
    """Give the id of one element of the list of containers, or ``None`` if it has none."""
    try:
        return msgspec.convert(container, _Identified).id
    except msgspec.ValidationError:
        return None


def lifecycle(line: bytes) -> Lifecycle | None:
    """Read one event; ``None`` if it says nothing of a container's life.

    Raises ``RuntimeUnavailableError`` if it is no event of Docker's.
    """
    try:
        event = _EVENT.decode(line)
    except msgspec.DecodeError as error:
        raise RuntimeUnavailableError(f"docker events: {error}; is this Docker's API?") from error
    action, _, more = event.action.partition(": ")
    if action not in ACTIONS:
        return None
    if not CONTAINER_ID.fullmatch(event.actor.id):
        raise RuntimeUnavailableError(
            f"docker events: {action} of {event.actor.id!r}, which is no container's id"
        )
    attributes = event.actor.attributes or {}
    code = attributes.get("exitCode", "")
    return Lifecycle(
        runtime=Runtime.DOCKER,
        container_id=event.actor.id,
        action=action,
        time_seconds=event.time_nanoseconds / 1e9,
        exit_code=int(code) if re.fullmatch(r"-?[0-9]{1,10}", code) else None,
        attributes={**attributes, action: more} if more else attributes,
    )
