"""Looks at the limits of a cgroup: the kernel's files, the record, and what Docker has stored."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.cgroup.knob import Value
from cgwatch.change import Key, Target
from cgwatch.discovery.docker_once import stored_config
from cgwatch.errors import RuntimeUnavailableError
from cgwatch.limits.docker_view import stored_limits
from cgwatch.limits.effective import effective
from cgwatch.limits.record import Identity, Records
from cgwatch.limits.survey import read_tree
from cgwatch.limits.view import Known, View, view_of
from cgwatch.model import Runtime
from cgwatch.settings import Settings


class Viewer:
    """Safe for any thread. ``records``: ``None`` where there is no database, or it may not be read."""

    def __init__(
        self, hierarchies: Hierarchies, records: Records | None, settings: Settings, boot_id: str
    ) -> None:
        self._hierarchies = hierarchies
        self._records = records
        self._roots = settings.roots
        self._docker = settings.discovery.docker
        self._boot_id = boot_id

    def view(self, target: Target) -> View:
        """Return all limits of a cgroup. Raises ``KernelFileError`` when it is gone, or ``StorageError``."""
        path, roots, records = target.path, self._roots, self._records
        tree = read_tree(self._hierarchies, path, proc_root=roots.proc, sys_root=roots.sys)
        state = tree.cgroups[path]
        target = structs.replace(target, inode=state.inode)
        runtime: Mapping[Key, Value] = {}
        notes: tuple[str, ...] = ()
        try:
            runtime = self._stored(target, tree.versions)
        except RuntimeUnavailableError as error:
            notes = (f"Docker does not say what it has stored: {error}",)
        identity = Identity(self._boot_id, path, target.inode)
        known = Known(
            tree.versions,
            {key: effective(tree, path, key) for key in state.values},
            runtime,
            records.baselines(identity) if records else {},
            [each for whose, each in records.overrides() if whose == identity] if records else (),
            notes,
        )
        return view_of(target, state.values, known)

    def _stored(self, target: Target, versions: Mapping[str, int]) -> dict[Key, Value]:
        owner, docker = target.owner, self._docker
        if owner.runtime is not Runtime.DOCKER or owner.container_id is None or not docker.enabled:
            return {}
        config = stored_config(docker.socket, owner.container_id, timeout_seconds=docker.timeout_seconds)
        return {} if config is None else stored_limits(config, versions)
