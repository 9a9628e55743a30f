"""The dashboards are what their generator makes, and ask for what there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import promql_parser
import pytest

from dashboards.generate import files
from tests import promql
from tests.dashboards.boards import BOARDS, FOLDER, Target, filled_in, panels, targets
from tests.dashboards.dimensions import UNITS, dimension
from tests.promql import CATALOGUE, COUNTERS, HELPS, KNOWN, LABELS, matchers

SINCE_A_PERSON_STARTED_IT = frozenset({"container_restarts_total"})
"""Counters that say something by themselves: they begin anew with what they count."""
TARGETS = targets()
PANELS = {f"{name}: {panel['title']}": panel for name, board in BOARDS.items() for panel in panels(board)}
CHOSEN_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
OPENS_CONTAINER = "/d/cgwatch-container?"
of_each_board = pytest.mark.parametrize("name", BOARDS)


def parsed(expr: str) -> Any:
    return promql_parser.parse(filled_in(expr))


def selectors(expr: str) -> list[Any]:
    return promql.selectors(filled_in(expr))


def labels_of(node: Any) -> set[str]:
    """Give the labels that the series of an expression are sure to have."""
    match node:
        case promql_parser.AggregateExpr() if node.modifier:
            return set(node.modifier.labels)
        case promql_parser.AggregateExpr() if str(node.op) == "topk":
            return labels_of(node.expr)
        case promql_parser.BinaryExpr():
            return labels_of(node.lhs)
        case promql_parser.ParenExpr():
            return labels_of(node.expr)
        case promql_parser.Call() if node.func.name == "histogram_quantile":
            return labels_of(node.args[1]) - {"le"}
    return set()


def wrong_targets(is_right: Callable[[Target], bool]) -> list[str]:
    return [str(target) for target in TARGETS if not is_right(target)]


def wrong_panels(is_right: Callable[[Any], bool]) -> list[str]:
    return [name for name, panel in PANELS.items() if not is_right(panel)]


def links_of(panel: Any) -> list[str]:
    """Give the addresses that values of a panel lead to."""
    config = panel["fieldConfig"]
    properties = [each for override in config["overrides"] for each in override["properties"]]
    lists = [each["value"] for each in properties if each["id"] == "links"]
    return [link["url"] for links in (*lists, config["defaults"].get("links", [])) for link in links]


@pytest.mark.parametrize("name", files())
def test_the_checked_in_file_is_what_the_generator_makes(name: str) -> None:
    assert (FOLDER / name).read_text() == files()[name], "run: make dashboards"


def test_there_is_no_file_that_nothing_makes() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(files())


def test_every_expression_parses_and_its_metrics_are_in_the_catalogue() -> None:
    assert wrong_targets(lambda target: {each.name for each in selectors(target.expr)} <= KNOWN) == []


def test_every_selector_is_of_the_chosen_agents() -> None:
    chosen = {'job="cgwatch"', 'instance=~".+"'}
    assert (
        wrong_targets(lambda target: all(chosen <= matchers(each) for each in selectors(target.expr))) == []
    )
    written = 'job="$job", instance=~"$instance"'
    assert wrong_targets(lambda target: target.expr.count("{") == target.expr.count(f"{{{written}")) == []


def test_a_containers_metric_is_asked_of_the_node_or_of_named_containers() -> None:
    whose = {'id="/"', 'name!=""'}

    def is_of_one(selector: Any) -> bool:
        return not selector.name.startswith("container_") or len(matchers(selector) & whose) == 1

    assert wrong_targets(lambda target: all(map(is_of_one, selectors(target.expr)))) == []


def test_selectors_and_groups_use_labels_that_the_metrics_have() -> None:
    def is_right(target: Target) -> bool:
        of_containers = [each for each in selectors(target.expr) if each.name in LABELS]
        matched = all(
            {matcher.name for matcher in each.matchers.matchers} - {"job", "instance"} <= LABELS[each.name]
            for each in of_containers
        )
        groups = labels_of(parsed(target.expr)) - {"instance"}
        return matched and all(groups <= LABELS[each.name] for each in of_containers)

    assert wrong_targets(is_right) == []


def test_a_legend_uses_labels_that_the_series_have() -> None:
    def is_right(target: Target) -> bool:
        return set(re.findall(r"\{\{(\w+)\}\}", target.legend)) <= labels_of(parsed(target.expr))

    assert wrong_targets(is_right) == []


def test_series_of_one_query_have_names_of_their_own() -> None:
    # A container's dashboard is of few nodes, where names alone are clear.
    may_miss = {"instance"}

    def is_right(target: Target) -> bool:
        unnamed = labels_of(parsed(target.expr)) - set(re.findall(r"\{\{(\w+)\}\}", target.legend))
        is_row = PANELS[f"{target.board}: {target.panel}"]["type"] == "table"
        return is_row or unnamed <= (may_miss if target.board == "cgwatch-container" else set())

    assert wrong_targets(is_right) == []


def test_units_are_those_of_the_expressions() -> None:
    assert wrong_targets(lambda each: dimension(parsed(each.expr), HELPS) == UNITS[each.unit]) == []
    # Grafana's moments are milliseconds.
    assert wrong_targets(lambda each: each.expr.endswith("* 1000") == each.unit.startswith("dateTime")) == []


def test_counters_are_only_used_through_their_growth() -> None:
    def is_right(target: Target) -> bool:
        grown = set(re.findall(r"(?:rate|increase)\((\w+)", target.expr))
        counters = {each.name for each in selectors(target.expr)} & COUNTERS
        is_in_table = PANELS[f"{target.board}: {target.panel}"]["type"] == "table"
        return counters - (SINCE_A_PERSON_STARTED_IT - grown if is_in_table else set()) == grown

    assert wrong_targets(is_right) == []
    assert {each for target in TARGETS for each in re.findall(r"\[(.*?)\]", target.expr)} == {
        "$__rate_interval"
    }


def test_every_panel_says_what_it_shows_and_in_what_unit() -> None:
    assert wrong_panels(lambda panel: bool(panel["title"] and panel["targets"])) == []
    assert wrong_panels(lambda panel: bool(re.fullmatch(r"[A-Z].+\.", panel["description"]))) == []
    assert wrong_panels(lambda panel: panel["fieldConfig"]["defaults"]["unit"] in UNITS) == []


def test_every_datasource_is_the_one_that_was_chosen() -> None:
    def is_right(panel: Any) -> bool:
        return all(each["datasource"] == CHOSEN_DATASOURCE for each in (panel, *panel["targets"]))

    assert wrong_panels(is_right) == []


def test_overrides_hit_a_query_or_a_column_that_is_there() -> None:
    def is_right(panel: Any) -> bool:
        there = {("byFrameRefID", target["refId"]) for target in panel["targets"]}
        for change in panel.get("transformations", []):
            there |= {("byName", title) for title in change["options"].get("renameByName", {}).values()}
        hit = [override["matcher"] for override in panel["fieldConfig"]["overrides"]]
        return {(each["id"], each["options"]) for each in hit} <= there

    assert wrong_panels(is_right) == []


def test_rows_of_a_table_have_the_same_labels_in_all_columns() -> None:
    tables = [panel for panel in PANELS.values() if panel["type"] == "table"]
    assert tables
    for panel in tables:
        assert {frozenset(labels_of(parsed(target["expr"]))) for target in panel["targets"]} == {
            frozenset({"instance", "id", "name", "image"})
        }, panel["title"]


def test_what_shows_containers_of_a_node_opens_them() -> None:
    by_container = {
        f"{target.board}: {target.panel}"
        for target in TARGETS
        if target.board == "cgwatch-node" and "name" in labels_of(parsed(target.expr))
    }
    assert len(by_container) > 5
    opening = {
        name for name, panel in PANELS.items() if any(OPENS_CONTAINER in url for url in links_of(panel))
    }
    assert opening >= by_container


def test_a_link_to_a_container_passes_on_what_is_chosen() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    for name, panel in PANELS.items():
        for url in links_of(panel):
            address = urlsplit(url)
            assert address.path.removeprefix("/d/") in uids, name
            assert {"var-instance", "var-name"} <= parse_qs(address.query).keys(), name
            passed = set(address.query.split("&"))
            assert {"${datasource:queryparam}", "${job:queryparam}", "${__url_time_range}"} <= passed, name
            labels = set(re.findall(r"\$\{__field\.labels\.(\w+)\}", url))
            assert all(labels <= labels_of(parsed(each["expr"])) for each in panel["targets"]), name


@of_each_board
def test_panels_have_ids_and_titles_of_their_own(name: str) -> None:
    everything = [
        *(panel for panel in BOARDS[name]["panels"] if panel["type"] == "row"),
        *panels(BOARDS[name]),
    ]
    assert len({panel["id"] for panel in everything}) == len(everything)
    titles = [(panel["type"] == "row", panel["title"]) for panel in everything]
    assert len(set(titles)) == len(titles)


def opened(board: Any, row: str) -> list[Any]:
    """Give everything in order, as it lies when this row is opened (the others stay as they are)."""
    found: list[Any] = []
    for panel in board["panels"]:
        found += [panel, *(panel.get("panels", []) if panel["title"] == row else [])]
    return found


@of_each_board
def test_panels_are_below_their_rows_without_a_gap_or_an_overlap(name: str) -> None:
    collapsed = [panel["title"] for panel in BOARDS[name]["panels"] if panel.get("collapsed")]
    for row in ("", *collapsed):
        # What comes after an opened row moves down with it: Grafana does that.
        everything = opened(BOARDS[name], row)
        last = max((place for place, panel in enumerate(everything) if panel["title"] == row), default=None)
        inside = everything if last is None else everything[: last + 1 + len(everything[last]["panels"])]
        places = [panel["gridPos"] for panel in inside]
        for one, other in combinations(places, 2):
            beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert beside or above
        assert max(place["x"] + place["w"] for place in places) == 24
        lines = sorted({(place["y"], place["y"] + place["h"]) for place in places})
        assert all(bottom == next_top for (_, bottom), (next_top, _) in pairwise(lines))


@of_each_board
def test_what_is_seen_at_first_is_no_wall(name: str) -> None:
    seen = [panel for panel in BOARDS[name]["panels"] if panel["type"] in {"timeseries", "table"}]
    assert len(seen) <= 30
    collapsed = [bool(panel.get("collapsed")) for panel in BOARDS[name]["panels"] if panel["type"] == "row"]
    assert collapsed == sorted(collapsed), "what has to be opened comes last"


@of_each_board
def test_every_variable_is_used_and_every_used_one_is_there(name: str) -> None:
    variables = [each["name"] for each in BOARDS[name]["templating"]["list"]]
    assert variables[:3] == ["datasource", "job", "instance"]
    expressions = " ".join(target.expr for target in TARGETS if target.board == name)
    used = set(re.findall(r"\$(\w+)", expressions))
    assert used - {"__rate_interval"} == set(variables) - {"datasource"}


@of_each_board
def test_variables_offer_what_prometheus_has(name: str) -> None:
    variables = {each["name"]: each for each in BOARDS[name]["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert not variables["job"]["multi"], "series of two jobs could not be joined"
    for variable in variables.values():
        assert variable["description"]
        if variable["type"] != "query":
            continue
        assert variable["datasource"] == CHOSEN_DATASOURCE
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
        assert found
        assert found[2] == variable["name"]
        assert parsed(found[1]).name in CATALOGUE
    for several in variables.keys() & {"instance", "name"}:
        variable = variables[several]
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert variable["current"]["value"] == ["$__all"]


def test_containers_are_chosen_by_name() -> None:
    assert "name" in {each["name"] for each in BOARDS["cgwatch-container"]["templating"]["list"]}


@of_each_board
def test_a_dashboard_keeps_its_address_and_refreshes_in_reason(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == name
    assert "id" not in board, "a database's number"
    assert (board["time"], board["refresh"]) == ({"from": "now-1h", "to": "now"}, "30s")
    assert board["title"]
    assert board["description"]


@of_each_board
def test_dashboards_link_to_each_other_with_variables_and_time(name: str) -> None:
    (link,) = BOARDS[name]["links"]
    assert link["type"] == "dashboards"
    assert (link["includeVars"], link["keepTime"]) == (True, True)
    assert all(set(link["tags"]) <= set(board["tags"]) for board in BOARDS.values())
