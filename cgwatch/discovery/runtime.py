"""What a container runtime's watcher tells the core, and what the core may ask of it.

A watcher owns its threads. It never blocks the core, never raises into it, and puts up with a runtime that is
down, slow, stopped, restarted or started later: containers are sampled without it, and names come by and by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cgwatch.model import Description, Runtime


class Described(Struct, frozen=True):
    """What the runtime says of some containers now; each replaces what was said of it before."""

    runtime: Runtime
    descriptions: tuple[Description, ...]


class Forgotten(Struct, frozen=True):
    """The runtime has removed a container that was described; its id never comes back."""

    runtime: Runtime
    container_id: str


class Lifecycle(Struct, frozen=True):
    """Something happened to a container, in the order in which the runtime said so."""

    runtime: Runtime
    container_id: str
    action: str
    """Docker's word, without what follows a colon: ``create``, ``start``, ``restart``, ``stop``, ``kill``,
    ``die``, ``oom``, ``pause``, ``unpause``, ``rename``, ``update``, ``health_status``, ``destroy``."""
    time_seconds: float
    """Since the epoch, by the runtime's clock."""
    exit_code: int | None
    """Of a ``die``."""
    attributes: Mapping[str, str]
    """What the runtime adds, the container's labels among it; ``health_status`` holds the new health."""


class Availability(Struct, frozen=True):
    """The runtime's API began or ceased to answer; said once for each change."""

    runtime: Runtime
    available: bool
    detail: str
    """Why not, for a person; empty when it is available."""


Message: TypeAlias = Described | Forgotten | Lifecycle | Availability
Deliver: TypeAlias = Callable[[Message], None]
"""Takes one message into the core's inbox. It is called from the watcher's threads and must not block."""


class Observer(Protocol):
    """Learns of every call to a runtime's API; called from the watcher's threads."""

    def call(self, runtime: str, operation: str, seconds: float, error: str | None) -> None:
        """Take note of one call.

        ``operation`` and ``error`` are each one of a few words that fit a metric's label; ``error`` is
        ``None`` if the call succeeded.
        """


class RuntimeWatcher(Protocol):
    """One container runtime, watched."""

    def start(self) -> None:
        """Begin to watch; returns at once, whether the runtime is there or not."""

    def stop(self) -> None:
        """End every thread of the watcher, within a bounded time even if the runtime hangs."""

    def ask(self, container_id: str) -> None:
        """Want a description of an id that is in the cgroup tree and that nobody described.

        Never blocks and may be called as often as wanted: the watcher decides when the runtime is asked. An
        id that it does not know is no error, as it may be another runtime's.
        """
