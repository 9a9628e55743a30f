"""cgwatch's metrics about itself, through prometheus_client."""

from __future__ import annotations

import os
import platform
from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from cgwatch import __version__
from cgwatch.cgroup.controllers import CONTROLLERS
from cgwatch.cgroup.files import Descriptors
from cgwatch.errors import KernelFileError
from cgwatch.metrics.labels import LabelCensus
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own_oom import OomMetrics, UserspaceMetrics
from cgwatch.metrics.own_process import ProcessMetrics
from cgwatch.metrics.render import Census
from cgwatch.model import Snapshot
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.userspace import UserspaceKills

_SAMPLE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_OOM_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_API_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# The names that may stand in the label ``file``: a cgroup or process may have any name, and is "directory".
_FILES = frozenset(
    file.name for controller in CONTROLLERS for file in (*controller.files_v1, *controller.files_v2)
) | {
    *("boot_id", "cgroups", "comm", "cpuinfo", "dev", "diskstats", "meminfo", "net", "osrelease", "stat"),
    *("cpu", "io", "irq", "memory", "mountinfo"),
    *("cgroup", "fd", "kmsg", "limits", "netstat", "schedstat", "snmp", "task", "tcp", "tcp6", "udp", "udp6"),
}


class OwnMetrics:
    """Counts what the agent does. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.registry = _Registry()
        self.registry.register(ProcessMetrics())
        build = Gauge(
            "cgwatch_build_info",
            "1, with the versions as labels.",
            ["version", "python"],
            registry=self.registry,
        )
        build.labels(__version__, platform.python_version()).set(1)
        self._sample_seconds = Histogram(
            "cgwatch_sample_duration_seconds",
            "Time to read every cgroup once.",
            buckets=_SAMPLE_BUCKETS,
            registry=self.registry,
        )
        self._missed = Counter(
            "cgwatch_missed_ticks_total",
            "Ticks that were skipped because the one before them, or the machine, took too long.",
            registry=self.registry,
        )
        self._failures = Counter(
            "cgwatch_read_failures_total",
            "Kernel files that could not be read or understood, for no good reason; the log names them.",
            ["file", "error"],
            registry=self.registry,
        )
        self._scrape_seconds = Histogram(
            "cgwatch_scrape_duration_seconds",
            "Time to answer a scrape, until its last byte was handed to the kernel.",
            ["handler", "format"],
            registry=self.registry,
        )
        self._scrapes = Counter(
            "cgwatch_scrapes_total", "Scrapes answered, by HTTP status.", ["status"], registry=self.registry
        )
        self._scrape_bytes = Counter(
            "cgwatch_scrape_response_bytes_total",
            "Bytes of pages sent, as compressed.",
            registry=self.registry,
        )
        self._api_seconds = Histogram(
            "cgwatch_runtime_api_duration_seconds",
            "Time of calls to a container runtime's API.",
            ["runtime", "operation"],
            buckets=_API_BUCKETS,
            registry=self.registry,
        )
        self._api_errors = Counter(
            "cgwatch_runtime_api_errors_total",
            "Calls to a container runtime's API that failed.",
            ["runtime", "operation", "error"],
            registry=self.registry,
        )
        self._runtime_up = Gauge(
            "cgwatch_runtime_up",
            "Whether a container runtime's API answers.",
            ["runtime"],
            registry=self.registry,
        )
        self._oom_found = Counter(
            "cgwatch_oom_found_total",
            "OOM kills by who told of them first; several that were found at once are one.",
            ["source"],
            registry=self.registry,
        )
        self._oom_source = Gauge(
            "cgwatch_oom_source_up",
            "Whether a source tells of OOM kills at once: without any, each tick finds them.",
            ["source"],
            registry=self.registry,
        )
        self._oom_seconds = Histogram(
            "cgwatch_oom_detection_seconds",
            "Time from an OOM kill, as the kernel's log has it, until it was counted.",
            buckets=_OOM_BUCKETS,
            registry=self.registry,
        )
        self._events = Counter(
            "cgwatch_container_events_total",
            "Events in the life of containers that a runtime told of.",
            ["runtime", "action"],
            registry=self.registry,
        )

    def watch(
        self, descriptors: Descriptors, latest: Callable[[], Snapshot | None], interval_seconds: float
    ) -> None:
        """Add what is read at each scrape: the descriptors in use and the latest snapshot."""
        self.registry.register(_Latest(descriptors, latest, interval_seconds))

    def watch_page(self, latest: Callable[[], tuple[Census, LabelCensus]]) -> None:
        """Add what is on the page of the containers, and what had no room there."""
        self.registry.register(_Page(latest))

    def watch_oom(self, keeper: Keeper) -> None:
        """Add what the ledger of OOM kills says."""
        self.registry.register(OomMetrics(keeper))

    def watch_userspace(self, kills: UserspaceKills) -> None:
        """Serve what daemons have killed from now on."""
        self.registry.register(UserspaceMetrics(kills))

    def oom_source_is(self, source: str, available: bool, /) -> None:  # noqa: FBT001 - a callback
        """A source of OOM kills began or ceased to tell."""
        self._oom_source.labels(source).set(available)

    def oom_counted(self, source: str, seconds: float | None, /) -> None:
        """One OOM kill was found, so long after it."""
        self._oom_found.labels(source).inc()
        if seconds is not None:
            self._oom_seconds.observe(max(seconds, 0))

    def sampled(self, seconds: float, missed: int) -> None:
        """One tick is done."""
        self._sample_seconds.observe(seconds)
        self._missed.inc(missed)

    def failed(self, error: KernelFileError) -> None:
        """One file could not be read or understood."""
        name = os.path.basename(error.path)
        self._failures.labels(name if name in _FILES else "directory", type(error).__name__).inc()

    def scraped(self, handler: str, exposition: str, seconds: float, size_bytes: int, status: int, /) -> None:
        """One scrape is over."""
        self._scrape_seconds.labels(handler, exposition).observe(seconds)
        self._scrapes.labels(str(status)).inc()
        self._scrape_bytes.inc(size_bytes)

    def call(self, runtime: str, operation: str, seconds: float, error: str | None) -> None:
        """One call to a runtime's API is over."""
        self._api_seconds.labels(runtime, operation).observe(seconds)
        if error is not None:
            self._api_errors.labels(runtime, operation, error).inc()

    def runtime_is(self, runtime: str, *, up: bool) -> None:
        """A runtime's API began or ceased to answer."""
        self._runtime_up.labels(runtime).set(up)

    def happened(self, runtime: str, action: str) -> None:
        """A runtime told of an event."""
        self._events.labels(runtime, action).inc()

    def page(self, form: Format, names: frozenset[str] = frozenset()) -> bytes:
        """Return the page of these metrics, without the end marker of OpenMetrics.

        ``names`` are the families or samples wanted, empty for all.
        """
        chosen = _Chosen(self.registry, names) if names else self.registry
        if form is Format.OPENMETRICS:
            page: bytes = generate_openmetrics(chosen)  # type: ignore[no-untyped-call]  # as it is
            return page.removesuffix(b"# EOF\n")
        return generate_latest(chosen)


