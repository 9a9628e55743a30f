"""What expressions of Prometheus ask for, and whether there is such a thing: for dashboards and for rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser
from prometheus_client.metrics import MetricWrapperBase

from cgwatch.cli.metrics import listed, of_empty_node
from cgwatch.metrics.families import FAMILIES

CATALOGUE = {metric.name: metric for metric in listed()}
HELPS = {name: metric.help for name, metric in CATALOGUE.items()}
OF_HISTOGRAMS = {
    f"{name}_{part}"
    for name, metric in CATALOGUE.items()
    if metric.type == "histogram"
    for part in ("bucket", "sum", "count")
}
COUNTERS = OF_HISTOGRAMS | {name for name, metric in CATALOGUE.items() if metric.type == "counter"}
FROM_PROMETHEUS = frozenset({"up"})
"""Metrics that Prometheus itself makes of each scrape."""
KNOWN = CATALOGUE.keys() | OF_HISTOGRAMS | FROM_PROMETHEUS
_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}


def _own_labels() -> Iterator[tuple[str, set[str]]]:
    for collector in of_empty_node().registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            yield collector._name, set(collector._labelnames)
        else:
            for metric in collector.collect():
                yield metric.name, set(getattr(metric, "_labelnames", ()))


def _labels() -> Iterator[tuple[str, set[str]]]:
    """Give the labels of each metric, without those of the scrape."""
    for family in FAMILIES:
        own = set(family.labels)
        yield family.name, own if family.name.startswith("machine_") else {"id", "name", "image", *own}
    for name, labels in _own_labels():
        yield from ((f"{name}{end}", labels) for end in ("", "_total", "_sum", "_count"))
        yield f"{name}_bucket", {"le", *labels}
    yield from ((name, set()) for name in FROM_PROMETHEUS)


LABELS = {name: labels for name, labels in _labels() if name in KNOWN}


def selectors(expr: str) -> list[Any]:
    """Give what an expression selects of Prometheus's series."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expr), visit)
    assert found, f"asks for nothing: {expr}"
    return found


def matchers(selector: Any) -> set[str]:
    """Give the matchers of a selector as they are written."""
    return {f'{each.name}{_OPERATORS[str(each.op)]}"{each.value}"' for each in selector.matchers.matchers}
