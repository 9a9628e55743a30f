"""The hard cases, one by one. ``test_ledger_properties.py`` mixes them."""

from __future__ import annotations

import os

import msgspec
import pytest

from cgwatch.discovery.recognise import recognise
from cgwatch.model import Kind
from cgwatch.oom import ledger
from cgwatch.oom.kill import Cause, OomKill, Scope, Source
from cgwatch.oom.observation import (
    ContainerDied,
    KernelKill,
    LimitWrite,
    LogLost,
    Observation,
    spelled,
)
from cgwatch.oom.state import KEPT_APART, OPEN_KILLS, PENDING_LINES, State
from cgwatch.proc.reading import text
from tests.oom.kernel import ID, Kernel

A = "/docker/" + ID["a"]
B = "/docker/" + ID["b"]
INSIDE_A = A + "/docker/" + ID["c"]
POD = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"
IN_POD = POD + "/" + ID["d"]
SERVICE = "/system.slice/x.service"


class Agent:
    """A ledger that keeps the last version of each kill."""

    def __init__(self, kernel: Kernel, *, reads_log: bool = True) -> None:
        self.kernel = kernel
        self.state, _ = ledger.begin(None, boot_id="boot", seconds=kernel.seconds, reads_log=reads_log)
        self.records: dict[int, OomKill] = {}
        self.read_all()

    def observe(self, observation: Observation) -> tuple[OomKill, ...]:
        self.state, kills = ledger.observe(self.state, observation)
        self.records |= {kill.number: kill for kill in kills}
        return kills

    def read_all(self, *, node: bool = True) -> tuple[OomKill, ...]:
        return self.observe(self.kernel.reading(complete=True, node=node))

    def wait(self, seconds: float = 60) -> None:
        """Read until nothing is open any more."""
        for _ in range(3):
            self.read_all()
            self.kernel.pass_time(seconds)

    @property
    def kills(self) -> list[OomKill]:
        return [self.records[number] for number in sorted(self.records)]

    @property
    def counts(self) -> dict[str | None, int]:
        found: dict[str | None, int] = {}
        for kill in self.kills:
            path = kill.holder.path if kill.holder and kill.attributed else None
            found[path] = found.get(path, 0) + kill.count
        return found


@pytest.fixture
def kernel() -> Kernel:
    made = Kernel()
    for path in (A, B, IN_POD, SERVICE):
        made.make(path)
    return made


@pytest.fixture
def agent(kernel: Kernel) -> Agent:
    return Agent(kernel)


# -- whose ---------------------------------------------------------------------------------------------------


