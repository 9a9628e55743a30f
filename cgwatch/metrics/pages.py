"""What the HTTP server shows of the agent: pages of the latest snapshot, rendered once each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from cgwatch import __version__
from cgwatch.metrics.compression import Compressed, compress
from cgwatch.metrics.labels import LabelCensus
from cgwatch.metrics.landing import About, Health
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.render import Census, Renderer
from cgwatch.model import Kind, Snapshot

T = TypeVar("T")

LOG = logging.getLogger(__name__)

_MISSED_INTERVALS = 3


class Noted:
    """Logs once what had no room on a page; metrics of the agent itself say how it goes on."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def note(self, census: Census, labels: LabelCensus) -> None:
        """Take note of a page."""
        self._log(
            "cgroups have no series: no room on the page",
            census.cgroups_left_out,
            "metrics.bounds.series and metrics.bounds.page",
        )
        self._log("labels of containers are not shown", labels.left_out, "metrics.bounds.labels")
        self._log("values of labels were cut", labels.cut_total, "metrics.bounds.label")
        self._log(
            "labels of containers are hidden by others of the same name",
            labels.collisions,
            "metrics.rename_labels",
        )

    def _log(self, what: str, number: int, see: str) -> None:
        if number and what not in self._logged:
            self._logged.add(what)
            LOG.warning(what, extra={"number": number, "see": see})


class _Rendered:
    """What clients were sent of the containers of one snapshot."""

    __slots__ = ("compressed", "plain")

    def __init__(self) -> None:
        self.plain: tuple[bytes, ...] | None = None
        self.compressed: Compressed | None = None


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
        self._noted = Noted()
        own.watch_page(lambda: (renderer.census, renderer.label_census))
        self._lock = threading.Lock()
        self._rendered: dict[Format, _Rendered] = {}
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

    def page(self, form: Format, names: frozenset[str]) -> tuple[bytes, ...]:
        """Return the whole exposition in pieces; ``names`` are the families wanted, empty for all."""
        own = self._own_page(form, names)
        # However many scrapes there are at once, one of them renders and the others find its page.
        with self._lock:
            rendered = self._rendered_for(form, names)
            if rendered.plain is None:
                rendered.plain = self._write(form, names, tuple)
            return (*rendered.plain, own)

    def compressed(self, form: Format, names: frozenset[str]) -> bytes:
        """Return the same, compressed by gzip."""
        own = self._own_page(form, names)
        with self._lock:
            rendered = self._rendered_for(form, names)
            if rendered.compressed is None:
                # Family by family: the page itself, which may be megabytes, is never there as a whole.
                rendered.compressed = (
                    self._write(form, names, compress) if rendered.plain is None else compress(rendered.plain)
                )
        return rendered.compressed.completed((own,))

    def _own_page(self, form: Format, names: frozenset[str]) -> bytes:
        # Before the containers: a tick in between must not make the page say that it is newer than they are.
        return self._own.page(form, names) + (b"# EOF\n" if form is Format.OPENMETRICS else b"")

    def _rendered_for(self, form: Format, names: frozenset[str]) -> _Rendered:
        """Return what there is of the latest snapshot; of some families alone nothing is kept."""
        if names:
            return _Rendered()
        if self._rendered_of is not self.snapshot:
            self._rendered_of, self._rendered = self.snapshot, {}
        return self._rendered.setdefault(form, _Rendered())

    def _write(self, form: Format, names: frozenset[str], take: Callable[[Iterable[bytes]], T]) -> T:
        snapshot = self._rendered_of if not names else self.snapshot
        if snapshot is None:
            return take(())
        written = self._renderer.write(snapshot, form, take, names)
        if not names:
            self._noted.note(self._renderer.census, self._renderer.label_census)
        return written

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
