"""What the HTTP server shows of the agent: pages of the latest snapshot, rendered once each."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from cgwatch import __version__
from cgwatch.metrics.landing import About, Health
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.render import Renderer
from cgwatch.model import Kind, Snapshot

_MISSED_INTERVALS = 3


class LatestPages:
    """Implements ``landing.Pages`` on the latest snapshot, which the core swaps in by one assignment."""

    def __init__(
        self,
        renderer: Renderer,
        own: OwnMetrics,
        *,
        node: str,
        interval_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._renderer = renderer
        self._own = own
        self._node = node
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._started_seconds = monotonic()
        self._lock = threading.Lock()
        self._rendered: dict[Format, bytes] = {}
        self._rendered_of: Snapshot | None = None
        self.snapshot: Snapshot | None = None
        self.previous: Snapshot | None = None
        self.runtimes: tuple[tuple[str, str], ...] = ()
        """Name of each runtime that is watched, and how it does."""

    def publish(self, snapshot: Snapshot) -> None:
        """Show ``snapshot`` from now on."""
        # In this order a reader in between sees two snapshots that differ.
        previous, self.snapshot = self.snapshot, snapshot
        self.previous = previous
        # Megabytes that nobody may ask for again; a scrape that is rendering now drops them itself.
        if self._lock.acquire(blocking=False):
            self._rendered_of, self._rendered = None, {}
            self._lock.release()

    def page(self, form: Format, names: frozenset[str]) -> bytes:
        """Return the whole exposition; ``names`` are the families wanted, empty for all."""
        # Our own first: a tick in between must not make the page say that it is newer than its containers.
        own = self._own.page(form, names)
        return self._containers(form, names) + own + (b"# EOF\n" if form is Format.OPENMETRICS else b"")

    def _containers(self, form: Format, names: frozenset[str]) -> bytes:
        # However many scrapes there are at once, one of them renders and the others find its page.
        with self._lock:
            snapshot = self.snapshot
            if snapshot is None:
                return b""
            if names:
                return self._render(snapshot, form, names)
            if self._rendered_of is not snapshot:
                self._rendered_of, self._rendered = snapshot, {}
            if form not in self._rendered:
                self._rendered[form] = self._render(snapshot, form)
            return self._rendered[form]

    def _render(self, snapshot: Snapshot, form: Format, names: frozenset[str] = frozenset()) -> bytes:
        # Family by family into one buffer: a page of megabytes would otherwise be in memory three times.
        page = io.BytesIO()
        for family in self._renderer.families(snapshot, form, names):
            page.write(family.encode())
        return page.getvalue()

    def health(self) -> Health:
        """Alive: the last tick is at most three intervals old. Ready: there is a snapshot to show."""
        snapshot = self.snapshot
        since = snapshot.monotonic_seconds if snapshot else self._started_seconds
        age_seconds = self._monotonic() - since
        what = "last tick" if snapshot else "no tick yet; started"
        return Health(
            alive=age_seconds <= _MISSED_INTERVALS * self._interval_seconds,
            ready=snapshot is not None,
            detail=f"{what} {age_seconds:.1f} s ago, interval {self._interval_seconds:g} s",
        )

    def about(self) -> About:
        """Return what the landing page says."""
        rows = [("Interval", f"{self._interval_seconds:g} s")]
        if self.snapshot is not None:
            kinds = [sample.container.owner.kind for sample in self.snapshot.samples]
            machine = self.snapshot.machine
            rows += [
                ("Cgroup layout", str(self.snapshot.layout)),
                ("Containers", str(kinds.count(Kind.CONTAINER))),
                ("Cgroups", str(len(kinds))),
                ("Last tick", f"{self.snapshot.duration_seconds * 1000:.1f} ms"),
                ("Kernel", machine.kernel_release if machine else ""),
                ("Operating system", machine.os_name if machine else ""),
            ]
        return About(version=__version__, node=self._node, rows=(*rows, *self.runtimes))
