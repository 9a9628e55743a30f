from __future__ import annotations

import itertools
import math

import msgspec
import pytest

from cgwatch.oom.kill import Cause
from cgwatch.policy.decide import farewell
from cgwatch.policy.decision import Kind
from cgwatch.policy.rules import Mode
from cgwatch.policy.situation import Host, Kill
from cgwatch.policy.state import State
from tests.policy.world import GIBIBYTE, MEBIBYTE, NOTHING, Cgroup, World, policies, texts

RELIEF = """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: relief
        when: {metric: memory.pressure.some.avg10, above: 20%, for: 30s}
        clear: {metric: memory.pressure.some.avg10, below: 5%, for: 1m}
        do: [{raise: memory.max, by: 20%, ceiling: 2GiB}]
        else: {step: 10%}
        cooldown: 1m
"""
PRESSURE = "memory.pressure.some.avg10"


def world(text: str, *cgroups: Cgroup) -> World:
    return World(policies(text), *cgroups)


def test_a_condition_has_to_hold_for_its_time_and_the_reason_has_the_numbers() -> None:
    node = world(RELIEF)
    node.cgroups[0].values[PRESSURE] = 0.25

    assert node.run(30) == []
    (decision,) = node.run(5)
    assert (decision.key, decision.before, decision.by, decision.relief) == (
        *("memory.max", GIBIBYTE, "p/relief", True),
    )
    assert decision.to == int(GIBIBYTE * 1.2) // 4096 * 4096
    assert decision.reason == "memory.pressure.some.avg10 is 25%, above 20% for 30s"


def test_a_moment_in_which_it_does_not_hold_begins_the_time_anew() -> None:
    node = world(RELIEF)
    values = node.cgroups[0].values
    values[PRESSURE] = 0.25
    node.run(25)
    values[PRESSURE] = 0.1
    node.run(5)
    values[PRESSURE] = 0.25

    assert node.run(30) == []
    assert len(node.run(5)) == 1


def test_nothing_holds_across_a_hole_in_the_history() -> None:
    node = world(RELIEF)
    node.cgroups[0].values[PRESSURE] = 0.25
    node.run(10)
    node.tick(300)

    assert node.run(25) == []
    assert len(node.run(5)) == 1


def test_a_missing_metric_does_nothing_and_says_so_once() -> None:
    node = world(RELIEF)

    assert node.run(120) == []
    assert node.notes == ["memory.pressure.some.avg10 cannot be told, so nothing is done"]


def test_relief_comes_again_after_its_cooldown_and_never_past_its_ceiling() -> None:
    node = world(RELIEF)
    node.cgroups[0].values[PRESSURE] = 0.9
    node.run(3600)

    times = [seconds for seconds, _ in node.all]
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))
    assert [decision.to for _, decision in node.all][-1] == 2 * GIBIBYTE
    assert len(times) == 4
    assert "memory.max is 2GiB, where its bounds end: nothing more is done" in node.notes


def test_after_it_ended_the_limit_goes_back_slowly_to_where_it_was_and_never_below_what_is_used() -> None:
    node = world(RELIEF)
    values = node.cgroups[0].values
    values[PRESSURE] = 0.9
    node.run(600)
    values[PRESSURE] = 0.0
    values["memory.working_set"] = 1200 * MEBIBYTE
    back = node.run(3600)

    sizes = [decision.to for decision in back]
    assert sizes == sorted(sizes, key=lambda size: -float(size or 0))
    assert node.cgroups[0].current["memory.max"] == pytest.approx(1320 * MEBIBYTE, abs=8192)
    values["memory.working_set"] = 100 * MEBIBYTE
    node.run(3600)
    assert node.cgroups[0].current["memory.max"] == GIBIBYTE
    assert node.run(3600) == []


def test_a_rule_that_went_away_gives_back_what_it_changed() -> None:
    node = world(RELIEF)
    node.cgroups[0].values[PRESSURE] = 0.9
    node.run(300)
    assert node.cgroups[0].current["memory.max"] != GIBIBYTE
    node.ready = NOTHING
    (decision,) = node.run(300)

    assert (decision.kind, decision.to) == (Kind.RESTORE, GIBIBYTE)
    assert decision.reason == "no rule wants it any more: back to 1GiB, as it was"


