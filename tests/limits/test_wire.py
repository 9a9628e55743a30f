from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup.knob import Value
from cgwatch.change import Actor, ActorKind, Change, Outcome, Report, Request, Result, Target, Via
from cgwatch.discovery.recognise import recognise
from cgwatch.limits.view import Known, View, view_of
from cgwatch.limits.wire import WireError, decode, encode

values = st.one_of(st.integers(0, 2**63 - 1), st.just(math.inf), st.sampled_from(["0-3,8", "", "0"]))
texts = st.text(st.characters(codec=None), max_size=20)
actors = st.builds(Actor, st.sampled_from(ActorKind), texts, st.none() | st.integers(0, 2**32))
targets = st.builds(
    lambda path, inode: Target(path, inode, recognise(path)), texts, st.integers(0, 2**63 - 1)
)
requests = st.builds(
    Request, targets, st.dictionaries(texts, values, max_size=3), actors, texts, st.none() | st.just(600.0)
)
changes = st.builds(Change, texts, st.none() | values, values, values, texts)
outcomes = st.builds(
    Outcome, changes, st.sampled_from(Result), st.sampled_from(Via), st.just(1e9), read_back=values
)
reports = st.builds(Report, requests, st.lists(outcomes, max_size=3).map(tuple))


@given(requests)
def test_a_request_comes_back_as_it_was_whatever_its_names_hold(request: Request) -> None:
    assert decode(encode(request), Request) == request


@given(reports)
def test_a_report_comes_back_as_it_was(report: Report) -> None:
    assert decode(encode(report), Report) == report


@given(values, st.none() | values)
def test_so_do_the_limits_of_a_cgroup(configured: Value, baseline: Value | None) -> None:
    target = Target("/max", 7, recognise("/max"), "max")
    known = Known({"memory": 2}, baselines={} if baseline is None else {"memory.max": baseline})
    view = view_of(target, {"memory.max": configured}, known)
    assert decode(encode([view]), list[View]) == [view]


@given(reports)
def test_it_is_json_of_ascii_without_numbers_that_json_has_not_got(report: Report) -> None:
    def refused(word: str) -> None:
        raise AssertionError(word)

    json.loads(encode(report).decode("ascii"), parse_constant=refused)


def test_a_path_with_bytes_that_are_no_text_comes_back() -> None:
    target = Target("/odd\udcff", 7, recognise("/odd\udcff"))
    assert decode(encode(target), Target) == target


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"target": 1}', r"at `\$\.target`"),
        (b'{"target": {"path": 1}}', r"at `\$\.target\.path`"),
        (b"\xff\xff", "decode"),
        (b"NaN", "NaN is no number of JSON"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(content: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says):
        decode(content, Request)
