"""What all dashboards have in common: variables, links to each other, rows of panels, and the file's text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    RowPanel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from msgspec import Struct

from dashboards.generate.panels import DATASOURCE
from dashboards.generate.promql import TARGET

TAG = "cgwatch"
_ROW_IDS = 100
"""Rows have the ids 100, 200, ..., their panels those that follow: a new one changes no id of other rows."""


class Row(Struct, frozen=True):
    """Panels under a heading, from left to right as they fit."""

    title: str
    panels: tuple[Builder[Panel], ...]
    collapsed: bool = False
    """Whether it has to be opened to be seen; such rows come last."""


NAME = (
    build.QueryVariable("name")
    .label("Container")
    .description("Containers, by name.")
    .query(f'label_values(container_last_seen{{{TARGET}, name!=""}}, name)')
)
TOP = (
    build.CustomVariable("top")
    .label("Top")
    .description("How many containers are shown where there would be a line for each.")
    .values("5,10,20,50")
    .current(VariableOption(selected=True, text="10", value="10"))
)


def text(
    title: str,
    uid: str,
    description: str,
    variable: Builder[VariableModel],
    rows: Sequence[Row],
) -> str:
    """Return a dashboard as JSON; ``variable`` comes after those that choose agents."""
    board = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("cgwatch")
            .type(DashboardLinkType.DASHBOARDS)
            .tooltip("The other dashboards, with what is chosen here")
            .tags([TAG])
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .variables([*_agents(), variable])
    )
    for place, row in enumerate(rows, 1):
        heading = build.Row(row.title).id(place * _ROW_IDS)
        for panel in row.panels if row.collapsed else ():
            heading = heading.with_panel(panel)
        board = board.with_row(heading)
        for panel in () if row.collapsed else row.panels:
            board = board.with_panel(panel)
    made = board.build()
    _close_up(made.panels or ())
    _number(made.panels or ())
    return json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def several(variable: build.QueryVariable) -> build.QueryVariable:
    """Let a variable have any number of values, all of them at first."""
    return (
        variable.datasource(DATASOURCE)
        .multi(multi=True)
        .include_all(include_all=True)
        # Not the list of all: that may be longer than an address can be.
        .all_value(".+")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
    )


def _agents() -> list[Builder[VariableModel]]:
    return [
        build.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes cgwatch.")
        .type("prometheus"),
        build.QueryVariable("job")
        .label("Job")
        .description("The scrape job; one at a time, as several may scrape the same agents.")
        .datasource(DATASOURCE)
        .query("label_values(container_last_seen, job)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC),
        several(
            build.QueryVariable("instance")
            .label("Node")
            .description("The agents, one on each node.")
            .query('label_values(container_last_seen{job="$job"}, instance)')
        ),
    ]


def _close_up(panels: Sequence[Panel | RowPanel]) -> None:
    """Put what follows a collapsed row right below its heading: the builder leaves room for its panels."""
    bottom = 0
    for panel in panels:
        place = panel.grid_pos or GridPos(h=1, w=24, x=0, y=0)
        if isinstance(panel, RowPanel):
            place.y = bottom
            inside = [inner.grid_pos for inner in panel.panels if inner.grid_pos]
            top = min((inner.y for inner in inside), default=0)
            for inner in inside:
                inner.y += bottom + 1 - top
        bottom = max(bottom, place.y + place.h)


def _number(panels: Sequence[Panel | RowPanel], last: int = 0) -> None:
    for panel in panels:
        last = panel.id_val or last + 1
        panel.id_val = last
        if isinstance(panel, RowPanel):
            _number(panel.panels, last)
