"""cgwatch's metrics about the limits that it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cgwatch.limits.parts import Held
from cgwatch.oom.kill import Cause
from cgwatch.oom.tally import Tally

_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 30)


class LimitMetrics:
    """Counts what is done to limits. Every method may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._writes = Counter(
            "cgwatch_limit_writes_total",
            "Changes of limits by what became of them; path is the way: docker, systemd, cgroupfs.",
            ["knob", "path", "result"],
            registry=registry,
        )
        self._seconds = Histogram(
            "cgwatch_limit_write_seconds",
            "Time of a change, until it was read back for the last time.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._drift = Counter(
            "cgwatch_limit_drift_total",
            "Times that somebody else was found to have written over a limit of ours.",
            ["knob"],
            registry=registry,
        )
        self._conflicts = Counter(
            "cgwatch_limit_conflicts_total",
            "Limits that were not brought back, as somebody else had written them.",
            ["knob"],
            registry=registry,
        )
        self._restores = Counter(
            "cgwatch_limit_restores_total",
            "Limits that were brought back to what they were.",
            ["knob"],
            registry=registry,
        )
        self._enforcer = Gauge(
            "cgwatch_enforcer",
            "Whether this agent is the one that writes limits on this host.",
            registry=registry,
        )

    def watch(self, held: Callable[[], Iterable[Held]], tally: Callable[[], Tally | None]) -> None:
        """Add what is read at each scrape: the overrides in force, and the kills by our own writes."""
        self._registry.register(_Overrides(held, tally))

    def limit_written(self, knob: str, via: str, result: str, seconds: float, /) -> None:
        """One change is over."""
        self._writes.labels(knob, via, result).inc()
        if seconds:
            self._seconds.observe(seconds)

    def limit_conflicted(self, knob: str, /) -> None:
        """A limit was not brought back, as somebody else has written it."""
        self._conflicts.labels(knob).inc()

    def limit_restored(self, knob: str, /) -> None:
        """A limit was brought back."""
        self._restores.labels(knob).inc()

    def limit_drifted(self, knob: str, /) -> None:
        """Somebody else has written over a limit."""
        self._drift.labels(knob).inc()

    def enforcing(self, is_ours: bool, /) -> None:  # noqa: FBT001 - a callback
        """This agent began or ceased to be the one that writes limits."""
        self._enforcer.set(is_ours)


class _Overrides(Collector):
    def __init__(self, held: Callable[[], Iterable[Held]], tally: Callable[[], Tally | None]) -> None:
        self._held = held
        self._tally = tally

    def collect(self) -> Iterable[Metric]:
        limits = GaugeMetricFamily(
            "cgwatch_limit",
            "A limit that was changed: as desired, as the cgroup has it, and as those above let it have it.",
            labels=["container", "knob", "state"],
        )
        expiry = GaugeMetricFamily(
            "cgwatch_limit_override_expiry_timestamp_seconds",
            "When a changed limit goes back to what it was, since the epoch; none for one that stays.",
            labels=["container", "knob"],
        )
        for each in self._held():
            container = each.target.name or each.target.path
            states = {"desired": each.desired, "applied": each.applied, "effective": each.effective}
            for state, value in states.items():
                if isinstance(value, int | float):
                    limits.add_metric([container, each.key, state], value)
            if each.expires_seconds is not None:
                expiry.add_metric([container, each.key], each.expires_seconds)
        yield limits
        yield expiry
        tally = self._tally()
        if tally is not None:
            yield CounterMetricFamily(
                "cgwatch_limit_oom_kills",
                "OOM kills by a limit that cgwatch itself had just written.",
                sum(
                    count.kills
                    for series, count in list(tally.series.items())
                    if series.cause == Cause.LIMIT_WRITE
                ),
            )

    def describe(self) -> Iterable[Metric]:
        """Nothing: there may be no override yet when this is registered."""
        return []