def test_a_kill_counts_for_the_container_whose_counter_rose(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    (kill,) = agent.read_all()
    assert kill.attributed
    assert kill.holder is not None
    assert (kill.holder.path, kill.holder.owner.container_id) == (A, ID["a"])
    assert kill.sources == (Source.COUNTER,)
    assert kill.inode == kernel.cgroups[A].inode
    assert (agent.state.attributed, agent.state.unattributed) == (1, 0)


def test_a_kill_in_a_container_inside_another_counts_for_the_inner_one(kernel: Kernel, agent: Agent) -> None:
    kernel.make(INSIDE_A)
    kernel.kill(INSIDE_A)
    agent.read_all()
    assert agent.counts == {INSIDE_A: 1}


def test_a_kill_in_a_cgroup_that_a_container_made_counts_for_the_container(
    kernel: Kernel, agent: Agent
) -> None:
    kernel.kill(kernel.make(A + "/init.scope"))
    (kill,) = agent.read_all()
    assert agent.counts == {A: 1}
    assert kill.path == A + "/init.scope"


def test_a_kill_in_a_service_counts_for_its_unit(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(SERVICE)
    (kill,) = agent.read_all()
    assert kill.holder is not None
    assert (kill.holder.owner.kind, kill.holder.owner.unit) == (Kind.UNIT, "x.service")


def test_several_kills_in_one_read_are_a_record_each(kernel: Kernel, agent: Agent) -> None:
    for _ in range(5):
        kernel.kill(A)
    assert [kill.count for kill in agent.read_all()] == [1] * 5


def test_more_kills_in_one_read_than_are_kept_apart_are_all_counted(kernel: Kernel, agent: Agent) -> None:
    for _ in range(KEPT_APART + 1000):
        kernel.kill(A)
    kills = agent.read_all()
    assert len(kills) == KEPT_APART + 1
    assert agent.counts == {A: KEPT_APART + 1000}


# -- before and after ----------------------------------------------------------------------------------------


def test_what_the_counters_say_at_first_is_not_the_ledgers(kernel: Kernel) -> None:
    kernel.kill(A)
    agent = Agent(kernel)
    for line in kernel.log:
        agent.observe(line)
    agent.wait()
    assert agent.kills == []


def test_a_cgroup_that_is_seen_for_the_first_time_brings_all_its_kills(kernel: Kernel, agent: Agent) -> None:
    new = kernel.make("/docker/" + ID["e"])
    kernel.kill(new)
    kernel.kill(new)
    agent.read_all()
    assert agent.counts == {new: 2}


def test_a_cgroup_that_was_there_before_and_only_now_is_seen_brings_none(kernel: Kernel) -> None:
    hidden = kernel.make("/hidden")
    kernel.kill(hidden)
    first = kernel.reading(complete=True)
    agent = Agent(kernel)
    agent.state, _ = ledger.begin(None, boot_id="boot", seconds=kernel.seconds)
    counters = tuple(one for one in first.counters if one.holder.path != hidden)
    agent.observe(msgspec.structs.replace(first, counters=counters))
    agent.read_all()
    assert agent.kills == []
    assert agent.state.contradicted > 0


def test_a_cgroup_of_the_same_path_made_anew_begins_at_zero(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    agent.read_all()
    kernel.remove(A)
    kernel.make(A)
    kernel.kill(A)
    agent.read_all()
    assert agent.counts == {A: 2}
    assert len({kill.inode for kill in agent.kills}) == 2


def test_a_cgroup_that_could_not_be_read_for_a_while_loses_nothing(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    agent.read_all()
    whole = kernel.reading(complete=True)
    agent.observe(
        msgspec.structs.replace(whole, counters=tuple(one for one in whole.counters if one.holder.path != A))
    )
    kernel.kill(A)
    agent.read_all()
    assert agent.counts == {A: 2}


def test_an_older_reading_is_ignored(kernel: Kernel, agent: Agent) -> None:
    old = kernel.reading(complete=True)
    kernel.kill(A)
    agent.read_all()
    assert agent.observe(old) == ()
    assert agent.counts == {A: 1}


def test_a_reading_that_lost_the_nodes_counter_is_made_up_for_by_the_next(
    kernel: Kernel, agent: Agent
) -> None:
    kernel.kill(A)
    assert agent.read_all(node=False) == ()
    agent.read_all()
    assert agent.counts == {A: 1}


# -- gone before anyone looked -------------------------------------------------------------------------------


def test_a_kill_in_what_is_gone_is_known_by_the_cgroup_above(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(IN_POD)
    kernel.remove(IN_POD)
    (kill,) = agent.read_all()
    assert (kill.path, kill.exact, kill.attributed) == (POD, False, False)
    assert kill.sources == (Source.ANCESTOR,)
    assert (agent.state.attributed, agent.state.unattributed) == (0, 1)


@pytest.mark.parametrize("flat", [False, True], ids=["v2", "v1"])
@pytest.mark.parametrize("late", [False, True], ids=["line first", "counter first"])
def test_the_log_names_what_is_gone_whether_it_comes_first_or_last(flat: bool, late: bool) -> None:  # noqa: FBT001 - rows
    kernel = Kernel(flat=flat)
    kernel.make(A)
    kernel.make("/docker")
    agent = Agent(kernel)
    line = kernel.kill(A)
    kernel.remove(A)
    if not late:
        assert agent.observe(line) == ()
    agent.read_all()
    if late:
        assert agent.counts == {None: 1}
        agent.observe(line)
        agent.read_all()
    (kill,) = agent.kills
    assert agent.counts == {A: 1}
    assert kill.victim == line.victim
    assert kill.killed_seconds == line.seconds


def test_three_hundred_cgroups_killed_and_removed_at_once_are_all_named(kernel: Kernel, agent: Agent) -> None:
    for number in range(300):
        path = kernel.make(f"/docker/{number:064x}")
        kernel.kill(path)
        kernel.remove(path)
    for line in kernel.log:
        agent.observe(line)
    agent.read_all()
    assert (agent.state.attributed, agent.state.unattributed) == (300, 0)
    assert set(agent.counts.values()) == {1}


def test_where_the_log_holds_the_names_back_the_number_is_right_and_the_rest_is_unattributed(
    kernel: Kernel, agent: Agent
) -> None:
    for number in range(30):
        path = kernel.make(f"/docker/{number:064x}")
        kernel.kill(path, quiet=number >= 10)
        kernel.remove(path)
    for line in kernel.log:
        agent.observe(line)
    agent.wait()
    assert (agent.state.attributed, agent.state.unattributed) == (10, 20)
    assert agent.state.node == kernel.node


def test_the_runtime_names_what_the_log_did_not(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    died = kernel.died(A)
    kernel.remove(A)
    agent.observe(died)
    agent.wait(seconds=1)
    (kill,) = agent.kills
    assert agent.counts == {A: 1}
    assert Source.RUNTIME in kill.sources
    assert kill.holder is not None
    assert (kill.holder.name, kill.exit_code, kill.scope) == ("name-a", 137, Scope.MAIN)


def test_the_runtime_does_not_count_again_what_a_counter_has_told(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    agent.read_all()
    agent.observe(kernel.died(A))
    kernel.remove(A)
    kernel.kill(B)
    kernel.remove(B)
    agent.wait(seconds=1)
    assert agent.counts == {A: 1, None: 1}


def test_an_exit_status_alone_names_a_kill_only_late_and_only_if_nothing_else_can(
    kernel: Kernel, agent: Agent
) -> None:
    kernel.kill(A)
    agent.observe(kernel.died(A, oom=False))
    kernel.remove(A)
    agent.wait(seconds=1)
    assert agent.counts == {None: 1}
    kernel.pass_time(20)
    agent.read_all()
    assert agent.counts == {A: 1}


def test_two_containers_that_were_killed_at_once_share_no_kill_that_is_not_told_apart(
    kernel: Kernel, agent: Agent
) -> None:
    kernel.kill(A)
    for path in (A, B):
        agent.observe(kernel.died(path, oom=False))
        kernel.remove(path)
    agent.wait(seconds=20)
    assert agent.counts == {None: 1}


def killed_and_removed(kernel: Kernel, agent: Agent, letters: str, *, kills: int, oom: bool = False) -> None:
    """Containers that are gone with their kills, of which the kernel's log says no place."""
    paths = [kernel.make("/docker/" + ID[letter]) for letter in letters]
    agent.read_all()
    for path in paths[:kills]:
        agent.observe(kernel.kill(path, quiet=True))
    for path in paths:
        agent.observe(kernel.died(path, oom=oom))
        kernel.remove(path)
    agent.wait(seconds=20)


@pytest.mark.parametrize("flat", [False, True], ids=["v2", "v1"])
@pytest.mark.parametrize("oom", [False, True], ids=["exit status", "oom event"])
def test_as_many_containers_as_kills_that_are_all_gone_have_one_each(flat: bool, oom: bool) -> None:  # noqa: FBT001 - rows
    kernel = Kernel(flat=flat)
    agent = Agent(kernel)
    killed_and_removed(kernel, agent, "abc", kills=3, oom=oom)
    agent.wait()
    assert agent.counts == {f"/docker/{ID[letter]}": 1 for letter in "abc"}
    assert [kill.exit_code for kill in agent.kills] == [137] * 3
    assert all(kill.settled for kill in agent.kills)
    assert agent.state.unmatched_lines == 0


def test_the_victim_of_one_kill_is_not_said_to_be_that_of_another(kernel: Kernel, agent: Agent) -> None:
    killed_and_removed(kernel, agent, "ab", kills=2)
    assert [kill.victim for kill in agent.kills] == [None, None]
    killed_and_removed(kernel, agent, "c", kills=1)
    (alone,) = [kill for kill in agent.kills if kill.holder and kill.holder.name == "name-c"]
    assert alone.victim == kernel.log[-1].victim


def test_of_more_containers_than_kills_none_is_named(kernel: Kernel, agent: Agent) -> None:
    killed_and_removed(kernel, agent, "abc", kills=2)
    agent.wait()
    assert agent.counts == {None: 2}


def test_of_more_kills_than_containers_none_is_named(kernel: Kernel, agent: Agent) -> None:
    kernel.make("/gone")
    agent.observe(kernel.kill("/gone", quiet=True))
    kernel.remove("/gone")
    killed_and_removed(kernel, agent, "ab", kills=2)
    agent.wait()
    assert agent.counts == {None: 3}


def test_what_was_inside_a_container_and_cannot_be_told_is_the_containers_in_the_end(
    kernel: Kernel, agent: Agent
) -> None:
    kernel.make(INSIDE_A)
    agent.read_all()
    kernel.kill(INSIDE_A)
    kernel.remove(INSIDE_A)
    agent.read_all()
    assert agent.counts == {None: 1}
    agent.wait()
    assert agent.counts == {A: 1}


def test_a_kill_that_falls_into_a_reading_is_found_its_place_by_the_next(
    kernel: Kernel, agent: Agent
) -> None:
    read_before = kernel.reading(complete=True)
    kernel.kill(A)
    (kill,) = agent.observe(
        msgspec.structs.replace(
            read_before, node=kernel.node, seconds=kernel.seconds, monotonic_seconds=kernel.seconds
        )
    )
    assert (kill.path, kill.sources) == (None, (Source.NODE,))
    (again,) = agent.read_all()
    assert again.number == kill.number
    assert agent.counts == {A: 1}


# -- the log -------------------------------------------------------------------------------------------------


def test_a_line_that_comes_twice_is_one(kernel: Kernel, agent: Agent) -> None:
    line = kernel.kill(A)
    for _ in range(2):
        agent.observe(line)
        agent.read_all()
    agent.observe(line)
    agent.wait()
    assert agent.counts == {A: 1}
    assert agent.state.unmatched_lines == 0


def test_a_line_of_a_kill_that_no_counter_shows_makes_none(kernel: Kernel, agent: Agent) -> None:
    line = kernel.kill(A)
    agent.read_all()
    agent.observe(line)
    agent.observe(msgspec.structs.replace(line, sequence=99))
    agent.wait()
    assert agent.counts == {A: 1}
    assert agent.state.unmatched_lines == 1


def test_a_line_with_the_path_of_another_namespace_says_who_was_killed_and_not_where(
    kernel: Kernel, agent: Agent
) -> None:
    line = msgspec.structs.replace(kernel.kill(A), path="/host" + A, limit_path="/host" + A)
    agent.observe(line)
    agent.wait()
    (kill,) = agent.kills
    assert agent.counts == {A: 1}
    assert kill.victim == line.victim


def test_records_that_were_lost_are_counted(agent: Agent) -> None:
    agent.observe(LogLost(7))
    agent.observe(LogLost(None))
    assert (agent.state.lost_lines, agent.state.log_gaps) == (7, 2)


# -- why -----------------------------------------------------------------------------------------------------


def the_cause(agent: Agent, line: KernelKill | None) -> tuple[Cause, str | None]:
    if line is not None:
        agent.observe(line)
    agent.wait()
    (kill,) = agent.kills
    assert kill.settled
    return kill.cause, kill.limit_path


@pytest.mark.parametrize("with_log", [True, False], ids=["log", "counters alone"])
def test_the_cause_is_whose_limit_it_was(kernel: Kernel, agent: Agent, with_log: bool) -> None:  # noqa: FBT001 - a row
    line = kernel.kill(IN_POD, limit=POD)
    assert the_cause(agent, line if with_log else None) == (Cause.ANCESTOR_LIMIT, POD)


@pytest.mark.parametrize("with_log", [True, False], ids=["log", "counters alone"])
def test_the_limit_of_a_cgroup_inside_a_container_is_its_own(
    kernel: Kernel,
    agent: Agent,
    with_log: bool,  # noqa: FBT001 - a row
) -> None:
    line = kernel.kill(kernel.make(A + "/job"))
    assert the_cause(agent, line if with_log else None) == (Cause.OWN_LIMIT, A + "/job")


@pytest.mark.parametrize("with_log", [True, False], ids=["log", "counters alone"])
def test_where_no_limit_was_hit_the_node_was_out_of_memory(
    kernel: Kernel,
    agent: Agent,
    with_log: bool,  # noqa: FBT001 - a row
) -> None:
    line = kernel.kill(A, is_global=True)
    assert the_cause(agent, line if with_log else None) == (Cause.GLOBAL, None)


def test_on_v1_without_the_log_the_cause_is_unknown() -> None:
    kernel = Kernel(flat=True)
    kernel.make(A)
    agent = Agent(kernel)
    kernel.kill(A)
    assert the_cause(agent, None) == (Cause.UNKNOWN, None)


def test_a_kill_while_we_write_that_limit_is_ours(kernel: Kernel, agent: Agent) -> None:
    began = kernel.seconds
    agent.observe(LimitWrite(A, began))
    line = kernel.kill(A)
    agent.observe(LimitWrite(A, began, kernel.seconds + 0.1))
    assert the_cause(agent, line) == (Cause.LIMIT_WRITE, A)


def test_a_kill_long_after_we_wrote_the_limit_is_not_ours(kernel: Kernel, agent: Agent) -> None:
    agent.observe(LimitWrite(A, kernel.seconds, kernel.seconds + 0.1))
    kernel.pass_time(10)
    assert the_cause(agent, kernel.kill(A)) == (Cause.OWN_LIMIT, A)


# -- what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_main", "scope"), [(True, Scope.MAIN), (False, Scope.CHILD)])
def test_the_main_process_is_told_from_a_child(
    kernel: Kernel,
    agent: Agent,
    is_main: bool,  # noqa: FBT001 - a row
    scope: Scope,
) -> None:
    line = kernel.kill(A)
    agent.observe(line)
    whole = kernel.reading(complete=True)
    init_pid = line.victim.pid if is_main else 7
    counters = [
        msgspec.structs.replace(one, init_pid=init_pid) if one.holder.path == A else one
        for one in whole.counters
    ]
    (kill,) = agent.observe(msgspec.structs.replace(whole, counters=tuple(counters)))
    assert kill.scope is scope


def test_a_group_kill_is_a_record_for_each_that_the_kernel_counted(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    for _ in range(3):
        kernel.kill(A, group=A)
    kernel.cgroups[A].group_kills += 1
    for line in kernel.log:
        agent.observe(line)
    kills = agent.read_all()
    assert agent.counts == {A: 4}
    assert {kill.scope for kill in kills} == {Scope.GROUP}
    assert all(kill.victim for kill in kills)


def test_a_group_in_a_container_that_is_gone_is_named_by_the_log(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    for _ in range(3):
        kernel.kill(A, group=A)
    kernel.remove(A)
    for line in kernel.log:
        agent.observe(line)
    agent.wait()
    assert agent.counts == {A: 4}


# -- down ----------------------------------------------------------------------------------------------------


def restarted(agent: Agent, boot_id: str = "boot") -> Agent:
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(agent.state), type=State)
    agent.state, kills = ledger.begin(saved, boot_id=boot_id, seconds=agent.kernel.seconds)
    agent.records |= {kill.number: kill for kill in kills}
    return agent


def test_kills_while_the_agent_was_down_are_found_and_marked(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    agent.read_all()
    line = kernel.kill(B)
    kernel.remove(B)
    kernel.kill(A)
    kernel.pass_time(1000)
    restarted(agent)
    for said in kernel.log:
        agent.observe(said)
    agent.read_all()
    kernel.kill(A)
    agent.read_all()
    assert agent.counts == {A: 3, B: 1}
    assert [(kill.holder.path if kill.holder else None, kill.while_down) for kill in agent.kills] == [
        (A, False),
        (A, True),
        (B, True),
        (A, False),
    ]
    assert {kill.killed_seconds for kill in agent.kills} >= {line.seconds}


def test_a_cgroup_made_and_killed_while_the_agent_was_down_is_counted_from_zero(
    kernel: Kernel, agent: Agent
) -> None:
    new = kernel.make("/docker/" + ID["e"])
    kernel.kill(new)
    restarted(agent)
    agent.read_all()
    assert agent.counts == {new: 1}


def test_after_another_boot_the_ledger_begins_anew_and_goes_on_with_its_numbers(agent: Agent) -> None:
    agent.kernel.kill(A)
    agent.read_all()
    fresh = Kernel()
    fresh.seconds = agent.kernel.seconds + 100
    fresh.kill(fresh.make(A))
    agent.kernel = fresh
    restarted(agent, boot_id="another")
    assert agent.kills[0].settled
    agent.read_all()
    fresh.kill(A)
    agent.wait()
    assert [kill.number for kill in agent.kills] == [1, 2]
    assert ledger.begin(None, boot_id="b", seconds=1, next_number=9)[0].next_number == 9
    assert [kill.boot_id for kill in agent.kills] == ["boot", "another"]


# -- without the node's counter ------------------------------------------------------------------------------


def test_without_the_nodes_counter_the_cgroups_and_the_log_make_the_total() -> None:
    kernel = Kernel(flat=True)
    kernel.make(A)
    kernel.make(B)
    agent = Agent(kernel)
    agent.state, _ = ledger.begin(None, boot_id="boot", seconds=kernel.seconds)
    agent.read_all(node=False)
    kernel.kill(A)
    kernel.kill(B)
    kernel.remove(B)
    for line in kernel.log:
        agent.observe(line)
    agent.read_all(node=False)
    kernel.pass_time(60)
    agent.read_all(node=False)
    assert agent.counts == {A: 1, B: 1}


def test_without_anything_else_the_runtime_makes_the_total() -> None:
    kernel = Kernel(flat=True)
    agent = Agent(kernel)
    agent.state, _ = ledger.begin(None, boot_id="boot", seconds=kernel.seconds)
    agent.read_all(node=False)
    agent.observe(ContainerDied(ID["a"], kernel.seconds, kernel.died(A).holder, oom=True, exit_code=137))
    for _ in range(3):
        agent.read_all(node=False)
    assert agent.counts == {A: 1}


# -- bounds --------------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded_and_what_is_counted_is_not(kernel: Kernel, agent: Agent) -> None:
    for number in range(OPEN_KILLS + 10):
        kernel.kill(A if number % 2 else B)
        if number % 250 == 0:
            agent.read_all()
    agent.read_all()
    assert len(agent.state.open) <= OPEN_KILLS
    assert agent.state.attributed == OPEN_KILLS + 10


def test_lines_that_nobody_can_use_are_bounded(kernel: Kernel, agent: Agent) -> None:
    line = msgspec.structs.replace(kernel.kill(A), path="/elsewhere")
    for number in range(PENDING_LINES + 5):
        agent.observe(msgspec.structs.replace(line, sequence=number + 10))
    assert len(agent.state.lines) == PENDING_LINES
    assert agent.state.unmatched_lines == 5


def test_nothing_is_open_for_ever(kernel: Kernel, agent: Agent) -> None:
    kernel.kill(A)
    kernel.kill(B)
    kernel.remove(B)
    agent.observe(kernel.died(B, oom=False))
    agent.wait()
    agent.wait()
    state = agent.state
    assert (state.open, state.lines, state.deaths, state.closed, state.gone) == ((), (), (), (), {})
    assert all(kill.settled for kill in agent.kills)


def test_a_reading_that_says_nothing_new_changes_only_the_time(agent: Agent) -> None:
    agent.read_all()
    before = agent.state
    assert agent.read_all() == ()
    assert agent.state.cgroups is before.cgroups
    assert agent.state.seconds > before.seconds


def test_a_path_that_is_no_utf_8_is_the_same_from_the_tree_and_from_the_log() -> None:
    raw = b"/a\xff\xc3\xa9\\x2d"
    assert spelled(os.fsdecode(raw)) == text(raw)
    assert msgspec.json.encode(spelled(os.fsdecode(raw)))


def test_the_model_kernel_knows_whose_its_paths_are() -> None:
    assert recognise(A).kind is recognise(INSIDE_A).kind is recognise(IN_POD).kind is Kind.CONTAINER
    assert recognise(POD).kind is Kind.POD
