"""(b) What rendering costs for each line, against prometheus_client on the same samples."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from functools import partial

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bench.clock import Clock
from bench.sampling import Burst
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.model import Description, Runtime, Snapshot
from cgwatch.sampling.sampler import Sampler


class Rendering(Struct, frozen=True):
    """CPU time of one page, medians over the rounds."""

    lines: int
    page_bytes: int
    microseconds_per_line: float
    client_microseconds_per_line: float
    """prometheus_client: text alone, of families made beforehand."""
    exporter_microseconds_per_line: float
    """prometheus_client: families made at each scrape, as an exporter does."""


def describe(sampler: Sampler, ids: Iterable[str]) -> None:
    """Give the containers a name, an image and two labels, as a runtime's API would."""
    sampler.describe(
        {
            container_id: Description(
                runtime=Runtime.DOCKER,
                container_id=container_id,
                name=f"shop-checkout-{number}",
                image=f"registry.example.com/shop/checkout:2.{number % 40}.1",
                labels={
                    "com.docker.compose.project": "shop",
                    "com.docker.compose.service": f"checkout-{number}",
                },
                state="running",
                created_seconds=1_790_000_000.25,
                started_seconds=1_790_000_001.5,
            )
            for number, container_id in enumerate(ids)
        }
    )


def measure(sampler: Sampler, renderer: Renderer, burst: Burst, rounds: int, clock: Clock) -> Rendering:
    """Render a new snapshot in each round, then let prometheus_client write the same samples."""
    page = renderer.render(sampler.sample(200), Format.TEXT)
    parsed = list(text_string_to_metric_families(page))
    lines = sum(len(family.samples) for family in parsed)
    ready, made = (CollectorRegistry(auto_describe=False) for _ in range(2))
    ready.register(_Ready(list(_families(parsed))))
    made.register(_Exporter(parsed))
    took: dict[str, list[float]] = {"ours": [], "client": [], "exporter": []}
    for sequence in range(201, 201 + rounds):
        burst()
        snapshot = sampler.sample(sequence)
        took["ours"].append(_timed(clock, partial(_page, renderer, snapshot)))
        took["client"].append(_timed(clock, lambda: generate_latest(ready)))
        took["exporter"].append(_timed(clock, lambda: generate_latest(made)))
    ours, client, exporter = (statistics.median(values) / 1000 / lines for values in took.values())
    return Rendering(lines, len(page.encode()), ours, client, exporter)


def _page(renderer: Renderer, snapshot: Snapshot) -> bytes:
    return renderer.write(snapshot, Format.TEXT, b"".join)


def _timed(clock: Clock, function: Callable[[], object]) -> float:
    start = clock.now()
    function()
    return clock.now() - start


def _families(parsed: list[Metric]) -> Iterable[Metric]:
    """Make families as an exporter does: label names once, values and label values for each series."""
    for family in parsed:
        names = list(dict.fromkeys(name for sample in family.samples for name in sample.labels))
        kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
        made = kind(family.name, family.documentation, labels=names)
        for sample in family.samples:
            made.add_metric([sample.labels.get(name, "") for name in names], sample.value)
        yield made


class _Ready(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _Exporter(Collector):
    def __init__(self, parsed: list[Metric]) -> None:
        self._parsed = parsed

    def collect(self) -> Iterable[Metric]:
        return _families(self._parsed)
