"""Rules and examples for Prometheus and Alertmanager are what these take, and ask for what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from cgwatch.oom.kill import Cause, Scope
from cgwatch.oom.sources import EventSource
from tests.prometheus.rules import ALERTS, CONFIG, FILES, FOLDER, RECORDS, RULES, TESTS, name_of
from tests.promql import COUNTERS, KNOWN, LABELS, selectors
from tests.real.needs import require

OF_SCRAPE = {"job", "instance"}
SEVERITIES = {"critical", "warning", "info"}
OWN_COMMANDS = {"oom list", "oom explain", "doctor", "run"}
of_each_rule = pytest.mark.parametrize("rule", RULES, ids=name_of)
of_each_alert = pytest.mark.parametrize("alert", ALERTS, ids=name_of)


def said(*command: str | Path) -> str:
    """Run a program that must like what it gets, and give what it says."""
    package = "prometheus-alertmanager" if command[0] == "amtool" else "prometheus"
    require(None if shutil.which(str(command[0])) else f"needs {command[0]}, of the Debian package {package}")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def nodes(expr: str) -> Iterator[Any]:
    """Give every part of an expression."""
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expr), found.append)
    return iter(found)


def test_promtool_takes_the_rules_and_they_are_as_many_as_there_are() -> None:
    found = re.findall(r"SUCCESS: (\d+) rules found", said("promtool", "check", "rules", *FILES))
    assert sum(map(int, found)) == len(RULES) > 20


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.name)
def test_alerts_fire_and_series_are_recorded_as_their_examples_say(tests: Path) -> None:
    assert "SUCCESS" in said("promtool", "test", "rules", tests)


def test_every_alert_has_an_example_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    examples = [
        example
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for example in test.get("alert_rule_test", ())
    ]
    fired = {
        (example["alertname"], alert["exp_labels"].get("reason"))
        for example in examples
        for alert in example.get("exp_alerts", ())
    }
    silent = {example["alertname"] for example in examples if not example.get("exp_alerts")}
    assert fired == {(alert["alert"], alert["labels"].get("reason")) for alert in ALERTS}
    assert silent == {alert["alert"] for alert in ALERTS}


def test_every_record_has_an_example() -> None:
    (examples,) = (path for path in TESTS if "recording" in path.name)
    shown = re.findall(r"- expr: ([\w:]+)", examples.read_text())
    assert sorted(shown) == sorted(rule["record"] for rule in RECORDS)


@of_each_rule
def test_an_expression_asks_for_metrics_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    for selector in selectors(rule["expr"]):
        assert selector.name in KNOWN
        used = {matcher.name for matcher in selector.matchers.matchers}
        assert used <= LABELS[selector.name] | OF_SCRAPE, selector.name
    has = set().union(*(LABELS[each.name] for each in selectors(rule["expr"]))) | OF_SCRAPE
    for node in nodes(rule["expr"]):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            assert set(node.modifier.labels) <= has
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            assert set(node.modifier.matching.labels) <= has


@of_each_rule
def test_counters_are_only_used_through_their_growth(rule: dict[str, Any]) -> None:
    counters = {each.name for each in selectors(rule["expr"])} & COUNTERS
    grown = re.findall(r"(?:rate|increase|min_over_time)\((\w+)", rule["expr"])
    assert counters <= set(grown)


def labels_of(expr: str) -> set[str]:
    """Give the labels that an alert's series may have: those of what stands first in its expression."""
    node = promql_parser.parse(expr)
    dropped: set[str] = set()
    while True:
        match node:
            case promql_parser.BinaryExpr():
                node = node.lhs
            case promql_parser.ParenExpr():
                node = node.expr
            case promql_parser.Call():
                node = node.args[0]
            case promql_parser.MatrixSelector():
                node = node.vector_selector
            case promql_parser.AggregateExpr():
                assert node.modifier
                assert node.modifier.type == promql_parser.AggModifierType.Without
                dropped |= set(node.modifier.labels)
                node = node.expr
            case promql_parser.VectorSelector():
                return (LABELS[node.name or ""] | OF_SCRAPE) - dropped
            case _:
                raise AssertionError(f"no rule for {node}")


@of_each_alert
def test_an_alert_says_what_is_wrong_where_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in SEVERITIES
    assert set(alert["annotations"]) == {"summary", "description"}
    words = " ".join(alert["annotations"].values())
    assert "$labels.instance" in alert["annotations"]["summary"]
    assert "What to do: " in alert["annotations"]["description"]
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= labels_of(alert["expr"])
    assert all("| humanize" in each for each in re.findall(r"\{\{[^}]*\$value[^}]*\}\}", words))
    assert set(re.findall(r"`cgwatch ([a-z]+(?: [a-z]+)?)", words)) <= OWN_COMMANDS


@of_each_alert
def test_what_an_alert_names_is_called_so_elsewhere(alert: dict[str, Any]) -> None:
    words = " ".join(alert["annotations"].values())
    assert set(re.findall(r"\b(?:container|cgwatch)_\w+", words)) <= KNOWN | set(EventSource)
    assert set(re.findall(r"the cause (\w+)", words)) <= set(Cause)
    assert set(re.findall(r"the scope (\w+)", words)) <= set(Scope)


@pytest.mark.parametrize("rule", RECORDS, ids=name_of)
def test_a_record_is_named_by_level_metric_and_operation(rule: dict[str, Any]) -> None:
    level, _, operations = rule["record"].split(":")
    by = {"container": {"job", "instance", "id", "name"}, "instance": {"job", "instance"}, "job": {"job"}}
    aggregated = [node for node in nodes(rule["expr"]) if isinstance(node, promql_parser.AggregateExpr)]
    assert aggregated
    assert all(node.modifier and set(node.modifier.labels) == by[level] for node in aggregated)
    windows = set(re.findall(r"\[(\w+)\]", rule["expr"]))
    assert windows == set(re.findall(r"\d+[smhd]$", operations))
    assert ("ratio" in operations) == (" / " in rule["expr"])


def test_prometheus_takes_its_example_with_all_rules() -> None:
    found = said("promtool", "check", "config", FOLDER / "prometheus.yml")
    assert f"SUCCESS: {len(FILES)} rule files found" in found


def test_alertmanager_takes_its_example() -> None:
    found = said("amtool", "check-config", CONFIG / "alertmanager" / "alertmanager.yml")
    assert "SUCCESS" in found
    assert "2 inhibit rules" in found


@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "duty"), ("warning", "team"), ("info", "team")]
)
def test_alertmanager_sends_each_severity_to_its_receiver(severity: str, receiver: str) -> None:
    file = f"--config.file={CONFIG / 'alertmanager' / 'alertmanager.yml'}"
    found = said("amtool", "config", "routes", "test", file, f"severity={severity}")
    assert found.splitlines()[0] == receiver


def test_alertmanager_is_told_of_alerts_and_labels_that_there_are() -> None:
    example = yaml.safe_load((CONFIG / "alertmanager" / "alertmanager.yml").read_text())
    pairs = [
        re.fullmatch(r'(\w+)!?="([^"]+)"', matcher)
        for rule in example["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
    ]
    names = {"alertname": {alert["alert"] for alert in ALERTS}}
    names["reason"] = {alert["labels"].get("reason") for alert in ALERTS}
    assert pairs
    assert all(pair and pair[2] in names[pair[1]] for pair in pairs)
    again = labels_of(next(alert["expr"] for alert in ALERTS if alert["alert"] == "ContainerOomLoop"))
    assert set(example["inhibit_rules"][0]["equal"]) == again
