from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.memory import MemoryEvents, MemoryStats
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import KernelFileError
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot
from cgwatch.oom.evidence import Evidence
from cgwatch.oom.keeper import Keeper, Store
from cgwatch.oom.kill import Holder, OomKill
from cgwatch.oom.readings import Counters, holder_of
from cgwatch.oom.state import State
from cgwatch.oom.tally import Tally, series_of
from cgwatch.proc.machine import Machine
from cgwatch.storage import Storage, StorageError

ID = "0123456789abcdef" * 4
PATH = f"/docker/{ID}"
RETAIN_SECONDS = 3600.0


class Node:
    """A node of two cgroups whose counters a test sets, and the agent's keeper on it."""

    def __init__(self, folder: Path, store: Store | None) -> None:
        self.proc = folder / "proc"
        self.proc.mkdir(exist_ok=True)
        self.store = store
        self.seconds = 1000.0
        self.kills = self.total = 0
        self.inode = 7
        self.boot_id = "one"
        self.said: list[str] = []
        self.failures: list[KernelFileError] = []
        self.start()

    def start(self) -> None:
        """Begin as a new agent."""
        self.keeper = Keeper(
            proc_root=str(self.proc),
            clock=lambda: self.seconds,
            monotonic=lambda: self.seconds,
            tally=Tally(retain_seconds=RETAIN_SECONDS, most_series=10),
            observer=self,
            failed=self.failures.append,
            store=self.store,
        )

    def oom_counted(self, source: str, _seconds: float | None, /) -> None:
        self.said.append(source)

    def tick(self, *, gone: bool = False) -> None:
        self.seconds += 5
        (self.proc / "vmstat").write_text(f"oom_kill {self.total}\n")
        described = Description(Runtime.DOCKER, ID, "web", "web:1", {}, "running")
        events = MemoryEvents(oom=0, oom_kill=self.kills)
        memory = MemoryStats(events=events, events_local=events)
        of_root = MemoryStats(events=MemoryEvents(oom_kill=self.total))
        samples = [Sample(Container(Cgroup("/", 1), recognise("/")), memory=of_root)]
        if not gone:
            owner = recognise(PATH)
            samples.append(Sample(Container(Cgroup(PATH, self.inode), owner, 1.0, described), memory=memory))
        machine = Machine(1, 1, 1, 0, 0, 1, 1, "", "", self.boot_id, "6.1", "", 1.0, 100)
        self.keeper.sampled(
            Snapshot(0, self.seconds, self.seconds, 0.0, tuple(samples), Layout.V2, machine=machine)
        )

    def kill(self, number: int = 1) -> None:
        self.kills += number
        self.total += number


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, None)


def settle(node: Node) -> None:
    for _ in range(10):
        node.tick()


def test_kills_from_before_the_ledger_are_not_its_own(node: Node) -> None:
    node.kill(3)
    settle(node)

    assert node.keeper.tally.by_path == {}
    assert node.said == []


def test_a_kill_counts_for_the_container_at_the_next_tick_and_under_its_cause_when_that_is_settled(
    node: Node,
) -> None:
    node.tick()
    node.kill(2)
    node.tick()
    assert node.keeper.tally.by_path == {PATH: 2}
    settle(node)

    (series,) = node.keeper.tally.series
    assert (series.name, series.runtime) == ("web", "docker")
    assert node.keeper.tally.series[series].kills == 2
    assert node.keeper.tally.unattributed_total == 0
    assert node.keeper.tally.by_path == {PATH: 2}


def test_a_container_that_is_started_again_keeps_its_count(node: Node) -> None:
    node.tick()
    node.kill()
    node.tick()
    node.tick(gone=True)
    node.kills, node.inode = 0, 8
    node.tick()
    node.kill()
    settle(node)

    assert node.keeper.tally.by_path == {PATH: 2}
    assert sum(count.kills for count in node.keeper.tally.series.values()) == 2


def test_a_kill_outlives_its_container_until_it_was_long_ago(node: Node) -> None:
    node.tick()
    node.kill()
    settle(node)
    node.tick(gone=True)
    assert len(node.keeper.tally.series) == 1
    node.seconds += RETAIN_SECONDS
    node.tick(gone=True)

    assert node.keeper.tally.series == {}


def test_kills_of_which_nobody_says_whose_they_were_are_counted_as_such(node: Node) -> None:
    node.tick()
    node.total += 2
    settle(node)

    state = node.keeper.state
    assert state is not None
    assert state.attributed + state.unattributed == 2
    # The root's counter has them: it is the nearest cgroup above that is known, and no holder.
    assert node.keeper.tally.by_path.get(PATH) is None


@pytest.mark.parametrize("kills_while_down", [0, 1, 3])
def test_what_was_killed_while_no_agent_ran_is_found_once(tmp_path: Path, kills_while_down: int) -> None:
    with Storage.open(str(tmp_path / "cgwatch.db")) as storage:
        node = Node(tmp_path, storage)
        node.tick()
        node.kill()
        settle(node)
        node.keeper.save()
        node.kill(kills_while_down)
        node.start()
        settle(node)

        stored = [each.kill for each in storage.kills()]
        assert sum(kill.count for kill in stored) == 1 + kills_while_down
        assert sum(kill.while_down for kill in stored) == kills_while_down
        assert node.keeper.tally.by_path == {PATH: 1 + kills_while_down}
        assert sum(count.kills for count in node.keeper.tally.series.values()) == 1 + kills_while_down