def test_a_state_that_was_kept_over_a_restart_goes_on_where_it_was() -> None:
    kept, other = world(RELIEF), world(RELIEF)
    for node in (kept, other):
        node.cgroups[0].values[PRESSURE] = 0.9
        node.run(90)
    kept.state = msgspec.msgpack.decode(msgspec.msgpack.encode(kept.state), type=State)

    assert kept.state == other.state
    assert kept.run(300) == other.run(300) != []


def test_on_rule_removed_keep_leaves_it() -> None:
    node = world(RELIEF.replace("policies:", "defaults: {onRuleRemoved: keep}\npolicies:"))
    node.cgroups[0].values[PRESSURE] = 0.9
    node.run(300)
    node.ready = NOTHING

    assert node.run(300) == []


@pytest.mark.parametrize(("leaving", "count"), [("restore", 1), ("keep", 0)])
def test_the_end_of_the_agent_is_by_on_exit(leaving: str, count: int) -> None:
    node = world(RELIEF.replace("policies:", f"defaults: {{onExit: {leaving}}}\npolicies:"))
    node.cgroups[0].values[PRESSURE] = 0.9
    node.run(300)
    node.tick()

    last = farewell(node.ready, node.state, node.moments[-1])
    assert [decision.to for decision in last] == [GIBIBYTE] * count


