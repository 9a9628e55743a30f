"""Panels in one style: lines over time, single numbers, and tables with a row for each container.

Colours are left to Grafana's palette, but for values that somebody should look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from grafana_foundation_sdk.builders import common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from msgspec import Struct

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
CONTAINER_UID = "cgwatch-container"
PANEL_HEIGHT = 8
BY_CONTAINER = "{{name}} on {{instance}}"
OPENS = " Click on a line to open the container."
_REFS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Thresholds = tuple[tuple[float | None, str], ...]
"""The value from which a colour applies, ascending; the first is from ``None``."""
CALM: Thresholds = ((None, "text"),)
SHARE: Thresholds = ((None, "text"), (0.8, "orange"), (0.95, "red"))
OVERCOMMIT: Thresholds = ((None, "text"), (1, "orange"))
THROTTLED: Thresholds = ((None, "text"), (0.25, "orange"))
ANY: Thresholds = ((None, "text"), (1, "orange"))
UP: Thresholds = ((None, "red"), (1, "green"))


class Style(StrEnum):
    """How the series of a query are drawn."""

    LINE = "line"
    BOUND = "bound"
    """What the others are held against: dashed, and never stacked."""
    BELOW = "below"
    """Below the axis: what goes out, where the others come in."""


class Query(Struct, frozen=True):
    """An expression, and what its series are called (``{{label}}`` is replaced)."""

    expr: str
    legend: str
    style: Style = Style.LINE


class Column(Struct, frozen=True):
    """A column of a table: its expression gives one series for each row."""

    title: str
    expr: str
    unit: str
    thresholds: Thresholds | None = None
    words: dict[str, str] | None = None
    """What stands for some of the numbers."""


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    stacked: bool = False,
    opens_container: bool = False,
) -> timeseries.Panel:
    """Return series over time; with ``opens_container``, a click on one opens its container's dashboard."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .span(width)
        .height(PANEL_HEIGHT)
        .line_width(1)
        .fill_opacity(25 if stacked else 5)
        .show_points(kinds.VisibilityMode.NEVER)
        .stacking(_stacking(stacked=stacked))
        .legend(
            common.VizLegendOptions()
            .display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(
            common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
        )
        .targets(
            [
                _target(ref, query.expr).range().legend_format(query.legend)
                for ref, query in zip(_REFS, queries, strict=False)
            ]
        )
    )
    for ref, query in zip(_REFS, queries, strict=False):
        if properties := _properties(query.style):
            panel = panel.override_by_query(ref, properties)
    if all(query.style is not Style.BELOW for query in queries):
        panel = panel.min(0)
    if opens_container:
        url = container_url("${__field.labels.instance}", "${__field.labels.name}")
        panel = panel.data_links([build.DashboardLink("Open ${__field.labels.name}").url(url)])
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    width: int = 3,
    legend: str = "",
    thresholds: Thresholds = CALM,
    without: str = "none",
) -> stat.Panel:
    """Return the present numbers, one for each series; ``without`` stands where there is none."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(without)
        .span(width)
        .height(4)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .color_mode(kinds.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(thresholds))
        .targets([_target("A", expr).instant().legend_format(legend)])
    )


def spelled(panel: stat.Panel, words: dict[str, str]) -> stat.Panel:
    """Show words instead of some of a panel's numbers."""
    return panel.mappings([_words(words)])


def rows(
    title: str,
    description: str,
    names: dict[str, str],
    columns: Sequence[Column],
    *,
    sort_by: str,
    height: int = 10,
) -> table.Panel:
    """Return a table with a row for each set of labels, the same in all columns.

    ``names`` are the labels to show and what they are called, in order. The container opens its dashboard.
    """
    refs = dict(zip(_REFS, columns, strict=False))
    shown = [*names, *(f"Value #{ref}" for ref in refs)]
    titles = {f"Value #{ref}": column.title for ref, column in refs.items()}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit("short")
        .span(24)
        .height(height)
        .filterable(filterable=True)
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(desc=True)])
        .targets(
            [
                _target(ref, column.expr).instant().format(PromQueryFormat.TABLE)
                for ref, column in refs.items()
            ]
        )
        .transformations(
            [
                DataTransformerConfig("merge", options={}),
                DataTransformerConfig(
                    "organize",
                    options={
                        "excludeByName": {"Time": True, "id": True},
                        "indexByName": {name: place for place, name in enumerate(shown)},
                        "renameByName": {**names, **titles},
                    },
                ),
            ]
        )
    )
    for column in columns:
        panel = panel.override_by_name(column.title, _cell(column))
    url = container_url(f"${{__data.fields.{names['instance']}}}", "${__value.text}")
    link = {"title": "Open this container", "url": url}
    return panel.override_by_name(names["name"], [DynamicConfigValue("links", [link])])


def container_url(instance: str, name: str) -> str:
    """Return the address of a container's dashboard, with the variables and the time range of this one."""
    passed = "${datasource:queryparam}&${job:queryparam}&${__url_time_range}"
    return f"/d/{CONTAINER_UID}?var-instance={instance}&var-name={name}&{passed}"


def _target(ref: str, expr: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(ref).datasource(DATASOURCE).expr(expr)


def _stacking(*, stacked: bool) -> common.StackingConfig:
    return (
        common.StackingConfig()
        .group("A")
        .mode(kinds.StackingMode.NORMAL if stacked else kinds.StackingMode.NONE)
    )


def _thresholds(thresholds: Thresholds) -> build.ThresholdsConfig:
    steps = [Threshold(value, color) for value, color in thresholds]
    return build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _properties(style: Style) -> list[DynamicConfigValue]:
    if style is Style.BOUND:
        return [
            DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
            DynamicConfigValue("custom.fillOpacity", 0),
            DynamicConfigValue("custom.stacking", _stacking(stacked=False).build()),
        ]
    if style is Style.BELOW:
        return [DynamicConfigValue("custom.transform", kinds.GraphTransform.NEGATIVE_Y)]
    return []


def _words(words: dict[str, str]) -> ValueMap:
    return ValueMap({value: ValueMappingResult(text=word) for value, word in words.items()})


def _cell(column: Column) -> list[DynamicConfigValue]:
    properties = [DynamicConfigValue("unit", column.unit)]
    if column.words:
        properties.append(DynamicConfigValue("mappings", [_words(column.words)]))
    if column.thresholds:
        properties += [
            DynamicConfigValue("thresholds", _thresholds(column.thresholds).build()),
            DynamicConfigValue("custom.cellOptions", {"type": kinds.TableCellDisplayMode.COLOR_TEXT}),
        ]
    return properties
