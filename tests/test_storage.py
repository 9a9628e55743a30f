from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.discovery.recognise import recognise
from cgwatch.oom.kill import Cause, Holder, OomKill, Scope, Source, Victim
from cgwatch.oom.state import State, Tracked
from cgwatch.storage import Storage, StorageError, StoredKill

ID = "c0ffee" + "0" * 58
PATH = f"/docker/{ID}"


class Evidence(msgspec.Struct, frozen=True):
    text: str


def a_kill(number: int = 1, *, found_seconds: float = 1000.0, name: str | None = "web") -> OomKill:
    return OomKill(
        number,
        "boot",
        found_seconds,
        found_seconds - 1,
        path=PATH,
        holder=Holder(PATH, 7, recognise(PATH), name),
        cause=Cause.OWN_LIMIT,
        scope=Scope.MAIN,
        victim=Victim(42, "h\udc80g".encode("utf-8", "replace").decode()),
        sources=(Source.LOG,),
    )


def a_state(next_number: int = 2) -> State:
    return State("boot", 900.0, next_number=next_number)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "down" / "cgwatch.db")


def test_what_was_saved_is_there_when_it_is_opened_again(path: str) -> None:
    with Storage.open(path) as storage:
        assert storage.state() is None
        storage.save([a_kill()], a_state(), {1: Evidence("why")})
    with Storage.open(path) as storage:
        assert storage.state() == a_state()
        assert storage.kills() == [StoredKill(a_kill(), b'{"text":"why"}')]


def test_a_later_version_of_a_kill_replaces_it_and_its_evidence_stays(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill(name=None)], a_state(), {1: Evidence("why")})
        storage.save([a_kill()], a_state())
        assert storage.kills() == [StoredKill(a_kill(), b'{"text":"why"}')]
        storage.save([a_kill()], a_state(), {1: Evidence("better")})
        assert storage.kills()[0].forensics == b'{"text":"better"}'


def test_kills_are_found_by_time_and_by_name_path_or_the_beginning_of_an_id(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill(n, found_seconds=1000.0 + n, name=f"web-{n}") for n in (1, 2, 3)], a_state())

        def numbers(**wanted: object) -> list[int]:
            return [stored.kill.number for stored in storage.kills(**wanted)]  # type: ignore[arg-type] # drawn

        assert numbers() == [3, 2, 1]
        assert numbers(limit=2) == [3, 2]
        assert numbers(since_seconds=1002.0) == [3, 2]
        assert numbers(container="web-2") == [2]
        assert numbers(container=PATH) == [3, 2, 1]
        assert numbers(container="c0ffee") == [3, 2, 1]
        assert numbers(container="c0ffee%") == []
        assert numbers(container="") == [3, 2, 1]


def test_it_is_bounded_by_age_and_by_number(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill(n, found_seconds=1000.0 + n) for n in range(1, 11)], a_state())
        assert storage.prune(before_seconds=1003.0, keep=100) == 2
        assert storage.prune(before_seconds=0, keep=5) == 3
        assert [stored.kill.number for stored in storage.kills()] == [10, 9, 8, 7, 6]


def test_what_a_failing_transaction_wrote_is_not_there(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill()], a_state())
        other = sqlite3.connect(path)
        other.execute(
            "CREATE TRIGGER no_state BEFORE UPDATE ON ledger BEGIN SELECT raise(ABORT, 'no'); END"
        ).close()
        other.close()
        with pytest.raises(StorageError, match=f"^{path}: no"):
            storage.save([a_kill(2)], a_state(3))
        assert [stored.kill.number for stored in storage.kills()] == [1]
        assert storage.state() == a_state()


def test_threads_may_share_it(path: str) -> None:
    with Storage.open(path) as storage:
        numbers = iter(range(1, 1000))
        start = threading.Barrier(4)

        def save() -> None:
            start.wait(10)
            for _ in range(10):
                storage.save([a_kill(next(numbers))], a_state())
                storage.kills(limit=1)

        threads = [threading.Thread(target=save) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(storage.kills()) == 40


def test_it_is_read_while_the_agent_writes_it(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill()], a_state())
        with Storage.open_reader(path) as reader:
            assert len(reader.kills()) == 1
            storage.save([a_kill(2)], a_state())
            assert len(reader.kills()) == 2
            with pytest.raises(StorageError, match="readonly"):
                reader.save([a_kill(3)], a_state())


def test_it_is_read_when_no_agent_runs(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill()], a_state())
    with Storage.open_reader(path) as reader:
        assert len(reader.kills()) == 1


def test_a_database_that_is_not_there_is_not_made_by_reading_it(path: str) -> None:
    with pytest.raises(StorageError, match=f"^{path}: unable to open"):
        Storage.open_reader(path)
    assert not os.path.exists(path)


