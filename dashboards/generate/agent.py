"""The row on the agent itself: what it costs, and whether it keeps up."""

from __future__ import annotations

from dashboards.generate.board import Row
from dashboards.generate.panels import UP, Query, Style, lines, number, spelled
from dashboards.generate.promql import NODES, TARGET, increase, mean, quantile, rate, series, total, worst

ROW = Row(
    "Agent",
    (
        spelled(
            number(
                "Runtime APIs",
                "Whether the container runtime's API answers; without it containers have no names.",
                "short",
                worst("instance, runtime", series("cgwatch_runtime_up", TARGET)),
                width=6,
                legend="{{instance}} {{runtime}}",
                thresholds=UP,
            ),
            {"0": "down", "1": "up"},
        ),
        number(
            "Memory of the agent",
            "Resident memory; of several agents, the highest.",
            "bytes",
            f"max({series('process_resident_memory_bytes', TARGET)})",
            width=6,
        ),
        number(
            "CPU of the agent",
            "Share of one CPU; of several agents, the highest.",
            "percentunit",
            f"max({rate('process_cpu_seconds_total', TARGET)})",
            width=6,
        ),
        number(
            "Age of the last sample",
            "Time since the last tick; of several agents, the highest.",
            "s",
            f"time() - min({series('cgwatch_last_sample_timestamp_seconds', TARGET)})",
            width=6,
        ),
        lines(
            "Time to sample",
            "Time to read every cgroup once: mean and 99th percentile. Ticks are missed when it comes near "
            "the interval.",
            "s",
            Query(mean(NODES, "cgwatch_sample_duration_seconds", TARGET), "{{instance}} mean"),
            Query(
                quantile(0.99, NODES, "cgwatch_sample_duration_seconds", TARGET),
                "{{instance}} 99th percentile",
            ),
            Query(
                total(NODES, series("cgwatch_sample_interval_seconds", TARGET)),
                "{{instance}} interval",
                Style.BOUND,
            ),
        ),
        lines(
            "Missed ticks and failures",
            "Ticks that were skipped, kernel files that could not be read or understood, and calls to a "
            "runtime's API that failed.",
            "short",
            Query(total(NODES, increase("cgwatch_missed_ticks_total", TARGET)), "{{instance}} missed ticks"),
            Query(
                total("instance, file, error", increase("cgwatch_read_failures_total", TARGET)),
                "{{instance}} {{file}}: {{error}}",
            ),
            Query(
                total("instance, runtime, error", increase("cgwatch_runtime_api_errors_total", TARGET)),
                "{{instance}} {{runtime}}: {{error}}",
            ),
        ),
        lines(
            "Time to answer a scrape",
            "Mean and 99th percentile over all pages.",
            "s",
            Query(mean(NODES, "cgwatch_scrape_duration_seconds", TARGET), "{{instance}} mean"),
            Query(
                quantile(0.99, NODES, "cgwatch_scrape_duration_seconds", TARGET),
                "{{instance}} 99th percentile",
            ),
        ),
        lines(
            "Time of runtime API calls",
            "Mean, by operation.",
            "s",
            Query(
                mean("instance, runtime, operation", "cgwatch_runtime_api_duration_seconds", TARGET),
                "{{instance}} {{runtime}} {{operation}}",
            ),
        ),
        lines(
            "Cgroups and kept files",
            "Cgroups in a sample, and kernel files that are kept open for them.",
            "short",
            Query(total(NODES, series("cgwatch_cgroups", TARGET)), "{{instance}} cgroups"),
            Query(total(NODES, series("cgwatch_descriptors_kept", TARGET)), "{{instance}} files kept open"),
            Query(
                total(NODES, series("cgwatch_descriptors_budget", TARGET)),
                "{{instance}} files that may be kept",
                Style.BOUND,
            ),
        ),
        lines(
            "Pages",
            "Bytes of pages sent, as compressed.",
            "Bps",
            Query(total(NODES, rate("cgwatch_scrape_response_bytes_total", TARGET)), "{{instance}}"),
        ),
    ),
    collapsed=True,
)
