"""Which cgroups are on the page."""

from __future__ import annotations

from msgspec import Struct

from cgwatch.model import Container, Kind


class Selection(Struct, frozen=True):
    """All of them but those of mounts."""

    def takes(self, container: Container) -> bool:
        """Whether a cgroup's series are shown."""
        # systemd makes a cgroup for each mount; nothing runs in it.
        unit = container.owner.unit
        return not (container.owner.kind is Kind.UNIT and unit is not None and unit.endswith(".mount"))
