"""``cgwatch_oom_*``: the ledger of OOM kills, and kills that are none of the kernel's."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import astuple
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cgwatch.oom.keeper import Keeper
from cgwatch.oom.userspace import UserspaceKills


class OomMetrics(Collector):
    """What the ledger says."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        tally, state = self._keeper.tally, self._keeper.state
        labels = ["runtime", "namespace", "pod", "container", "name", "cause", "scope"]
        if tally.with_image:
            labels.append("image")
        kills = CounterMetricFamily(
            "cgwatch_oom_kills",
            "OOM kills by the kernel, also of containers that are gone, and of before a restart of cgwatch.",
            labels=labels,
        )
        last = GaugeMetricFamily(
            "cgwatch_oom_last_kill_timestamp_seconds",
            "Time of the last OOM kill, since the epoch.",
            labels=labels,
        )
        for series, count in list(tally.series.items()):
            values = [str(value) for value in astuple(series)[: len(labels)]]
            kills.add_metric(values, count.kills)
            last.add_metric(values, count.last_seconds)
        yield kills
        yield last
        yield CounterMetricFamily(
            "cgwatch_oom_unattributed",
            "OOM kills that count for no cgroup, as no source told of whom.",
            tally.unattributed_total,
        )
        yield CounterMetricFamily(
            "cgwatch_oom_series_dropped",
            "Series of cgwatch_oom_kills_total that went before their time, beyond oom.series.",
            tally.dropped_total,
        )
        yield CounterMetricFamily(
            "cgwatch_oom_store_failures",
            "Times that OOM kills could not be stored; they are counted all the same.",
            self._keeper.store_failures_total,
        )
        if state is None:
            return
        yield CounterMetricFamily(
            "cgwatch_oom_node_kills",
            "OOM kills on the node since the ledger began: those that count for a cgroup, and the others.",
            state.attributed + state.unattributed,
        )
        yield CounterMetricFamily(
            "cgwatch_oom_attributed", "OOM kills that count for a cgroup.", state.attributed
        )
        yield CounterMetricFamily(
            "cgwatch_oom_log_lost", "Times that the kernel's log was overwritten unread.", state.log_gaps
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing, as for the latest snapshot."""
        return []


class UserspaceMetrics(Collector):
    """Whom daemons have killed."""

    def __init__(self, kills: UserspaceKills) -> None:
        self._kills = kills

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        family = CounterMetricFamily(
            "cgwatch_userspace_oom_kills",
            "Kills by a daemon that watches memory: none of the kernel's, so not in cgwatch_oom_kills_total.",
            labels=["killer", "runtime", "namespace", "pod", "container", "name"],
        )
        for killed, count in self._kills.totals.items():
            series = killed.series
            who = (series.runtime, series.namespace, series.pod, series.container, series.name)
            family.add_metric([killed.killer, *who], count)
        yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: there may be none yet."""
        return []
