"""Looks at the limits of a cgroup: the kernel's files, the record, and what Docker has stored."""

from __future__ import annotations

from collections.abc import Mapping

from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.knob import Value
from cgwatch.cgroup.limit_files import inode_of, read_limits, versions
from cgwatch.change import Key, Target
from cgwatch.discovery.docker_once import stored_config
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.limits.docker_view import stored_limits
from cgwatch.limits.record import Identity, Records
from cgwatch.limits.view import Known, View, view_of
from cgwatch.model import Runtime
from cgwatch.settings import Docker


class Viewer:
    """Safe for any thread. ``records``: ``None`` where there is no database, or it may not be read."""

    def __init__(
        self, hierarchies: Hierarchies, records: Records | None, docker: Docker, boot_id: str
    ) -> None:
        self._hierarchies = hierarchies
        self._records = records
        self._docker = docker
        self._boot_id = boot_id

    def view(self, target: Target) -> View:
        """Return all limits of a cgroup. Raises ``KernelFileError`` when it is gone, or ``StorageError``."""
        found = read_limits(self._hierarchies, target.path)
        notes = [str(failure) for failure in found.failures]
        target = Target(target.path, inode_of(self._hierarchies, target.path), target.owner, target.name)
        runtime: Mapping[Key, Value] = {}
        try:
            runtime = self._stored(target)
        except RuntimeUnavailableError as error:
            notes.append(f"Docker does not say what it has stored: {error}")
        identity = Identity(self._boot_id, target.path, target.inode)
        records = self._records
        known = Known(
            versions(self._hierarchies),
            runtime=runtime,
            baselines=records.baselines(identity) if records else {},
            overrides=[each for whose, each in records.overrides() if whose == identity] if records else (),
            notes=tuple(notes),
        )
        return view_of(target, found.values, known)

    def _stored(self, target: Target) -> dict[Key, Value]:
        owner, docker = target.owner, self._docker
        if owner.runtime is not Runtime.DOCKER or owner.container_id is None or not docker.enabled:
            return {}
        config = stored_config(docker.socket, owner.container_id, timeout_seconds=docker.timeout_seconds)
        return {} if config is None else stored_limits(config, versions(self._hierarchies))