def test_names_of_processes_are_not_for_everyone(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill()], a_state())
        for name in os.listdir(os.path.dirname(path)):
            assert os.stat(os.path.join(os.path.dirname(path), name)).st_mode & 0o7 == 0


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_database_is_moved_aside_and_a_new_one_begun(
    path: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    os.makedirs(os.path.dirname(path))
    for n in (1, 2):
        Path(path).write_bytes(content)
        with Storage.open(path) as storage:
            assert storage.moved_aside == [f"{path}.damaged-{n}"]
            storage.save([a_kill()], a_state())
            assert len(storage.kills()) == 1
        assert Path(f"{path}.damaged-{n}").read_bytes() == content
        for suffix in ("", "-wal", "-shm"):
            Path(path + suffix).unlink(missing_ok=True)
    assert "moved aside" in caplog.text


def test_a_database_that_is_damaged_while_it_is_open_is_moved_aside_as_well(path: str) -> None:
    with Storage.open(path) as storage:
        storage.save([a_kill(n) for n in range(1, 200)], a_state())
    with Storage.open(path) as storage:
        storage._connection.execute("PRAGMA cache_size = 1")  # or it would not look at the file again
        size = os.path.getsize(path)
        with Path(path).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        storage.save([a_kill(200)], a_state())
        assert storage.moved_aside == [f"{path}.damaged-1"]
        assert [stored.kill.number for stored in storage.kills()] == [200]


def test_a_reader_moves_nothing_aside(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    Path(path).write_bytes(b"no database at all")
    with pytest.raises(StorageError, match="not a database"):
        Storage.open_reader(path)
    assert os.listdir(os.path.dirname(path)) == ["cgwatch.db"]


def test_what_a_newer_version_wrote_is_left_alone(path: str) -> None:
    Storage.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99").close()
    connection.close()
    for opened in (Storage.open, Storage.open_reader):
        with pytest.raises(StorageError, match=r"newer cgwatch .* update cgwatch"):
            opened(path)
    assert not [name for name in os.listdir(os.path.dirname(path)) if "damaged" in name]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"^{tmp_path}/file/cgwatch.db: "):
        Storage.open(f"{tmp_path}/file/cgwatch.db")


def test_a_state_of_another_shape_is_no_state(path: str) -> None:
    with Storage.open(path) as storage:
        assert storage.next_number() == 1
        storage.save([a_kill(7)], a_state())
    connection = sqlite3.connect(path)
    connection.execute("UPDATE ledger SET state = x'c0'")
    connection.commit()
    connection.close()
    with Storage.open(path) as storage:
        assert storage.state() is None
        assert storage.next_number() == 8  # so that a new ledger writes over no kill


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=9000))
def test_any_file_gives_a_database_that_can_be_written(content: bytes) -> None:
    path = f"{os.environ.get('TMPDIR', '/tmp')}/cgwtest-{os.getpid()}-any.db"  # noqa: S108 - removed below
    try:
        Path(path).write_bytes(content)
        with Storage.open(path) as storage:
            storage.save([a_kill()], a_state())
            assert len(storage.kills()) == 1
    finally:
        for found in Path(path).parent.glob(Path(path).name + "*"):
            found.unlink()


_WRITER = """
import sys
from cgwatch.storage import Storage
from tests.test_storage import a_kill, a_state, Evidence

with Storage.open(sys.argv[1]) as storage:
    state = storage.state()
    number = state.next_number if state else 1
    while True:
        storage.save([a_kill(number)], a_state(number + 1), {number: Evidence("x" * 5000)})
        print(number, flush=True)
        number += 1
        if number % 50 == 0:
            storage.prune(before_seconds=0, keep=10_000)
"""


def test_a_kill_9_at_any_moment_loses_and_doubles_nothing(path: str) -> None:
    chance = random.Random(20)  # noqa: S311 - moments, no secrets
    acknowledged = 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, path],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        ) as writer:
            assert writer.stdout is not None
            first = int(writer.stdout.readline())
            assert first in (acknowledged + 1, acknowledged + 2)  # the last may have been on its way to us
            for _ in range(chance.randrange(1, 30)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                acknowledged = int(line)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        with Storage.open(path) as storage:
            assert storage.moved_aside == []
            numbers = [stored.kill.number for stored in storage.kills()]
            state = storage.state()
            assert state is not None
            assert numbers == list(range(state.next_number - 1, 0, -1))
            assert numbers[0] in (acknowledged, acknowledged + 1)
            acknowledged = numbers[0]


@pytest.mark.parametrize("surrogate", [0xDCFF, 0xD800, 0xDC80])
def test_names_that_are_no_unicode_are_stored_as_they_are_spelled(path: str, surrogate: int) -> None:
    odd = f"a{chr(surrogate)}b"
    spelled = odd.encode(errors="backslashreplace").decode()
    kill = structs.replace(a_kill(name=odd), victim=Victim(42, odd))
    state = structs.replace(
        a_state(), cgroups={odd: Tracked(Holder(odd, 7, recognise(PATH), odd), 1, 1, 0.0)}
    )

    with Storage.open(path) as storage:
        storage.save([kill], state, {1: Evidence(odd)})
        (stored,) = storage.kills(container=spelled)
        found = storage.state()

    assert stored.kill.holder is not None
    assert stored.kill.victim is not None
    assert (stored.kill.holder.name, stored.kill.victim.command) == (spelled, spelled)
    assert msgspec.json.decode(stored.forensics or b"", type=Evidence).text == spelled
    assert found is not None
    assert found.cgroups.keys() == {spelled}
