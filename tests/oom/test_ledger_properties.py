"""Whatever the sources say, lose, repeat, delay or disorder: no kill is lost and none is counted twice."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cgwatch.oom import ledger
from cgwatch.oom.kill import OomKill
from cgwatch.oom.observation import LogLost, LogPlace, Observation, Reading
from cgwatch.oom.state import State, is_within
from tests.oom.kernel import ID, Kernel

PLACES = (
    "/docker/" + ID["a"],
    "/docker/" + ID["b"],
    "/docker/" + ID["a"] + "/docker/" + ID["c"],
    "/pod/" + ID["d"],
    "/pod/" + ID["e"],
    "/system.slice/x.service",
    "/plain",
)
BOOT = "boot-1"


class Ledgers(RuleBasedStateMachine):
    """An agent beside a kernel; ``is_whole``: nothing was kept from it."""

    flat = False
    with_node = True

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(flat=self.flat)
        self.kernel.make("/")
        self.state, _ = ledger.begin(None, boot_id=BOOT, seconds=self.kernel.seconds)
        self.saved: State | None = None
        self.records: dict[int, OomKill] = {}
        self.delivered = 0
        self.is_whole = True
        self.base = 0
        self.killed_before: dict[str, int] = {}
        self.attributed: dict[str, int] = {}
        self.last: Observation | None = None

    # -- the agent -------------------------------------------------------------------------------------

    def observe(self, observation: Observation) -> None:
        before = self.state
        self.state, kills = ledger.observe(before, observation)
        assert (self.state, kills) == ledger.observe(before, observation)
        for kill in kills:
            old = self.records.get(kill.number)
            assert old is None or not old.settled or kill == old
            self.records[kill.number] = kill
        if kills or not before.has_base:
            self.saved = msgspec.json.decode(msgspec.json.encode(self.state), type=State)
            assert self.saved == self.state
        self.last = observation

    @initialize(places=st.lists(st.sampled_from(PLACES), unique=True))
    def begin(self, places: list[str]) -> None:
        for place in places:
            self.kernel.make(place)
            self.kernel.kill(place)
        self.delivered = len(self.kernel.log)
        self.note_the_place()
        self.base = self.kernel.node
        self.killed_before = dict(self.kernel.killed_by_holder)
        self.observe(self.kernel.reading(complete=True, node=self.with_node))

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.kernel.pass_time(seconds)
        if self.delivered < len(self.kernel.log) and seconds >= 10:
            self.is_whole = False  # too late to be waited for

    @rule(place=st.sampled_from(PLACES))
    def a_cgroup_is_made(self, place: str) -> None:
        self.kernel.make(place)

    @rule(place=st.sampled_from(PLACES))
    def a_cgroup_is_removed(self, place: str) -> None:
        if place in self.kernel.cgroups and not any(
            path.startswith(place + "/") for path in self.kernel.cgroups
        ):
            self.kernel.remove(place)

    @rule(place=st.sampled_from(PLACES), shape=st.sampled_from(["own", "parent", "global"]))
    def a_process_is_killed(self, place: str, shape: str) -> None:
        self.kernel.make(place)
        parent = place.rsplit("/", 1)[0] or place
        self.kernel.kill(place, limit=parent if shape == "parent" else place, is_global=shape == "global")

    @rule(place=st.sampled_from(PLACES), members=st.integers(1, 4))
    def a_group_is_killed(self, place: str, members: int) -> None:
        if self.flat:
            return  # v1 has no memory.oom.group
        self.kernel.make(place)
        self.kernel.kill(place)
        for _ in range(members):
            self.kernel.kill(place, group=place)
        self.kernel.cgroups[place].group_kills += 1
        self.is_whole = False  # only the first of a group is named by the log

    @rule(place=st.sampled_from(PLACES), count=st.integers(1, 5))
    def the_kernel_says_little(self, place: str, count: int) -> None:
        self.kernel.make(place)
        for _ in range(count):
            self.kernel.kill(place, quiet=True)
        self.is_whole = False

    @rule(place=st.sampled_from(PLACES))
    def a_cgroup_is_killed_and_removed_at_once(self, place: str) -> None:
        self.kernel.make(place)
        self.kernel.kill(place)
        self.a_cgroup_is_removed(place)

    @rule()
    def everything_is_read(self) -> None:
        self.deliver(len(self.kernel.log))
        self.observe(self.kernel.reading(complete=True, node=self.with_node))

    @rule(late=st.integers(0, 3))
    def everything_is_read_but_the_end_of_the_log(self, late: int) -> None:
        self.deliver(max(len(self.kernel.log) - late, self.delivered))
        self.observe(self.kernel.reading(complete=True, node=self.with_node))

    @rule(places=st.lists(st.sampled_from(PLACES)))
    def some_is_read(self, places: list[str]) -> None:
        self.observe(self.kernel.reading(*places, node=self.with_node))

    @rule(place=st.sampled_from(PLACES), cut=st.integers(0, 8), remove=st.booleans())
    def a_kill_falls_into_a_reading(self, place: str, cut: int, remove: bool) -> None:  # noqa: FBT001 - drawn
        self.deliver(len(self.kernel.log))
        first = self.kernel.reading(complete=True).counters[:cut]
        self.kernel.make(place)
        self.kernel.kill(place)
        if remove:
            self.a_cgroup_is_removed(place)
        rest = self.kernel.reading(complete=True, node=self.with_node)
        read = {counters.holder.path: counters for counters in rest.counters} | {
            counters.holder.path: counters for counters in first
        }
        self.observe(
            msgspec.structs.replace(rest, counters=tuple(read[path] for path in sorted(read, key=str)))
        )

    def deliver(self, until: int) -> None:
        for line in self.kernel.log[self.delivered : until]:
            self.observe(line)
        self.delivered = max(until, self.delivered)
        self.note_the_place()

    def note_the_place(self) -> None:
        sequence = self.kernel.log[self.delivered - 1].sequence if self.delivered else 0
        self.state, kills = ledger.observe(self.state, LogPlace(sequence))
        assert not kills

    @rule(count=st.integers(1, 5))
    def the_log_is_read(self, count: int) -> None:
        self.deliver(min(self.delivered + count, len(self.kernel.log)))

    @precondition(lambda self: self.delivered < len(self.kernel.log))
    @rule(count=st.integers(1, 5))
    def the_log_overruns(self, count: int) -> None:
        self.delivered = min(self.delivered + count, len(self.kernel.log))
        self.is_whole = False
        self.observe(LogLost(count))

    @rule()
    def an_observation_is_repeated(self) -> None:
        if self.last is not None:
            state = self.state
            self.observe(self.last)
            assert (self.state.attributed, self.state.unattributed) == (state.attributed, state.unattributed)

    @rule(place=st.sampled_from(PLACES[:5]))
    def the_runtime_tells_of_a_kill(self, place: str) -> None:
        had = self.kernel.killed_by_holder.get(place, 0) - self.killed_before.get(place, 0)
        if had and any(
            line.path == place and line.seconds > self.kernel.seconds - 1 for line in self.kernel.log[-5:]
        ):
            self.observe(self.kernel.died(place))

    @rule(
        places=st.lists(st.sampled_from(PLACES[:5]), min_size=1, max_size=4, unique=True), oom=st.booleans()
    )
    def containers_are_killed_and_removed_at_once(self, places: list[str], oom: bool) -> None:  # noqa: FBT001 - drawn
        for place in places:
            self.kernel.make(place)
            self.kernel.kill(place, quiet=True)
            if not any(path.startswith(place + "/") for path in self.kernel.cgroups):
                self.observe(self.kernel.died(place, oom=oom))
                self.kernel.remove(place)
        self.is_whole = False

    @rule()
    def the_agent_is_restarted(self) -> None:
        self.saved = msgspec.json.decode(msgspec.json.encode(self.state), type=State)
        self.resume()

    @rule()
    def the_agent_is_killed(self) -> None:
        self.resume()

    def resume(self) -> None:
        self.last = None
        self.state, kills = ledger.begin(self.saved, boot_id=BOOT, seconds=self.kernel.seconds)
        assert not kills
        assert self.state.log_place is not None
        last = self.state.log_place.sequence
        self.delivered = sum(line.sequence <= last for line in self.kernel.log)

    # -- what must hold --------------------------------------------------------------------------------

    @invariant()
    def the_sum_is_right(self) -> None:
        total = sum(kill.count for kill in self.records.values())
        assert total == self.state.attributed + self.state.unattributed
        certain = sum(kill.count for kill in self.records.values() if kill.attributed)
        assert certain == self.state.attributed
        assert total <= self.kernel.node - self.base
        if self.state.node is not None:
            assert total == self.state.node - self.base
        if isinstance(self.last, Reading) and self.last.node is not None and self.state.node is not None:
            assert self.state.node >= self.last.node

    @invariant()
    def nobody_has_more_than_its_kills_and_never_less_than_before(self) -> None:
        counts: dict[str, int] = {}
        certain: dict[str, int] = {}
        for kill in self.records.values():
            if kill.attributed:
                assert kill.holder is not None
                assert kill.holder.path is not None
                counts[kill.holder.path] = counts.get(kill.holder.path, 0) + kill.count
                if kill.exact:
                    certain[kill.holder.path] = certain.get(kill.holder.path, 0) + kill.count
        real = {
            path: killed - self.killed_before.get(path, 0)
            for path, killed in self.kernel.killed_by_holder.items()
        }
        for path, count in certain.items():
            assert count <= real[path], path
        for path, count in counts.items():
            # A kill that is not exact was in the container, or in one inside it.
            assert count <= sum(killed for inner, killed in real.items() if is_within(inner, path)), path
        for path, count in self.attributed.items():
            assert counts[path] >= count, path
        self.attributed = counts

    @invariant()
    def no_line_of_the_log_is_used_twice(self) -> None:
        used = [kill.log_sequence for kill in self.records.values() if kill.log_sequence is not None]
        assert len(used) == len(set(used))

    def teardown(self) -> None:
        """Let everything be told: then all is known that can be known."""
        for _ in range(4):
            self.everything_is_read()
            self.kernel.pass_time(40)
        self.the_sum_is_right()
        self.nobody_has_more_than_its_kills_and_never_less_than_before()
        if self.with_node:
            assert self.state.node == self.kernel.node
            assert self.state.contradicted == 0
        if self.is_whole and self.with_node:
            assert self.state.unattributed == 0
            for path, real in self.kernel.killed_by_holder.items():
                assert self.attributed.get(path, 0) == real - self.killed_before.get(path, 0), path
        assert not self.state.open
        assert not self.state.lines


class FlatLedgers(Ledgers):
    flat = True


class LedgersWithoutNode(Ledgers):
    with_node = False


SETTINGS = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("machine", [Ledgers, FlatLedgers, LedgersWithoutNode])
def test_no_kill_is_lost_and_none_is_counted_twice(machine: type[Ledgers]) -> None:
    case = machine.TestCase
    case.settings = SETTINGS
    case("runTest").runTest()


A, B, _, POD = PLACES[:4]
Steps = Callable[[Ledgers], None]


def _a_late_line_of_one_and_a_raced_kill_of_another(ledgers: Ledgers) -> None:
    ledgers.begin(places=[A])
    ledgers.a_kill_falls_into_a_reading(cut=0, place=B, remove=True)
    ledgers.a_kill_falls_into_a_reading(cut=3, place=A, remove=False)


def _two_raced_kills_the_first_of_them_in_what_is_gone(ledgers: Ledgers) -> None:
    ledgers.begin(places=[A, POD])
    ledgers.a_kill_falls_into_a_reading(cut=4, place=POD, remove=True)
    ledgers.a_kill_falls_into_a_reading(cut=3, place=A, remove=False)


def _three_raced_kills_in_a_row(ledgers: Ledgers) -> None:
    ledgers.begin(places=[])
    ledgers.a_kill_falls_into_a_reading(cut=0, place=B, remove=True)
    ledgers.a_kill_falls_into_a_reading(cut=2, place=A, remove=False)
    ledgers.a_kill_falls_into_a_reading(cut=2, place=A, remove=False)


def _two_raced_kills_in_a_row(ledgers: Ledgers) -> None:
    ledgers.begin(places=[A])
    ledgers.a_kill_falls_into_a_reading(cut=3, place=A, remove=False)
    ledgers.a_kill_falls_into_a_reading(cut=3, place=A, remove=False)


def _a_group_found_in_part_by_the_node_alone(ledgers: Ledgers) -> None:
    ledgers.begin(places=[])
    ledgers.a_group_is_killed(place=A, members=1)
    ledgers.a_cgroup_is_killed_and_removed_at_once(place=B)
    ledgers.the_log_is_read(count=1)
    ledgers.some_is_read(places=[])
    ledgers.everything_is_read()


def _an_earlier_cgroup_of_the_same_path(ledgers: Ledgers) -> None:
    ledgers.begin(places=[])
    ledgers.a_cgroup_is_killed_and_removed_at_once(place=A)
    ledgers.a_process_is_killed(place=A, shape="own")
    ledgers.some_is_read(places=[])


def _a_line_that_named_nothing_and_was_given_away_too_soon(ledgers: Ledgers) -> None:
    ledgers.begin(places=[])
    ledgers.the_kernel_says_little(place=B, count=1)
    ledgers.a_cgroup_is_killed_and_removed_at_once(place=B)
    ledgers.everything_is_read()
    ledgers.time_passes(seconds=10.0)
    ledgers.a_kill_falls_into_a_reading(cut=0, place=A, remove=False)


def _a_cgroup_that_was_read_before_the_one_above_it(ledgers: Ledgers) -> None:
    ledgers.begin(places=[])
    ledgers.a_group_is_killed(place=A, members=1)
    ledgers.some_is_read(places=[A])


@pytest.mark.parametrize("machine", [Ledgers, FlatLedgers, LedgersWithoutNode])
@pytest.mark.parametrize(
    "steps",
    [
        _a_late_line_of_one_and_a_raced_kill_of_another,
        _two_raced_kills_the_first_of_them_in_what_is_gone,
        _two_raced_kills_in_a_row,
        _three_raced_kills_in_a_row,
        _a_group_found_in_part_by_the_node_alone,
        _an_earlier_cgroup_of_the_same_path,
        _a_line_that_named_nothing_and_was_given_away_too_soon,
        _a_cgroup_that_was_read_before_the_one_above_it,
    ],
    ids=lambda steps: steps.__name__.strip("_"),
)
def test_what_once_went_wrong(machine: type[Ledgers], steps: Steps) -> None:
    ledgers = machine()
    steps(ledgers)
    ledgers.teardown()
