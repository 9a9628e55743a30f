"""Whatever the samples: decisions stay within every bound, settle under a load that settles, and replay."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cgwatch.oom.kill import Cause
from cgwatch.policy.decide import decide
from cgwatch.policy.decision import Decision, Kind
from cgwatch.policy.ready import make_ready
from cgwatch.policy.rules import Mode, PolicySet
from cgwatch.policy.situation import Host, Kill
from cgwatch.policy.state import BEGINNING
from tests.policy.world import GIBIBYTE, MEBIBYTE, Cgroup, World, policies

EVERYTHING = """
mode: enforce
guards:
  hostReserve: {memory: 20%, cpus: 1}
  neverLowerBelowUsage: {margin: 10%, min: 16MiB}
  maxChangesPerMinute: 6
policies:
  - name: all
    match: {}
    cooldown: 20s
    limits: {pids.max: 600}
    rules:
      - name: relief
        when:
          any:
            - {metric: memory.pressure.some.avg10, above: 20%, for: 10s}
            - {metric: memory.oom_kills, above: 0, window: 1m}
        clear: {metric: memory.pressure.some.avg10, below: 5%, for: 20s}
        do: [{raise: memory.max, by: 30%, ceiling: [3GiB, 250% of baseline], floor: 256MiB}]
        else: {step: 20%}
        ttl: 10m
      - name: idle
        when: {metric: memory.usage.ratio, below: 20%, for: 30s}
        clear: {metric: memory.usage.ratio, above: 50%}
        do: [{lower: memory.max, by: 10%, floor: [384MiB, 40% of baseline]}]
        priority: -1
      - name: cpu
        when: {metric: cpu.throttled.ratio, above: 25%}
        clear: {metric: cpu.throttled.ratio, below: 1%, for: 10s}
        do: [{raise: cpus, by: 50%, ceiling: 400% of baseline}]
      - name: bomb
        when: {metric: pids.current, above: 500}
        do: [{set: pids.max, to: 550}]
        priority: 5
  - name: night
    match: {name: "c*"}
    priority: 20
    schedule: {cron: "*/10 * * * *", for: 4m}
    limits: {cpu.weight: 20}
