from __future__ import annotations

from pathlib import Path

import pytest

from cgwatch.errors import ConfigError
from cgwatch.policy.language import Checked, Source, check_policies, load_policies
from cgwatch.policy.rules import Mode, Policy, Set, Shift

BROKEN = Path(__file__).parent / "broken"
EXAMPLES = sorted((Path(__file__).parents[2] / "config/policies").glob("*.yaml"))
WRONG = (
    ("no-version", 1, "has no apiVersion; write apiVersion: cgwatch/v1"),
    ("other-version", 1, "'cgwatch/v2'"),
    ("unknown-key", 5, '"limit" is not known here; did you mean limits?'),
    ("unknown-limit", 7, "memory.max"),
    ("unknown-metric", 7, "is it memory.usage.ratio"),
    ("bare-bytes", 5, "has no unit; write 512MiB"),
    ("bare-ratio", 7, "is not a percentage; write it like 90%"),
    ("bare-duration", 7, "has no unit; give a unit, such as 5s"),
    ("percent-of-what", 5, '"50%" of what? Write "50% of baseline" or "50% of host"'),
    ("no-ceiling", 8, "raises memory.max without end; add a ceiling"),
    ("floor-over-ceiling", 8, "is 4GiB, not below the ceiling of 2GiB"),
    ("clear-not-below", 9, "so it would go on and off; write clear below when"),
    ("empty-range", 7, "is at most above (2GiB), so it never holds"),
    ("same-priority", 9, "b sets pids.max with priority 0, as a (line 5) does"),
    ("two-rules-same-limit", 9, "a/s sets cpu.weight with priority 0, as a/r (line 6) does"),
    ("duplicate-key", 6, '"match" is written twice, first on line 4'),
    ("anchors", 2, "anchors (&) and aliases (*) are not taken"),
    ("tag", 2, "is not taken; write a plain value"),
    ("deep", 2, "is nested more than 16 levels deep"),
    ("cron-fields", 5, "has 4 fields, not five"),
    ("single-minutes", 5, "is in force for single minutes; add for"),
    ("time-zone", 5, "there is no time zone"),
    ("two-actions", 8, "write exactly one of set, raise"),
    ("wrong-companion", 8, "by does not go with set; what does is to"),
    ("no-window", 7, "is over a time; add window, such as window: 10m"),
    ("freeze-for-ever", 6, "freezes without end"),
    ("same-name", 6, '"a" is the name of another policy'),
    ("does-nothing", 3, "does nothing; add limits or rules"),
    ("wrong-mode", 2, "'force' is not known here"),
    ("number-as-label", 4, "put it in quotes"),
    ("kind-of-cgroup", 4, "is none of container, pod, unit, plain"),
    ("reserve-of-all", 2, "leaves nothing for containers"),
)
"""File, line and words of each broken policy."""


def check(*texts: str) -> Checked:
    return check_policies(Source(f"{index}.yaml", text.encode()) for index, text in enumerate(texts))


def only(text: str) -> Policy:
    (policy,) = load_policies([Source("p.yaml", f"apiVersion: cgwatch/v1\n{text}".encode())]).policies
    return policy


@pytest.mark.parametrize(("name", "line", "words"), WRONG)
def test_a_broken_policy_is_one_error_at_its_line_that_says_what_to_do(
    name: str, line: int, words: str
) -> None:
    path = BROKEN / f"{name}.yaml"
    checked = check_policies([Source(path.name, path.read_bytes())])

    (error,) = checked.errors
    assert error.place.startswith(f"{path.name}:{line}")
    assert words in error.problem


def test_every_broken_policy_is_in_the_table() -> None:
    assert {path.stem for path in BROKEN.iterdir()} == {name for name, _, _ in WRONG}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_never_enforces_before_somebody_says_so(path: Path) -> None:
    policies = load_policies([Source(path.name, path.read_bytes())]).policies

    assert policies
    assert all(policy.mode is not Mode.ENFORCE for policy in policies)
    assert all(rule.mode is not Mode.ENFORCE for policy in policies for rule in policy.rules)


