from __future__ import annotations

import math

from cgwatch.change import Actor, ActorKind, Target, Via
from cgwatch.discovery.recognise import recognise
from cgwatch.limits.effective import Effective
from cgwatch.limits.record import Override
from cgwatch.limits.view import Known, view_of

PATH = "/docker/" + "ab" * 32
VERSIONS = {"memory": 2, "pids": 2, "io": 2, "cpu": 2}


def target(path: str = PATH) -> Target:
    return Target(path, 7, recognise(path), "web")


def test_limits_come_in_the_order_of_the_table_and_devices_in_theirs() -> None:
    keys = ["pids.max", "io.max.rbps[8:16]", "cpu.max", "io.max.rbps[8:0]", "memory.max"]
    found = view_of(target(), dict.fromkeys(keys, math.inf), Known(VERSIONS))
    assert [each.key for each in found.limits] == [
        "memory.max",
        "cpu.max",
        "io.max.rbps[8:0]",
        "io.max.rbps[8:16]",
        "pids.max",
    ]


def test_everything_that_is_known_of_a_limit_stands_beside_it() -> None:
    actor = Actor(ActorKind.COMMAND, "alice", 1000)
    override = Override(target(), "memory.max", 50, Via.DOCKER, actor, "why", 1.0, 601.0, 3)
    known = Known(
        VERSIONS,
        {"memory.max": Effective(40, "/docker")},
        {"memory.max": 50},
        {"memory.max": 99},
        (override,),
    )
    (found,) = view_of(target(), {"memory.max": 50}, known).limits
    assert (found.configured, found.effective, found.effective_path) == (50, 40, "/docker")
    assert (found.runtime, found.baseline, found.override) == (50, 99, 50)
    assert (found.expires_seconds, found.actor, found.reason) == (601.0, actor, "why")


def test_the_way_is_that_of_the_owner_where_that_has_one() -> None:
    found = view_of(target(), {"memory.max": 1, "memory.high": 1}, Known(VERSIONS)).limits
    assert [(each.key, each.via) for each in found] == [
        ("memory.max", Via.DOCKER),
        ("memory.high", Via.CGROUPFS),
    ]


def test_what_is_protected_has_no_way_and_says_why() -> None:
    for path in ("/", "/init.scope", "/kubepods/burstable"):
        found = view_of(target(path), {"memory.max": 1}, Known(VERSIONS))
        assert [each.via for each in found.limits] == [None]
        assert found.notes[0].startswith("nobody changes its limits by cgwatch: ")
