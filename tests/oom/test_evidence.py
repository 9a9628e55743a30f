"""What is stored beside a kill, as the keeper puts it together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.cgroup.formats import Pressure, PressureLine
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.memory import MemoryEvents, MemoryStat, MemoryStats
from cgwatch.cgroup.pressure import PressureStats
from cgwatch.discovery.recognise import recognise
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot
from cgwatch.oom.dialect import Dump, OomLog, Told
from cgwatch.oom.evidence import Breakdown, Evidence, Limit, RuntimeView, Series, Share, decode
from cgwatch.oom.forensics import collect
from cgwatch.oom.history import History, Point
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.kill import Cause, Holder, OomKill
from cgwatch.oom.observation import KernelKill
from cgwatch.oom.tally import Tally
from cgwatch.proc.kmsg import parse_record
from cgwatch.proc.machine import Machine
from cgwatch.proc.meminfo import Meminfo
from cgwatch.storage import Storage

KMSG = Path(__file__).with_name("kmsg")
MIB = 1 << 20
ID = "ab" * 32
POD = "/kubepods/pod11111111-2222-3333-4444-555555555555"
PATH = f"{POD}/{ID}"
KILL = OomKill(
    1, "boot", 100.0, 95.0, path=PATH, exact=True, holder=Holder(PATH, 7, recognise(PATH), name="web")
)


def sample(
    path: str = PATH, *, described: Description | None = None, inode: int = 7, **memory: Any
) -> Sample:
    pressure = PressureStats(memory=Pressure(PressureLine(0.5, 0, 0, 1), PressureLine(0.25, 0, 0, 1)))
    container = Container(Cgroup(path, inode), recognise(path), 50.0, described)
    return Sample(container, memory=MemoryStats(**memory), pressure=pressure)


def snapshot(seconds: float, *samples: Sample, **more: Any) -> Snapshot:
    meminfo = Meminfo(1000 * MIB, available_bytes=700 * MIB, swap_total_bytes=0, swap_free_bytes=0)
    return Snapshot(0, seconds, seconds, 0.0, samples, Layout.V2, memory=meminfo, **more)


def found(
    *before: Snapshot, now: Snapshot | None = None, kill: OomKill = KILL, dump: Dump | None = None
) -> Evidence:
    history = History()
    for each in before:
        history.take(each)
    return collect(kill, history, now, before=None, dump=dump, page_bytes=4096)


def recorded(shape: str) -> Told:
    log = OomLog(0.0)
    records = (KMSG / f"{shape}.txt").read_bytes().splitlines(keepends=True)
    return next(told for record in records if (told := log.take(parse_record(record))))


# Memory before the kill.


def test_the_last_sample_before_the_kill_is_kept_with_its_breakdown_and_its_limit() -> None:
    stat = MemoryStat(anon_bytes=60, file_bytes=30, shmem_bytes=10, file_dirty_bytes=4, sock_bytes=1)
    full = sample(usage_bytes=99, limit_bytes=100, kernel_usage_bytes=9, swap_usage_bytes=3, stat=stat)
    evidence = found(snapshot(90.0, sample(usage_bytes=50)), snapshot(95.0, full))

    assert evidence.until_seconds == 95.0
    assert evidence.holder is not None
    last = evidence.holder.last
    assert last is not None
    assert (last.seconds, last.usage_bytes, last.limit_bytes) == (95.0, 99, 100)
    assert last.breakdown == Breakdown(60, 30, 10, 9, file_dirty_bytes=4, sock_bytes=1)
    assert evidence.holder.series == Series(
        (90.0, 95.0), (50, 99), (None, 60), (None, 30), (None, 10), (None, 9), (None, 3)
    )
    assert evidence.holder.series.points == (Point(90.0, 50), Point(95.0, 99, 60, 30, 10, 9, 3))


def test_the_sample_in_which_the_kill_was_found_is_kept_as_one_from_after_it() -> None:
    evidence = found(
        snapshot(95.0, sample(usage_bytes=99)), now=snapshot(100.0, sample(usage_bytes=3, peak_bytes=100))
    )

    assert evidence.holder is not None
    assert evidence.holder.last is not None
    assert evidence.holder.after is not None
    assert evidence.holder.last.usage_bytes == 99
    assert (evidence.holder.after.usage_bytes, evidence.holder.after.peak_bytes) == (3, 100)


def test_a_snapshot_that_began_before_the_kill_is_not_taken_for_one_from_after_it() -> None:
    kill = structs.replace(KILL, killed_seconds=103.0)

    evidence = found(
        snapshot(95.0, sample(usage_bytes=99)), now=snapshot(100.0, sample(usage_bytes=100)), kill=kill
    )

    assert evidence.holder is not None
    assert evidence.holder.last is not None
    assert evidence.holder.last.usage_bytes == 99
    assert evidence.holder.after is None


def test_a_sample_from_after_the_moment_that_the_log_names_is_not_one_from_before() -> None:
    kill = structs.replace(KILL, killed_seconds=93.0)

    evidence = found(snapshot(90.0, sample(usage_bytes=50)), snapshot(95.0, sample(usage_bytes=3)), kill=kill)

    assert evidence.holder is not None
    assert evidence.holder.last is not None
    assert evidence.holder.last.usage_bytes == 50
    assert evidence.holder.series.usage_bytes == (50,)


def test_no_limit_is_none() -> None:
    evidence = found(snapshot(95.0, sample(usage_bytes=1, limit_bytes=math.inf, high_bytes=math.inf)))

    assert evidence.holder is not None
    assert evidence.holder.last is not None
    assert evidence.holder.last.limit_bytes is evidence.holder.last.high_bytes is None
    assert evidence.limits == ()


def test_of_a_cgroup_that_came_and_went_between_two_samples_there_is_its_limit_if_it_is_still_there() -> None:
    evidence = found(snapshot(95.0), now=snapshot(100.0, sample(usage_bytes=3, limit_bytes=20)))

    assert evidence.holder is not None
    assert evidence.holder.last is None
    assert evidence.limits == (Limit(PATH, 20, 3),)
    assert evidence.created_seconds == 50.0


def test_of_a_cgroup_that_no_sample_shows_it_is_not_known_whether_it_had_a_limit() -> None:
    evidence = found(
        snapshot(95.0, sample(POD, limit_bytes=100)), now=snapshot(100.0, sample(POD, limit_bytes=100))
    )

    assert evidence.limits is None


def test_all_limits_upon_the_victim_are_kept_the_innermost_first() -> None:
    evidence = found(
        snapshot(
            95.0,
            sample(POD, usage_bytes=80, limit_bytes=100),
            sample(usage_bytes=50, limit_bytes=60),
            sample("/other", usage_bytes=1, limit_bytes=2),
        )
    )

    assert evidence.limits == (Limit(PATH, 60, 50), Limit(POD, 100, 80))


def test_of_a_limit_above_its_own_memory_is_kept_and_who_shared_it() -> None:
    other = f"{POD}/{'cd' * 32}"
    kill = structs.replace(KILL, limit_path=POD, cause=Cause.ANCESTOR_LIMIT)

    evidence = found(
        snapshot(
            95.0,
            sample(POD, usage_bytes=100, limit_bytes=100),
            sample(usage_bytes=10),
            sample(other, usage_bytes=90, limit_bytes=95),
            sample("/docker/" + "ef" * 32, usage_bytes=500),
        ),
        kill=kill,
    )

    assert evidence.limit is not None
    assert evidence.limit.path == POD
    assert evidence.limit.last is not None
    assert evidence.limit.last.usage_bytes == 100
    assert evidence.largest == (Share(other, 90, limit_bytes=95), Share(PATH, 10))


def test_a_slice_is_not_among_the_largest_but_what_is_in_it() -> None:
    evidence = found(
        snapshot(
            95.0, sample("/system.slice", usage_bytes=9), sample("/system.slice/x.service", usage_bytes=8)
        ),
        kill=OomKill(1, "boot", 100.0, 95.0, cause=Cause.GLOBAL),
    )

    assert [share.path for share in evidence.largest] == ["/system.slice/x.service"]


def test_pressure_and_the_nodes_own_memory_are_of_the_last_sample_before() -> None:
    line = PressureLine(0.125, 0, 0, 1)
    evidence = found(
        snapshot(95.0, sample(usage_bytes=1), pressure=PressureStats(memory=Pressure(line, line)))
    )

    assert evidence.stall is not None
    assert (evidence.stall.some_avg10_ratio, evidence.stall.full_avg10_ratio) == (0.5, 0.25)
    assert evidence.node is not None
    assert (evidence.node.total_bytes, evidence.node.available_bytes) == (1000 * MIB, 700 * MIB)
    assert evidence.node.stall is not None
    assert evidence.node.stall.full_avg10_ratio == 0.125


def test_the_runtimes_last_word_is_kept_even_from_after_the_kill() -> None:
    said = Description(
        Runtime.DOCKER, ID, "web", "img", {}, "exited", started_seconds=60.0, oom_killed=True, exit_code=137
    )
    gone = Sample(Container(Cgroup(PATH, 0), recognise(PATH), description=said))

    evidence = found(snapshot(95.0, sample()), now=snapshot(100.0, stopped=(gone,)))

    assert evidence.runtime == RuntimeView("exited", True, 60.0, 137)


# Later versions of a kill.


def later(
    history: History, before: Evidence, kill: OomKill, now: Snapshot | None = None, dump: Dump | None = None
) -> Evidence:
    return collect(kill, history, now, before=before, dump=dump, page_bytes=4096)


def test_what_a_later_version_of_a_kill_names_gets_its_evidence_from_before_the_kill() -> None:
    history = History()
    history.take(snapshot(95.0, sample(usage_bytes=99)))
    unknown = OomKill(1, "boot", 100.0, 95.0)
    first = collect(unknown, history, None, before=None, dump=None, page_bytes=4096)
    assert first.holder is None
    history.take(snapshot(100.0, sample(usage_bytes=3)))

    second = later(history, first, KILL)

    assert second.holder is not None
    assert second.holder.last is not None
    assert (second.holder.last.seconds, second.holder.last.usage_bytes) == (95.0, 99)


def test_a_later_version_takes_nothing_from_the_evidence_of_an_earlier_one() -> None:
    history = History()
    history.take(snapshot(95.0, sample(usage_bytes=99, limit_bytes=100)))
    first = collect(KILL, history, None, before=None, dump=Dump(invoked_by="hog"), page_bytes=4096)
    for tick in range(400):
        history.take(snapshot(100.0 + tick))

    second = later(history, first, structs.replace(KILL, settled=True))

    assert second == first


def test_where_the_log_names_another_limit_that_is_the_limit() -> None:
    history = History()
    history.take(snapshot(95.0, sample(POD, usage_bytes=9, limit_bytes=9), sample(usage_bytes=5)))
    first = collect(KILL, history, None, before=None, dump=None, page_bytes=4096)

    named = later(history, first, structs.replace(KILL, limit_path=POD))
    own = later(history, named, structs.replace(KILL, limit_path=PATH))

    assert named.limit is not None
    assert named.limit.path == POD
    assert own.limit is None


# The kernel's log.


def test_the_dump_gives_memory_at_the_kill_and_the_largest_processes() -> None:
    told = recorded("single")
    at_kill = found(dump=told.dump).at_kill

    assert at_kill is not None
    assert (at_kill.usage_bytes, at_kill.limit_bytes) == (20 * MIB, 20 * MIB)
    assert (at_kill.breakdown.anon_bytes, at_kill.breakdown.kernel_bytes) == (20922368, 49152)
    (process,) = at_kill.processes
    assert (process.command, process.pid, process.rss_bytes) == ("hog", 693, 9102 * 4096)
    assert at_kill.processes_total == 1
    assert at_kill.constraint == "CONSTRAINT_MEMCG"


def test_the_dump_of_cgroup_v1_gives_the_same_by_its_own_words() -> None:
    at_kill = found(dump=recorded("v1_parent_limit").dump).at_kill

    assert at_kill is not None
    assert at_kill.breakdown.anon_bytes == 20865024
    assert at_kill.breakdown.file_bytes == 0
    assert at_kill.breakdown.kernel_bytes is not None
    assert at_kill.processes[0].anon_bytes == 8210 * 4096


def test_of_many_processes_the_largest_are_kept() -> None:
    told = recorded("group")
    at_kill = found(dump=told.dump).at_kill

    assert at_kill is not None
    sizes = [process.rss_bytes or 0 for process in at_kill.processes]
    assert sizes == sorted(sizes, reverse=True)
    assert at_kill.processes_total == len(told.dump.tasks if told.dump else ()) > 1


# Stored by the keeper.


class Ignoring:
    def oom_counted(self, source: str, seconds: float | None, /) -> None:
        """Nobody asks."""


class Running:
    """A keeper and its database, on a node of one container."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 1000.0
        self.kills = 0
        self.storage = Storage.open(str(folder / "kills.db"))
        self.start()

    def start(self) -> None:
        self.keeper = Keeper(
            proc_root=str(self.folder),
            clock=lambda: self.seconds,
            monotonic=lambda: self.seconds,
            tally=Tally(retain_seconds=3600, most_series=10),
            observer=Ignoring(),
            failed=lambda _: None,
            store=self.storage,
            reads_log=True,
        )

    def tick(self, usage_bytes: int, *, settles: bool = False) -> None:
        self.seconds += 60 if settles else 5
        (self.folder / "vmstat").write_text(f"oom_kill {self.kills}\n")
        events = MemoryEvents(oom=self.kills, oom_kill=self.kills)
        memory: dict[str, Any] = {
            "usage_bytes": usage_bytes,
            "limit_bytes": 100,
            "events": events,
            "events_local": events,
        }
        machine = Machine(1, 1, 1, 0, 0, 1, 1, "", "", "boot", "6.1", "", 1.0, 100)
        self.keeper.sampled(snapshot(self.seconds, sample(**memory), machine=machine))

    def stored(self) -> Evidence:
        (stored,) = self.storage.kills()
        evidence = decode(stored.forensics)
        assert evidence is not None
        return evidence