def test_all_that_is_wrong_is_told_at_once() -> None:
    checked = check(
        """
apiVersion: cgwatch/v1
policies:
  - name: a
    match: {}
    limits: {memory.max: 5, pids.max: 5%}
    rules:
      - {name: r, when: {metric: nothing, above: 5}, do: [{notify: x}]}
      - {name: s, when: {metric: cpu.usage, above: 1}, do: [{raise: cpus, by: 1}]}
"""
    )

    assert [error.place.split(": ")[0] for error in checked.errors] == [
        "0.yaml:6",
        "0.yaml:6",
        "0.yaml:8",
        "0.yaml:9",
    ]
    assert checked.errors[0].place == '0.yaml:6: $.policies[0].limits["memory.max"]'


def test_files_are_held_against_each_other_and_the_strictest_guards_hold() -> None:
    one = (
        "apiVersion: cgwatch/v1\nguards: {maxChangesPerMinute: 5, hostReserve: {memory: 10%}, protect: [a]}\n"
    )
    two = one.replace("5", "9").replace("10%", "1GiB").replace("[a]", "[b]")
    policy = "policies: [{name: NAME, match: {name: web}, limits: {pids.max: NUMBER}}]\n"
    first = one + policy.replace("NAME", "x").replace("NUMBER", "5")
    same = two + policy.replace("NAME", "x").replace("NUMBER", "5")
    other = two + policy.replace("NAME", "y").replace("NUMBER", "6")

    assert "another policy (0.yaml:3)" in check(first, same).errors[0].problem
    assert "as x (line 3) does" in check(first, other).errors[0].problem
    guards = check(first, other.replace("name: web", "name: db")).policies.guards
    assert (guards.changes_per_minute, guards.memory_reserve_ratio) == (5, 0.1)
    assert (guards.memory_reserve_bytes, guards.protect) == (1 << 30, ("a", "b"))


def test_a_rule_has_what_its_policy_and_the_defaults_say_unless_it_says_otherwise() -> None:
    policy = only(
        """
mode: observe
defaults: {cooldown: 7s, ttl: 1h}
policies:
  - name: p
    match: {}
    priority: 3
    mode: enforce
    rules:
      - {name: a, when: {metric: cpu.usage, above: 1}, do: [{set: cpu.weight, to: 5}]}
      - name: b
        when: {not: {any: [{metric: cpu.usage, below: 1}], for: 5s}}
        do: [{lower: memory.high, by: 64MiB, floor: [1GiB, 50% of baseline]}]
        priority: 4
        mode: dry-run
        cooldown: 9s
        ttl: 2h
"""
    )
    first, second = policy.rules

    assert (first.name, first.priority, first.mode, first.cooldown_seconds, first.ttl_seconds) == (
        *("p/a", 3, Mode.ENFORCE, 7.0, 3600.0),
    )
    assert (second.priority, second.mode, second.cooldown_seconds, second.ttl_seconds) == (
        *(4, Mode.DRY_RUN, 9.0, 7200.0),
    )
    assert isinstance(first.do[0], Set)
    assert first.step_back is None
    assert isinstance(second.do[0], Shift)
    assert second.step_back == 0.1
    assert [str(bound.of) for bound in second.do[0].floor] == ["nothing", "baseline"]
    assert second.when.parts[0].for_seconds == 5.0


@pytest.mark.parametrize(
    "raw",
    [
        b"x" * (100 << 20),
        b"&a [" + b"*a, " * 1000 + b"]",
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
        b"5",
        b"a: 1\na: 2\n",
    ],
    ids=["100 MB", "aliases", "deep", "not UTF-8", "empty", "a number", "a key twice"],
)
def test_hostile_text_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^p\.yaml"):
        load_policies([Source("p.yaml", raw)])
