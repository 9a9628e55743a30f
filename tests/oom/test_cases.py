"""Recorded kills of real kernels: what is said of each, held against what was done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cgwatch.cli import cli
from cgwatch.oom.explain import Explanation
from cgwatch.oom.history import SPACING_SECONDS
from cgwatch.oom.kill import Cause, Scope
from cgwatch.oom.shape import Shape
from cgwatch.oom.statement import Statement
from cgwatch.units import parse_size
from tests.oom.cases.derived import words
from tests.oom.cases.recorded import Recorded, load, names, text_of

MIB = 1 << 20
CASES = {name: load(name) for name in names()}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def found(said: Explanation, topic: str) -> Statement:
    return next(each for each in (*said.facts, *said.advice) if each.topic == topic)


@each_case
def test_the_verdicts_are_what_was_done(case: Recorded) -> None:
    verdicts, truth = case.explained().verdicts, case.truth

    assert verdicts.cause is (truth.cause if truth.is_told else Cause.UNKNOWN)
    assert (verdicts.limit_path, verdicts.limit_bytes) == (truth.limit_path, truth.limit_bytes)
    assert verdicts.limit_is_inferred is not truth.is_told
    assert verdicts.consumer is truth.consumer
    assert verdicts.could_reclaim is truth.could_reclaim
    assert verdicts.shape is truth.shape
    assert verdicts.scope is truth.scope


@each_case
def test_the_sizes_are_what_was_taken(case: Recorded) -> None:
    said, truth = case.explained(), case.truth
    usage = found(said, "usage").numbers

    if truth.consumer_bytes is not None:
        assert usage[f"{truth.consumer}_bytes"] == pytest.approx(truth.consumer_bytes, rel=0.1)


@each_case
def test_the_pace_and_how_long_it_went_on_are_what_was_done(case: Recorded) -> None:
    said, truth = case.explained(), case.truth
    growth = found(said, "growth")

    if truth.shape is Shape.GROWTH and truth.bytes_per_second is not None:
        assert growth.numbers["bytes_per_second"] == pytest.approx(truth.bytes_per_second, rel=0.1)
    if truth.growing_seconds is not None:
        assert growth.numbers["window_seconds"] == pytest.approx(
            truth.growing_seconds, abs=SPACING_SECONDS + 1
        )


@each_case
def test_it_names_whose_it_was_who_was_killed_and_how_often(case: Recorded) -> None:
    said, truth, victim = case.explained(), case.truth, case.kill.victim

    assert truth.name in (None, said.name)
    assert victim is not None
    assert truth.victim_pid in (None, victim.pid)
    assert truth.exit_code in (None, case.kill.exit_code)
    assert len(case.earlier) == truth.kills - 1
    is_again = truth.kills > 1 and truth.scope is not Scope.GROUP
    assert ("repeats" in [each.topic for each in said.facts]) == is_again
    if truth.culprit is not None:
        (largest,) = [each for each in said.facts if each.topic == "largest"]
        assert next(iter(largest.numbers)).endswith(truth.culprit) or truth.culprit in largest.text


# Nothing is made up.

QUANTITY = re.compile(r"(?<![\w./:-])\d[\w.]*%?")
COMMAND = re.compile(r" \(docker update [^)]*\)|\S*/\S*|\b[0-9a-f]{12}\b|\d+(?:st|nd|rd|th)\b")
"""What holds digits and states no quantity: a command that repeats a number, a path, an id, an ordinal."""


def sentences(said: Explanation) -> Iterator[str]:
    yield said.summary
    yield from (each.text for each in (*said.facts, *said.advice))
    yield from said.not_known


@each_case
def test_every_number_that_is_said_follows_from_the_evidence(case: Recorded) -> None:
    may_be_said = words(case)
    for text in sentences(case.explained()):
        for quantity in QUANTITY.findall(COMMAND.sub("", text)):
            assert quantity.rstrip(".") in may_be_said, f"{quantity} in: {text}"


def test_a_number_that_is_not_in_the_evidence_would_be_found_out() -> None:
    may_be_said = words(CASES["leak_v1"])

    assert "64MiB" in may_be_said
    assert may_be_said.isdisjoint({"65MiB", "63MiB", "31MiB", "100MiB", "80%", "12s", "5m"})


@each_case
def test_a_limit_that_is_advised_is_above_the_one_that_was_hit_and_can_be_set_as_it_stands(
    case: Recorded,
) -> None:
    for advice in case.explained().advice:
        wanted = advice.numbers.get("wanted_bytes") or advice.numbers.get("doubled_bytes")
        if wanted is None:
            continue
        assert wanted > max(case.truth.limit_bytes or 0, case.truth.consumer_bytes or 0)
        assert wanted % MIB == 0
        for size in re.findall(r"--memory (\S+)", advice.text):
            assert parse_size(size) == wanted


@each_case
def test_there_is_something_to_do_and_nothing_is_unknown_that_the_recorder_could_see(case: Recorded) -> None:
    said = case.explained()

    assert said.advice
    for text, begin in zip(said.not_known, case.truth.not_known, strict=True):
        assert text.startswith(begin)


@pytest.mark.parametrize("name", CASES)
def test_the_verb_says_it_as_it_is_kept_beside_the_case(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    case.store(tmp_path)

    arguments = ["oom", "explain", str(case.kill.number), "--state-dir", str(tmp_path)]
    result = CliRunner().invoke(cli, arguments, prog_name="cgwatch")

    assert result.exit_code == 0, result.output
    assert result.stdout.split("\n", 1)[1] == text_of(name)