@pytest.fixture
def running(tmp_path: Path) -> Any:
    made = Running(tmp_path)
    yield made
    made.storage.close()


def usage(evidence: Evidence) -> int | None:
    assert evidence.holder is not None
    assert evidence.holder.last is not None
    return evidence.holder.last.usage_bytes


def test_a_kill_found_at_a_tick_is_stored_with_the_sample_of_the_tick_before(running: Running) -> None:
    running.tick(50)
    running.tick(99)
    running.kills = 1

    running.tick(2)

    assert usage(running.stored()) == 99


def test_evidence_stays_when_the_kill_is_settled_and_after_a_restart(running: Running) -> None:
    running.tick(99)
    running.kills = 1
    running.tick(2)
    running.seconds += 1
    running.start()
    running.tick(3, settles=True)
    running.tick(4, settles=True)

    (stored,) = running.storage.kills()
    assert stored.kill.settled
    assert usage(running.stored()) == 99


def test_the_dump_is_stored_with_the_kill_that_the_log_tells(running: Running) -> None:
    running.tick(99)
    told = recorded("single")
    kill = KernelKill(5, running.seconds + 1, told.kill.victim, PATH, PATH, is_global=False)
    running.kills = 1

    running.keeper.told(Told(kill, told.dump))
    running.tick(2)

    at_kill = running.stored().at_kill
    assert at_kill is not None
    assert at_kill.invoked_by == "hog"
    assert usage(running.stored()) == 99


def test_of_a_storm_the_first_have_evidence_and_all_are_stored(running: Running) -> None:
    running.tick(99)
    for _ in range(2):
        running.kills += 200
        running.tick(2)

    stored = running.storage.kills()

    assert len(stored) == 400
    assert sum(each.forensics is not None for each in stored) == 256


@pytest.mark.parametrize("stored", [None, b"", b"{", b"[]", b'{"until_seconds":"x"}'])
def test_evidence_that_cannot_be_read_is_none(stored: bytes | None) -> None:
    assert decode(stored) is None


@given(st.binary())
def test_whatever_is_stored_is_evidence_or_none(stored: bytes) -> None:
    assert decode(stored) is None or isinstance(decode(stored), Evidence)