class _Registry(CollectorRegistry):
    """Leaves out ``_created``, a series beside each counter and histogram that says when it began.

    ``prometheus_client.disable_created_metrics()`` would do so for the whole process, and for whatever else
    in it uses the library.
    """

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
            yield metric


class _Chosen(Collector):
    """The families of a registry that are wanted by their own name or by one of their samples'.

    ``CollectorRegistry.restricted_registry`` finds no collector that describes nothing, such as the library's
    own ``ProcessCollector``.
    """

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            if not self._names.isdisjoint((metric.name, *(sample.name for sample in metric.samples))):
                yield metric


class _Latest(Collector):
    def __init__(
        self, descriptors: Descriptors, latest: Callable[[], Snapshot | None], interval_seconds: float
    ) -> None:
        self._descriptors = descriptors
        self._latest = latest
        self._interval_seconds = interval_seconds

    def collect(self) -> Iterable[Metric]:
        yield _gauge("cgwatch_descriptors_kept", "Kernel files that are kept open.", self._descriptors.kept)
        yield _gauge(
            "cgwatch_descriptors_budget", "How many kernel files may be kept open.", self._descriptors.budget
        )
        yield _gauge("cgwatch_sample_interval_seconds", "Time between two ticks.", self._interval_seconds)
        snapshot = self._latest()
        if snapshot is None:
            return
        yield _gauge(
            "cgwatch_last_sample_timestamp_seconds",
            "Time of the last tick, since the epoch.",
            snapshot.time_seconds,
        )
        yield _gauge("cgwatch_cgroups", "Cgroups in the last sample.", len(snapshot.samples))
        containers = GaugeMetricFamily(
            "cgwatch_containers", "Cgroups in the last sample, by kind and owner.", labels=["kind", "runtime"]
        )
        owners = Tally(
            (sample.container.owner.kind, sample.container.owner.runtime) for sample in snapshot.samples
        )
        for (kind, runtime), number in sorted(owners.items()):
            containers.add_metric([kind, runtime], number)
        yield containers

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are fixed, and there may be no snapshot yet when this is registered."""
        return []


class _Page(Collector):
    """Of the last page: this one is being written."""

    def __init__(self, latest: Callable[[], tuple[Census, LabelCensus]]) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        census, labels = self._latest()
        yield _gauge("cgwatch_page_series", "Series of cgroups on the last page.", census.series)
        yield _gauge(
            "cgwatch_page_bytes", "Size of the same, in bytes without compression.", census.page_bytes
        )
        yield _gauge(
            "cgwatch_page_cgroups_left_out",
            "Cgroups without series on the last page, beyond metrics.bounds.series or page.",
            census.cgroups_left_out,
        )
        yield _gauge(
            "cgwatch_page_labels_left_out",
            "Labels of containers that are not shown, beyond metrics.bounds.labels.",
            labels.left_out,
        )
        yield _gauge(
            "cgwatch_page_label_collisions",
            "Labels of containers hidden by another one that has the same name on the page.",
            labels.collisions,
        )
        yield CounterMetricFamily(
            "cgwatch_page_label_values_cut",
            "Values of labels that were longer than metrics.bounds.label when they were encoded.",
            labels.cut_total,
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing, as for the latest snapshot."""
        return []


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