"""
HOST = Host(memory_total_bytes=6 * GIBIBYTE, cpus=4)
RESERVE = 0.2 * 6 * GIBIBYTE
READY = policies(EVERYTHING)
NO_RULES = make_ready(PolicySet((), READY.policies.guards))
_ratios = st.none() | st.sampled_from((0.0, 0.02, 0.1, 0.5, 1.0))


class Node(RuleBasedStateMachine):
    """Containers that do as they like, while somebody writes over limits now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.cgroups = [Cgroup("a"), Cgroup("b"), Cgroup("c")]
        self.world = World(READY, *self.cgroups, host=HOST)
        self.first = [dict(cgroup.current) for cgroup in self.cgroups]
        self.times: list[float] = []
        self.is_clean = True
        """Nobody but us has written."""

    def _check(self, decision: Decision, before: list[float]) -> None:
        cgroup = self.world.cgroup(decision.subject.path)
        base = cgroup.baseline.get(decision.key, cgroup.current.get(decision.key))
        assert isinstance(decision.to, int | float)
        assert isinstance(base, int | float)
        assert decision.to != decision.before
        match decision.key:
            case "memory.max":
                if decision.relief and decision.kind is Kind.WRITE and decision.to > base:
                    assert decision.to <= min(3 * GIBIBYTE, 2.5 * base)
                    assert sum(before) - self._raised(cgroup) + decision.to <= 6 * GIBIBYTE - RESERVE
                if not decision.relief:
                    used = cgroup.values["memory.working_set"]
                    assert decision.to >= used + max(0.1 * used, 16 * MEBIBYTE)
                    assert decision.to >= min(384 * MEBIBYTE, base)
            case "cpu.max":
                assert decision.to <= max(4 * base, base)
                assert decision.to <= 300_000
            case "pids.max":
                assert decision.to in {550, 600, base} or decision.to >= cgroup.values["pids.current"]
            case "cpu.weight":
                assert decision.to in {20, base}

    def _raised(self, cgroup: Cgroup) -> float:
        size, base = cgroup.current["memory.max"], cgroup.baseline.get("memory.max")
        is_raised = isinstance(size, int | float) and isinstance(base, int | float) and math.inf > size > base
        return float(size) if is_raised else 0.0

    @rule(ticks=st.integers(1, 30))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            before = {cgroup.name: self._raised(cgroup) for cgroup in self.cgroups}
            found = self.world.all
            count = len(found)
            take = Cgroup.take
            for cgroup in self.cgroups:
                cgroup.refuses = True
            self.world.tick()
            for cgroup in self.cgroups:
                cgroup.refuses = False
            for seconds, decision in found[count:]:
                self._check(decision, list(before.values()))
                take(self.world.cgroup(decision.subject.path), decision)
                before[decision.subject.name or ""] = self._raised(self.world.cgroup(decision.subject.path))
                self.times.append(seconds)

    @rule(which=st.integers(0, 2), pressure=_ratios, throttled=_ratios)
    def it_is_under_pressure(self, which: int, pressure: float | None, throttled: float | None) -> None:
        for name, value in (("memory.pressure.some.avg10", pressure), ("cpu.throttled.ratio", throttled)):
            if value is None:
                self.cgroups[which].values.pop(name, None)
            else:
                self.cgroups[which].values[name] = value

    @rule(which=st.integers(0, 2), share=st.floats(0, 1), pids=st.integers(0, 900))
    def it_uses(self, which: int, share: float, pids: int) -> None:
        cgroup = self.cgroups[which]
        limit = cgroup.current["memory.max"]
        assert isinstance(limit, int | float)
        cgroup.values["memory.working_set"] = int(share * min(limit, 4 * GIBIBYTE))
        cgroup.values["pids.current"] = pids

    @rule(which=st.integers(0, 2), cause=st.sampled_from(Cause))
    def it_is_killed(self, which: int, cause: Cause) -> None:
        self.cgroups[which].kills.append(Kill(self.world.seconds, cause))

    @rule(which=st.integers(0, 2), size=st.sampled_from((128 * MEBIBYTE, GIBIBYTE, math.inf)))
    def somebody_else_writes(self, which: int, size: float) -> None:
        self.is_clean = False
        self.cgroups[which].current["memory.max"] = size

    @rule(seconds=st.sampled_from((60, 3600, -3600)))
    def the_clock_is_set(self, seconds: int) -> None:
        self.world.seconds += seconds
        self.times.clear()

    @invariant()
    def no_minute_has_more_changes_than_are_allowed(self) -> None:
        for seconds in self.times:
            assert sum(seconds - 60 < other <= seconds for other in self.times) <= 6

    @precondition(lambda self: self.is_clean)
    @rule()
    def without_rules_every_limit_is_as_it_was(self) -> None:
        self.world.ready = NO_RULES
        for cgroup in self.cgroups:
            cgroup.values["memory.working_set"] = 0
            cgroup.values["pids.current"] = 0
            cgroup.kills.clear()
        self.time_passes(60)

        for cgroup, first in zip(self.cgroups, self.first, strict=True):
            assert {key: cgroup.current[key] for key in first} == first
        self.world.ready = READY

    def teardown(self) -> None:
        """The same history is replayed: it gives the same decisions."""
        state = BEGINNING
        decided: list[Decision] = []
        for moment, used in zip(self.world.moments, self.world.used, strict=True):
            found = decide(used, state, moment)
            state = found.state
            decided += found.decisions
        assert decided == [decision for _, decision in self.world.all]


Node.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestNode = Node.TestCase


RELIEF = """
mode: enforce
policies:
  - name: p
    match: {}
    rules:
      - name: relief
        when: {metric: METRIC, above: 80%, for: 10s}
        clear: {metric: METRIC, below: CLEAR, for: 30s}
        do: [{raise: LIMIT, by: 30%, ceiling: 1000% of baseline}]
        else: {step: 20%}
        cooldown: 30s
"""


@pytest.mark.parametrize(
    ("metric", "limit"), [("memory.usage.ratio", "memory.max"), ("cpu.usage.ratio", "cpu.max")]
)
@settings(max_examples=15, deadline=None)
@given(load=st.floats(0.1, 3), clear=st.integers(5, 79))
def test_a_load_that_stays_the_same_does_not_make_a_limit_go_up_and_down_for_ever(
    metric: str, limit: str, load: float, clear: int
) -> None:
    text = RELIEF.replace("METRIC", metric).replace("LIMIT", limit).replace("CLEAR", f"{clear}%")
    cgroup = Cgroup()
    node = World(policies(text), cgroup)
    base = float(cgroup.current[limit])

    def work(_: World) -> None:
        cgroup.values[metric] = load * base / float(cgroup.current[limit])

    node.run(6 * 3600, work)
    reliefs = [seconds for seconds, decision in node.all if decision.relief]
    begun = [later for earlier, later in itertools.pairwise(reliefs) if later - earlier > 40]

    # Each time that it has to begin again it waits twice as long: in six hours that is not often.
    assert len(begun) <= 11
    assert all(later - earlier > 30 * 2**n for n, (earlier, later) in enumerate(itertools.pairwise(begun)))
    assert all(decision.mode is Mode.ENFORCE for _, decision in node.all)
    quiet = node.run(600, work)
    assert len({decision.relief for decision in quiet}) <= 1