def test_a_dry_run_decides_the_same_and_nothing_is_written() -> None:
    node = world(RELIEF.replace("enforce", "dry-run"))
    node.cgroups[0].values[PRESSURE] = 0.9
    decisions = node.run(180)

    assert decisions
    assert {decision.mode for decision in decisions} == {Mode.DRY_RUN}
    assert {decision.to for decision in decisions} == {int(GIBIBYTE * 1.2) // 4096 * 4096}
    assert node.cgroups[0].current["memory.max"] == GIBIBYTE


OOM = """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: after-kill
        when: {metric: memory.oom_kills, above: 0, window: 5m}
        do: [{raise: memory.max, by: 50%, ceiling: 150% of baseline}]
        cooldown: 10s
"""


def test_a_raise_that_its_own_kills_feed_ends_at_the_ceiling() -> None:
    node = world(OOM)

    def kill(node: World) -> None:
        node.cgroups[0].kills.append(Kill(node.seconds, Cause.OWN_LIMIT))

    assert texts(node.run(600, kill)) == [("memory.max", GIBIBYTE * 3 // 2)]


def test_kills_that_a_limit_of_ours_made_raise_nothing() -> None:
    node = world(OOM)

    def kill(node: World) -> None:
        node.cgroups[0].kills.append(Kill(node.seconds, Cause.LIMIT_WRITE))

    assert node.run(600, kill) == []


LIMITS = """
mode: enforce
policies:
  - name: low
    match: {}
    limits: {pids.max: 500, cpus: 0.5}
    cooldown: 1m
  - name: high
    match: {labels: {tier: batch}}
    priority: 10
    limits: {pids.max: 200}
"""


def test_limits_hold_and_the_highest_priority_is_heard() -> None:
    web, batch = Cgroup("web"), Cgroup("batch")
    batch.labels = {"tier": "batch"}
    node = world(LIMITS, web, batch)
    node.run(60)

    assert (web.current["pids.max"], web.current["cpu.max"]) == (500, 50_000)
    assert (batch.current["pids.max"], batch.current["cpu.max"]) == (200, 50_000)
    batch.labels = {}
    node.run(120)
    assert batch.current["pids.max"] == 500


@pytest.mark.parametrize(("on_conflict", "value"), [("reassert", 500), ("yield", 700)])
def test_what_somebody_else_wrote_is_written_over_or_left(on_conflict: str, value: int) -> None:
    node = world(LIMITS.replace("policies:", f"defaults: {{onConflict: {on_conflict}}}\npolicies:"))
    node.run(60)
    node.cgroups[0].current["pids.max"] = 700
    node.run(300)

    assert node.cgroups[0].current["pids.max"] == value
    left = "somebody else made pids.max 700; it is left so (onConflict: yield)"
    assert (left in node.notes) == (on_conflict == "yield")


def test_what_somebody_else_wrote_is_not_brought_back_to_the_baseline() -> None:
    node = world(LIMITS)
    node.run(60)
    node.cgroups[0].current["pids.max"] = 700
    node.ready = NOTHING
    node.run(300)

    assert node.cgroups[0].current["pids.max"] == 700
    assert node.cgroups[0].current["cpu.max"] == 100_000


def test_an_override_wins_until_it_ends() -> None:
    node = world(LIMITS)
    cgroup = node.cgroups[0]
    cgroup.current["pids.max"] = 900
    cgroup.overrides["pids.max"] = node.seconds + 300
    node.run(295)
    assert cgroup.current["pids.max"] == 900
    assert "pids.max was set by hand, which holds" in node.notes
    node.run(60)
    assert cgroup.current["pids.max"] == 500


def test_what_the_kernel_refuses_is_not_asked_for_at_every_moment() -> None:
    node = world(LIMITS)
    node.cgroups[0].refuses = True

    assert len(node.run(600)) == 2 * 10


def test_a_time_to_live_ends_it_until_the_condition_was_untrue() -> None:
    node = world(
        """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: stop
        when: {metric: pids.current, above: 100}
        do: [{freeze: true}, {notify: "many processes"}]
        ttl: 5m
        cooldown: 10s
"""
    )
    cgroup = node.cgroups[0]
    cgroup.values["pids.current"] = 500
    assert texts(node.run(1800)) == [("cgroup.freeze", 1), ("notify", None), ("cgroup.freeze", 0)]
    assert node.all[0][1].reason == "pids.current is 500, above 100"
    assert node.all[2][1].relief
    cgroup.values["pids.current"] = 5
    node.run(10)
    cgroup.values["pids.current"] = 500
    assert texts(node.run(60)) == [("cgroup.freeze", 1), ("notify", None)]


def test_changes_of_a_minute_are_bounded_and_relief_comes_first() -> None:
    needy, idle = Cgroup("z-needy"), [Cgroup(f"idle-{n}") for n in range(10)]
    needy.current["pids.max"] = 100
    node = world(
        """
mode: enforce
guards: {maxChangesPerMinute: 3}
policies: [{name: p, match: {}, limits: {pids.max: 500}}]
""",
        *idle,
        needy,
    )
    first = node.tick().decisions

    assert [decision.subject.name for decision in first] == ["z-needy", "idle-0", "idle-1"]
    assert node.run(50) == []
    assert "pids.max: 3 changes were made in this minute (maxChangesPerMinute)" in node.notes
    node.run(300)
    assert {cgroup.current["pids.max"] for cgroup in (needy, *idle)} == {500}


def test_all_that_is_raised_leaves_the_node_its_reserve() -> None:
    cgroups = [Cgroup(f"c{n}") for n in range(5)]
    for cgroup in cgroups:
        cgroup.values[PRESSURE] = 0.9
    node = World(
        policies(RELIEF.replace("policies:", "guards: {hostReserve: {memory: 25%}}\npolicies:")),
        *cgroups,
        host=Host(memory_total_bytes=8 * GIBIBYTE, cpus=4),
    )
    node.run(1800)
    raised = [float(cgroup.current["memory.max"]) for cgroup in cgroups]

    assert sum(size for size in raised if size > GIBIBYTE) <= 6 * GIBIBYTE
    assert sum(raised) > 5.9 * GIBIBYTE
    assert any("(hostReserve)" in note for note in node.notes)


def test_after_a_kill_no_memory_is_taken_away_for_ten_minutes() -> None:
    node = world("mode: enforce\npolicies: [{name: p, match: {}, limits: {memory.max: 512MiB}}]\n")
    node.cgroups[0].kills.append(Kill(node.seconds, Cause.GLOBAL))

    assert node.run(590) == []
    assert texts(node.run(60)) == [("memory.max", 512 * MEBIBYTE)]


def test_a_rule_that_lowers_never_raises_whatever_became_of_the_limit() -> None:
    node = world(
        """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: idle
        when: {metric: pids.current, below: 50}
        do: [{lower: memory.max, by: 10%, floor: 256MiB}]
        cooldown: 1h
"""
    )
    node.cgroups[0].kills.append(Kill(node.seconds, Cause.GLOBAL))  # so that it is held back at first
    node.run(60)
    node.cgroups[0].current["memory.max"] = 512 * MEBIBYTE

    assert node.run(1800) == []
    assert node.cgroups[0].current["memory.max"] == 512 * MEBIBYTE


def test_a_limit_that_follows_what_is_used_down_is_lowered_once_a_cooldown() -> None:
    node = world(
        "mode: enforce\npolicies: [{name: p, match: {}, cooldown: 1m, limits: {memory.max: 512MiB}}]\n"
    )
    values = node.cgroups[0].values
    values["memory.working_set"] = 900 * MEBIBYTE

    def shrink(_: World) -> None:
        values["memory.working_set"] -= 5 * MEBIBYTE

    node.run(600, shrink)
    times = [seconds for seconds, _ in node.all]
    assert len(times) > 3
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(times))
    assert node.cgroups[0].current["memory.max"] == 512 * MEBIBYTE


def test_memory_is_not_lowered_while_nobody_knows_what_is_used() -> None:
    node = world("mode: enforce\npolicies: [{name: p, match: {}, limits: {memory.max: 512MiB}}]\n")
    del node.cgroups[0].values["memory.working_set"]

    assert node.run(60) == []
    assert node.notes == ["memory.working_set cannot be told, so memory.max is not lowered"]


def test_a_device_is_throttled_by_its_number_and_let_go_again() -> None:
    node = world(
        """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: slow
        when: {metric: io.write, above: 50MiB/s}
        do: [{throttle: /dev/sda, write: 20MiB/s}]
        cooldown: 10s
"""
    )
    node.cgroups[0].values["io.write"] = 80 * MEBIBYTE
    assert texts(node.run(60)) == [("io.max.wbps[8:0]", 20 * MEBIBYTE)]
    node.cgroups[0].values["io.write"] = 1
    assert texts(node.run(120)) == [("io.max.wbps[8:0]", math.inf)]


def test_a_device_that_the_node_has_not_got_is_told() -> None:
    node = world(
        """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: slow
        when: {metric: pids.current, above: 0}
        do: [{throttle: /dev/sdz, reads: 20/s}, {set: memory.low, to: 5MiB}]
"""
    )

    assert node.run(60) == []
    assert node.notes == [
        "io.max.riops[/dev/sdz]: the node has no such block device",
        "the container has no memory.low here",
    ]


def test_memory_is_reclaimed_a_little_each_cooldown() -> None:
    node = world(
        """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: probe
        when: {metric: memory.pressure.some.avg60, below: 1%}
        do: [{reclaim: 10%, max: 8MiB}]
        cooldown: 1m
"""
    )
    node.cgroups[0].values["memory.pressure.some.avg60"] = 0.0

    assert texts(node.run(180)) == [("reclaim", 8 * MEBIBYTE)] * 3


def test_growth_and_the_time_to_the_limit_come_from_the_history() -> None:
    node = world(
        """
policies:
  - name: p
    match: {}
    rules:
      - name: soon
        when: {metric: memory.time_to_limit, below: 10m, window: 2m}
        do: [{notify: "soon full"}]
"""
    )

    def grow(node: World) -> None:
        node.cgroups[0].values["memory.working_set"] += 5 * MEBIBYTE

    assert node.run(105, grow) == []
    decisions = node.run(1500, grow)
    assert [decision.kind for decision in decisions] == [Kind.NOTIFY]
    assert decisions[0].reason.startswith("soon full: memory.time_to_limit over 2m is 9m")


def test_a_container_that_is_made_anew_begins_anew() -> None:
    node = world(RELIEF)
    cgroup = node.cgroups[0]
    cgroup.values[PRESSURE] = 0.9
    node.run(300)
    node.cgroups = (Cgroup("other"),)
    node.tick()

    assert list(node.state.containers) == [("/docker/other", 7)]


def test_an_enforced_rule_is_not_held_up_by_one_that_only_observes() -> None:
    node = world(
        """
mode: enforce
policies:
  - {name: low, match: {}, limits: {pids.max: 500}}
  - {name: high, match: {}, priority: 5, mode: observe, limits: {pids.max: 300}}
"""
    )

    assert [(decision.mode, decision.to) for decision in node.tick().decisions] == [
        (Mode.ENFORCE, 500),
        (Mode.OBSERVE, 300),
    ]
    assert node.cgroups[0].current["pids.max"] == 500


def test_a_schedule_ends_what_it_began() -> None:
    node = world(
        """
mode: enforce
policies:
  - name: night
    match: {}
    schedule: {cron: "0 22 * * *", for: 8h}
    limits: {cpus: 50% of host}
"""
    )
    node.seconds = 1_764_021_600.0 - 60  # 22:00 UTC, but for a minute
    node.run(55)
    assert node.cgroups[0].current["cpu.max"] == 100_000
    node.run(5)
    assert node.cgroups[0].current["cpu.max"] == 400_000
    node.seconds += 8 * 3600
    node.run(120)
    assert node.cgroups[0].current["cpu.max"] == 100_000
