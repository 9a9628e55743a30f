"""What the kernel says of OOM kills: captured from real ones (``capture.py``), and as old kernels said it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.oom.dialect import Dump, OomLog, Told, Usage
from cgwatch.oom.kill import Victim
from cgwatch.proc.kmsg import Record, parse_record

KMSG = Path(__file__).with_name("kmsg")
SHAPES = sorted(path.stem for path in KMSG.glob("*.txt"))
KIB = 1024


def captured(shape: str) -> list[Told]:
    records = (KMSG / f"{shape}.txt").read_bytes().splitlines(keepends=True)
    return take(*map(parse_record, records))


def take(*records: Record) -> list[Told]:
    log = OomLog(1000.0)
    return [told for record in records if (told := log.take(record))]


def say(*lines: str, caller: str = "") -> list[Record]:
    return [
        Record(number, number * 1_000_000, 3, 0, line, caller=caller) for number, line in enumerate(lines)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_there_is_one_kill_for_each_that_the_kernel_counted(shape: str) -> None:
    counted = json.loads((KMSG / f"{shape}.json").read_text())
    kills = [told.kill for told in captured(shape)]
    assert len(kills) == counted["node"]
    assert [kill.sequence for kill in kills] == sorted({kill.sequence for kill in kills})
    for path, counters in counted["cgroups"].items():
        own = counters.get("memory.events.local", counters.get("memory.oom_control"))
        named = sum((kill.path or kill.group_path) == path for kill in kills)
        assert named == own or (shape == "burst" and named <= own == 1)


def test_a_kill_says_who_was_killed_and_where_and_by_whose_limit() -> None:
    (told,) = captured("parent_limit")
    assert told.kill.path == "/cgwtest-pod/container"
    assert told.kill.limit_path == "/cgwtest-pod"
    assert told.kill.is_global is False
    assert told.kill.victim.command == "hog"
    assert told.kill.victim.uid == 0
    assert told.kill.victim.oom_score_adj == 0
    assert told.kill.victim.anon_bytes is not None
    assert told.kill.victim.anon_bytes > 10 << 20


def test_the_time_is_since_the_epoch() -> None:
    (told,) = take(Record(1, 2_500_000, 3, 0, KILLED))
    assert told.kill.seconds == 1002.5


def test_the_dump_is_the_state_of_the_cgroup_whose_limit_was_hit() -> None:
    (told,) = captured("child_only")
    dump = told.dump
    assert dump is not None
    assert (dump.invoked_by, dump.gfp_mask, dump.order) == ("child", "0xcc0(GFP_KERNEL)", 0)
    assert dump.constraint == "CONSTRAINT_MEMCG"
    assert dump.usages["memory"] == Usage(20 << 20, 20 << 20)
    assert dump.stats["anon"] > 10 << 20
    assert [task.command for task in dump.tasks] == ["main", "child"]
    assert dump.tasks[1].pid == told.kill.victim.pid
    assert dump.tasks[1].values["pgtables_bytes"] > 0


def test_cgroup_v1_prints_its_statistics_line_by_line() -> None:
    (told,) = captured("v1_parent_limit")
    assert told.dump is not None
    assert told.dump.stats["total_rss"] > 10 << 20
    assert set(told.dump.usages) == {"memory", "memory+swap", "kmem"}
    assert told.dump.tasks[0].values["rss_anon"] > 0


def test_a_group_follows_its_first_victim_which_is_counted_twice() -> None:
    first, *members = (told.kill for told in captured("group"))
    assert first.path == "/cgwtest-group"
    assert first.group_path is None
    assert [kill.victim.command for kill in members] == ["member", "member", "member", "hog"]
    for kill in members:
        assert (kill.group_path, kill.group_sequence) == ("/cgwtest-group", first.sequence)
        assert kill.path is None
        assert kill.limit_path == "/cgwtest-group"
    assert members[-1].victim.pid == first.victim.pid


def test_in_a_burst_the_kernel_holds_the_dumps_back_but_no_kill() -> None:
    kills = captured("burst")
    bare = [told for told in kills if told.dump is None]
    assert len(kills) == 30
    assert 0 < len(bare) < 30
    for told in bare:
        assert (told.kill.path, told.kill.limit_path, told.kill.is_global) == (None, None, False)
    named = [told.kill.path for told in kills if told.kill.path]
    assert len(set(named)) == len(named)


def test_names_may_hold_anything() -> None:
    kills = [told.kill for told in captured("odd_names")]
    assert [kill.victim.command for kill in kills] == [
        "a,b=c,task=d",
        "x) total-vm:1kB",
        "new\nline",
        "back\\slash",
        "\\xff\\xfe",
        " , ",
        "(())",
    ]
    for number, kill in enumerate(kills):
        assert kill.path == kill.limit_path == f"/cgwtest,task_memcg=a,task=b,pid=1 {number}"


def test_a_line_that_was_too_long_for_one_record_is_put_together() -> None:
    (told,) = captured("long_path")
    assert told.kill.path is not None
    assert len(told.kill.path) > 700
    assert told.kill.path == told.kill.limit_path


def test_a_kill_for_want_of_memory_on_the_node_names_no_limit() -> None:
    (told,) = captured("whole_node")
    assert (told.kill.is_global, told.kill.limit_path, told.kill.path) == (True, None, "/cgwtest-free")
    assert told.dump is not None
    assert told.dump.constraint == "CONSTRAINT_NONE"
    assert told.dump.stats == {}


KILLED = (
    "Memory cgroup out of memory: Killed process 11 (hog) total-vm:4kB, anon-rss:3kB, file-rss:2kB, "
    "shmem-rss:1kB, UID:7 pgtables:5kB oom_score_adj:-9"
)
SUMMARY = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,mems_allowed=0-1,3,"
    "oom_memcg=/a,task_memcg=/a/b,task=hog,pid=11,uid=7"
)


@pytest.mark.parametrize(
    ("line", "victim", "is_global"),
    [
        (
            KILLED,
            Victim(11, "hog", 4 * KIB, 3 * KIB, 2 * KIB, KIB, 5 * KIB, uid=7, oom_score_adj=-9),
            False,
        ),
        (
            "Out of memory: Killed process 11 (hog) total-vm:4kB, anon-rss:3kB, file-rss:2kB, shmem-rss:1kB",
            Victim(11, "hog", 4 * KIB, 3 * KIB, 2 * KIB, KIB),
            True,
        ),
        (
            "Out of memory (by sysctl): Killed process 11 (hog) total-vm:4kB, anon-rss:3kB, file-rss:2kB",
            Victim(11, "hog", 4 * KIB, 3 * KIB, 2 * KIB),
            True,
        ),
        (
            "Killed process 11 (hog), UID 7, total-vm:4kB, anon-rss:3kB, file-rss:2kB, shmem-rss:1kB",
            Victim(11, "hog", 4 * KIB, 3 * KIB, 2 * KIB, KIB, uid=7),
            None,
        ),
        (
            "Killed process 11 (hog) total-vm:4kB, anon-rss:3kB, file-rss:2kB",
            Victim(11, "hog", 4 * KIB, 3 * KIB, 2 * KIB),
            None,
        ),
    ],
    ids=["6.18", "5.0", "sysctl", "centos 7", "4.4"],
)
def test_every_kernel_has_its_own_line(line: str, victim: Victim, is_global: bool | None) -> None:  # noqa: FBT001 - a row
    (told,) = take(*say(line))
    assert told.kill.victim == victim
    assert told.kill.is_global is is_global


def test_before_linux_5_0_two_lines_say_whose_limit_it_was() -> None:
    (told,) = take(
        *say(
            "hog invoked oom-killer: gfp_mask=0x14000c0(GFP_KERNEL), nodemask=(null),  order=0",
            "Task in /a/b killed as a result of limit of /a",
            "memory: usage 100kB, limit 100kB, failcnt 3",
            "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds nr_puds swapents oom_score_adj name",
            "[   11]     7    11     1870      210       9       3       2        0           -17 my hog",
            "Memory cgroup out of memory: Kill process 11 (hog) score 1 or sacrifice child",
            "Killed process 12 (child) total-vm:4kB, anon-rss:3kB, file-rss:2kB, shmem-rss:1kB",
        )
    )
    assert (told.kill.path, told.kill.limit_path, told.kill.is_global) == ("/a/b", "/a", False)
    assert told.dump is not None
    assert told.dump.tasks[0].command == "my hog"
    assert told.dump.tasks[0].values["nr_puds"] == 2
    assert told.dump.tasks[0].values["oom_score_adj"] == -17


def test_the_next_kill_has_nothing_of_the_one_before() -> None:
    first, second = take(*say("a invoked oom-killer: gfp_mask=0x0(), order=0", SUMMARY, KILLED, KILLED))
    assert (first.kill.path, first.kill.limit_path) == ("/a/b", "/a")
    assert first.dump is not None
    assert (second.kill.path, second.kill.limit_path, second.dump) == (None, None, None)


def test_a_victim_that_died_by_itself_leaves_nothing_to_the_next_one() -> None:
    (told,) = take(
        *say("a invoked oom-killer: gfp_mask=0x0(), order=0", SUMMARY, KILLED.replace("11 (hog)", "12 (x)"))
    )
    assert (told.kill.path, told.dump) == (None, None)


def test_callers_are_kept_apart_where_the_kernel_tells_them() -> None:
    other = SUMMARY.replace("/a", "/c").replace("pid=11", "pid=12")
    one = say("a invoked oom-killer: gfp_mask=0x0(), order=0", SUMMARY, KILLED, caller="T1")
    two = say("b invoked oom-killer: gfp_mask=0x0(), order=0", other, KILLED.replace("11", "12"), caller="T2")
    mixed = [record for pair in zip(one, two, strict=True) for record in pair]
    first, second = take(*mixed)
    assert (first.kill.path, second.kill.path) == ("/a/b", "/c/b")
    assert (first.dump, second.dump) == (
        Dump("a", "0x0()", 0, "CONSTRAINT_MEMCG"),
        Dump("b", "0x0()", 0, "CONSTRAINT_MEMCG"),
    )


def test_what_a_process_writes_to_the_log_is_no_kill() -> None:
    assert not take(Record(1, 1, 3, 1, KILLED))


def test_after_a_loss_nothing_is_put_together_over_it() -> None:
    log = OomLog(0.0)
    for record in say(SUMMARY):
        log.take(record)
    log.forget()
    told = log.take(Record(5, 5, 3, 0, KILLED))
    assert told is not None
    assert told.kill.path is None


NAMES = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=30)
COMMANDS = st.text(st.characters(exclude_characters="\0", codec="ascii"), max_size=15)


@given(NAMES, NAMES, COMMANDS, st.integers(1, 1 << 22))
def test_any_names_come_out_as_they_went_in(limit: str, below: str, command: str, pid: int) -> None:
    path = f"/{limit}/{below}"
    kills = take(
        *say(
            f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={below},mems_allowed=0,"
            f"oom_memcg=/{limit},task_memcg={path},task={command},pid={pid},uid=0",
            f"Memory cgroup out of memory: Killed process {pid} ({command}) total-vm:4kB, anon-rss:3kB, "
            "file-rss:2kB, shmem-rss:1kB, UID:0 pgtables:5kB oom_score_adj:0",
        )
    )
    assert [(told.kill.path, told.kill.limit_path) for told in kills] == [(path, f"/{limit}")]
    assert kills[0].kill.victim.command == command
    assert kills[0].kill.victim.pid == pid


PIECES = st.sampled_from(
    [
        KILLED,
        SUMMARY,
        "x invoked oom-killer: gfp_mask=0x0(), order=0",
        "Tasks in /a are going to be killed due to memory.oom.group set",
        "Task in /a/b killed as a result of limit of /a",
        "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
        "[      1]     0     1        1        1             1        0             0 init",
        "Memory cgroup stats for /a:",
        "memory: usage 1kB, limit 1kB, failcnt 0",
        "anon 1\nfile 2\n",
    ]
)
RECORDS = st.builds(
    Record,
    sequence=st.integers(0),
    time_microseconds=st.integers(0, 1 << 62),
    level=st.just(3),
    facility=st.integers(0, 1),
    text=PIECES | st.text() | st.builds(lambda piece, cut: piece[:cut], PIECES, st.integers(0, 200)),
    continues=st.booleans(),
    caller=st.sampled_from(["", "T1", "C0"]),
)


@given(st.lists(RECORDS, max_size=40))
def test_whatever_is_logged_each_line_of_a_kill_is_one_kill(records: list[Record]) -> None:
    kills = take(*records)
    said = [
        record.sequence
        for record in records
        if record.facility == 0 and not record.continues and record.text == KILLED
    ]
    told = [told.kill.sequence for told in kills]
    assert [sequence for sequence in told if sequence in said] == said