def test_after_a_boot_the_counters_begin_anew_and_the_series_stay(tmp_path: Path) -> None:
    with Storage.open(str(tmp_path / "cgwatch.db")) as storage:
        node = Node(tmp_path, storage)
        node.tick()
        node.kill()
        settle(node)
        node.keeper.save()
        node.boot_id, node.kills, node.total = "two", 0, 0
        node.start()
        settle(node)
        node.kill()
        settle(node)

        assert [each.kill.boot_id for each in storage.kills()] == ["two", "one"]
        assert len({each.kill.number for each in storage.kills()}) == 2
        assert sum(count.kills for count in node.keeper.tally.series.values()) == 2


class Broken:
    """A store that can be full."""

    def __init__(self) -> None:
        self.is_full = True
        self.saved: list[OomKill] = []

    def save(
        self,
        kills: Iterable[OomKill],
        state: State,  # noqa: ARG002 - the protocol's
        forensics: Mapping[int, Struct] | None = None,  # noqa: ARG002 - as well
    ) -> None:
        if self.is_full:
            raise StorageError("/x/cgwatch.db: database or disk is full")
        self.saved += kills

    def state(self) -> State | None:
        return None

    def next_number(self) -> int:
        return 1

    def kills(self, *, since_seconds: float) -> Iterable[Broken.Stored]:  # noqa: ARG002 - as well
        return ()

    class Stored(Struct):
        kill: OomKill


def test_what_could_not_be_stored_is_counted_and_stored_when_it_can_be(tmp_path: Path) -> None:
    store = Broken()
    node = Node(tmp_path, store)
    node.tick()
    node.kill()
    node.tick()
    assert node.keeper.tally.by_path == {PATH: 1}
    assert node.keeper.store_failures_total > 0
    assert store.saved == []

    store.is_full = False
    node.tick()
    assert {kill.number for kill in store.saved} == {1}


@pytest.mark.parametrize("with_image", [False, True])
def test_a_kill_in_a_pod_is_counted_under_the_names_that_kubernetes_gave(with_image: bool) -> None:  # noqa: FBT001 - a row
    labels = {
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.name": "web-7",
        "io.kubernetes.container.name": "nginx",
    }
    path = f"/kubepods/pod11111111-2222-3333-4444-555555555555/{ID}"
    described = Description(Runtime.CONTAINERD, ID, "k8s_nginx", "nginx:1", labels, "running")
    holder = holder_of(Container(Cgroup(path, 7), recognise(path), 1.0, described))
    kill = OomKill(1, "one", 1, 1, settled=True, attributed=True, holder=holder)
    before = {"path": path, "inode": 7, "owner": recognise(path), "name": "k8s_nginx", "image": "nginx:1"}
    old = msgspec.json.decode(msgspec.json.encode(before), type=Holder)

    series = series_of(msgspec.json.decode(msgspec.json.encode(kill), type=OomKill), with_image=with_image)
    assert (series.namespace, series.pod, series.container) == ("shop", "web-7", "nginx")
    assert series.name == "k8s_nginx"
    assert series.image == ("nginx:1" if with_image else "")
    assert old.in_kubernetes is None


def test_events_that_count_a_cgroup_alone_say_nothing_of_what_is_below_it() -> None:
    events = MemoryEvents(oom=0, oom_kill=3)
    sample = Sample(Container(Cgroup("/a", 7), recognise("/a")), memory=MemoryStats(events=events))
    counters = Counters()
    assert [each.within for each in counters.of([sample])] == [3]
    counters = Counters()
    counters.events_are_local = True
    assert [each.within for each in counters.of([sample])] == [None]


class Heard:
    """Is told of kills, and looks at once whether they are in a store."""

    def __init__(self, storage: Storage | None = None) -> None:
        self.storage = storage
        self.taken: list[tuple[OomKill, Evidence | None]] = []

    def take(self, kill: OomKill, evidence: Evidence | None, /) -> None:
        if self.storage is not None:
            assert kill in [stored.kill for stored in self.storage.kills()]
        self.taken.append((kill, evidence))


@pytest.mark.parametrize("is_stored", [True, False])
def test_who_tells_others_is_told_of_every_version_with_its_evidence_once_it_is_stored(
    tmp_path: Path,
    is_stored: bool,  # noqa: FBT001 - drawn
) -> None:
    with Storage.open(str(tmp_path / "cgwatch.db")) as storage:
        node = Node(tmp_path, storage if is_stored else None)
        heard = node.keeper.listener = Heard(storage if is_stored else None)
        node.tick()
        node.kill()
        settle(node)

    assert {kill.number for kill, _ in heard.taken} == {1}
    assert heard.taken[0][0].attributed
    assert heard.taken[-1][0].settled
    assert all(evidence is not None and evidence.holder for _, evidence in heard.taken)
    assert node.keeper._evidence == {}  # a settled kill's is let go


def test_who_tells_others_is_told_though_the_store_is_full(tmp_path: Path) -> None:
    node = Node(tmp_path, Broken())
    heard = node.keeper.listener = Heard()
    node.tick()
    node.kill()
    node.tick()

    assert [kill.number for kill, _ in heard.taken] == [1]


def test_of_too_many_series_the_quietest_goes_and_is_counted() -> None:
    tally = Tally(retain_seconds=RETAIN_SECONDS, most_series=3)

    def kill(number: int, name: str, seconds: float) -> OomKill:
        holder = Holder(f"/{name}", 1, recognise(f"/{name}"))
        return OomKill(number, "one", seconds, seconds, settled=True, attributed=True, holder=holder)

    tally.take([kill(1, "a", 1000), kill(2, "b", 1001), kill(3, "c", 1002), kill(4, "a", 1003)])
    tally.take([kill(4, "a", 1003), kill(5, "d", 1004)])

    assert {series.name: count.kills for series, count in tally.series.items()} == {"/a": 2, "/c": 1, "/d": 1}
    assert tally.dropped_total == 1
    assert tally.unattributed_total == 0
