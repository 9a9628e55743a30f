from __future__ import annotations

import csv
import errno
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cli import cli
from cgwatch.cli.oom_text import explanation, record, table
from cgwatch.cli.stored import since_when
from cgwatch.discovery.recognise import recognise
from cgwatch.errors import UnitError
from cgwatch.oom.case import Consumer
from cgwatch.oom.evidence import AtKill, Evidence, Involved, Limit, Memory, Process, Series
from cgwatch.oom.explain import explain
from cgwatch.oom.kill import Cause, Holder, OomKill, Scope, Source, Victim
from cgwatch.oom.shape import Shape
from cgwatch.oom.state import State
from cgwatch.proc import kmsg
from cgwatch.storage import DATABASE, Storage
from tests.conftest import V1Cgroups
from tests.real.agent_process import AgentProcess
from tests.real.needs import require

MIB = 1 << 20
WEB, DB = "ab" * 32, "cd" * 32
NOW = time.time()
NO_DOCKER = "unix:///nonexistent/docker.sock"


def kill(number: int, container_id: str = WEB, name: str | None = "web", **fields: Any) -> OomKill:
    path = f"/docker/{container_id}"
    said: dict[str, Any] = {
        "found_seconds": NOW - 3600 / number,
        "after_seconds": NOW - 3600 / number - 5,
        "path": path,
        "exact": True,
        "attributed": True,
        "settled": True,
        "holder": Holder(path, 7, recognise(path), name=name, image="web:1"),
        "cause": Cause.OWN_LIMIT,
        "limit_path": path,
        "scope": Scope.MAIN,
        "exit_code": 137,
        "victim": Victim(4242, "hog", anon_bytes=90 * MIB),
        "sources": (Source.COUNTER, Source.LOG),
    }
    return OomKill(number, "boot", **(said | fields))


EVIDENCE = Evidence(
    NOW - 3602,
    holder=Involved(
        f"/docker/{WEB}",
        Memory(NOW - 3602, 95 * MIB, limit_bytes=100 * MIB),
        series=Series((NOW - 3602,), (95 * MIB,), (90 * MIB,), (0,), (0,), (None,)),
    ),
    limits=(Limit(f"/docker/{WEB}", 100 * MIB, 95 * MIB),),
    at_kill=AtKill(invoked_by="hog", processes=(Process(4242, "hog", 91 * MIB),), processes_total=1),
)
KILLS = (
    kill(1),
    kill(2, DB, "db", scope=Scope.CHILD),
    kill(3, victim=None, cause=Cause.UNKNOWN, limit_path=None),
)


def save(folder: Path, *kills: OomKill, evidence: dict[int, Evidence] | None = None) -> None:
    with Storage.open(str(folder / DATABASE)) as storage:
        storage.save(kills, State("boot", NOW), evidence)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Give a state directory with three kills, and evidence for the first."""
    save(tmp_path, *KILLS, evidence={1: EVIDENCE})
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["oom", *arguments, "--state-dir", str(folder)], prog_name="cgwatch")


def numbers(result: Result) -> list[str]:
    return [line.split()[0] for line in result.stdout.splitlines()[1:]]


# list


def test_kills_are_listed_the_newest_first_each_on_a_line(stored: Path) -> None:
    result = run(stored, "list")

    assert (result.exit_code, result.stderr) == (0, "")
    header, third, second, first = result.stdout.splitlines()
    assert header.split() == ["NUMBER", "WHEN", "CONTAINER", "CAUSE", "KILLED", "VICTIM"]
    assert re.fullmatch(r" +1  \S+ \S+[+-]\d\d:\d\d  web +own limit  main +hog", first)
    assert re.search(r"  db +own limit  child +hog$", second)
    assert re.search(r"  web +--  +main +--$", third)


def test_times_are_local_with_their_offset(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        lines = run(stored, "list").stdout.splitlines()
        (found,) = json.loads(run(stored, "list", "--container", "db", "--format", "json").stdout)
    finally:
        monkeypatch.undo()
        time.tzset()

    tokyo = datetime.fromtimestamp(KILLS[0].found_seconds, UTC) + timedelta(hours=9)
    assert f"{tokyo:%Y-%m-%d %H:%M:%S}+09:00" in lines[3]
    assert found["found"].endswith("+09:00")
    assert datetime.fromisoformat(found["found"]).timestamp() == pytest.approx(
        found["found_seconds"], abs=0.001
    )


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ([], ["3", "2", "1"]),
        (["--container", "web"], ["3", "1"]),
        (["--container", DB[:12]], ["2"]),
        (["--container", f"/docker/{DB}"], ["2"]),
        (["--since", "40m"], ["3", "2"]),
        (["--since", "25m", "--container", "web"], ["3"]),
    ],
)
def test_kills_are_chosen_by_container_and_time(stored: Path, chosen: list[str], found: list[str]) -> None:
    assert numbers(run(stored, "list", *chosen)) == found


def test_since_is_a_local_time_as_well(stored: Path) -> None:
    since = datetime.fromtimestamp(NOW - 1700)  # noqa: DTZ006 - a local time, as its user writes it

    assert numbers(run(stored, "list", "--since", since.isoformat())) == ["3"]


@pytest.mark.parametrize("since", ["yesterday", "5", "", "2026-13-01", "9" * 70])
def test_a_since_that_is_no_time_is_wrong_usage(stored: Path, since: str) -> None:
    result = run(stored, "list", "--since", since)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("cgwatch: --since: ")
    assert len(result.stderr.splitlines()) == 1


@given(st.text())
def test_whatever_since_is_it_is_a_time_or_an_error_that_names_the_flag(text: str) -> None:
    try:
        assert isinstance(since_when(text, NOW), float)
    except UnitError as error:
        assert str(error).startswith("--since: ")  # noqa: PT017 - either is right


def test_json_has_every_field_and_csv_one_flat_row_for_each(stored: Path) -> None:
    said = json.loads(run(stored, "list", "--format", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(run(stored, "list", "--format", "csv").stdout)))

    assert [each["number"] for each in said] == [3, 2, 1]
    assert set(OomKill.__struct_fields__) <= set(said[0])
    assert said[2]["victim"]["anon_bytes"] == 90 * MIB
    assert [row["number"] for row in rows] == ["3", "2", "1"]
    assert (rows[2]["name"], rows[2]["victim_anon_bytes"], rows[2]["sources"]) == (
        "web",
        str(90 * MIB),
        "counter log",
    )
    assert rows[0]["victim_command"] == ""


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_where_nothing_matches_the_exit_status_says_so(stored: Path, output: str) -> None:
    result = run(stored, "list", "--container", "nobody", "--format", output)

    assert result.exit_code == 3
    assert result.stderr == "cgwatch: no OOM kill is stored that matches\n"
    assert result.stdout == {"table": "", "json": "[]\n"}.get(output, result.stdout)


def test_on_80_columns_a_line_fits_with_the_longest_command() -> None:
    long = kill(9999, name="shop-frontend-of-the-northern-region-1", victim=Victim(1, "fifteen-letters"))

    lines = list(table([long, *KILLS], 80))

    assert max(map(len, lines)) <= 80
    assert "shop" in lines[1]


HOSTILE = ["line\nend\r", "\x1b[2Jescape", "\u202eright to left", "wide漢字", "x" * 65536, ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_printable_characters_everywhere(tmp_path: Path, name: str) -> None:
    hostile = kill(1, name=name, victim=Victim(5, name, anon_bytes=90 * MIB))
    save(tmp_path, hostile, evidence={1: EVIDENCE})

    for arguments in (
        ["list"],
        ["list", "--format", "csv"],
        ["show", "1"],
        ["explain", "1"],
        ["list", "--format", "json"],
    ):
        text = run(tmp_path, *arguments).stdout
        assert all(" " <= character <= "~" for character in text.replace("\n", "")), arguments
    assert len(run(tmp_path, "list").stdout.splitlines()) == 2


# show and explain


def test_show_prints_all_that_is_stored_of_one_kill(stored: Path) -> None:
    text = run(stored, "show", "1").stdout

    assert "exit code: 137" in text
    assert "  anon: 90MiB" in text
    assert "    usage: 95MiB" in text
    assert re.search(r"\n +pid +command +rss\n +4242 +hog +91MiB\n", text)
    assert re.search(r"\n +time +usage +anon +file +shmem\n +\S+ \S+ +95MiB +90MiB +0B +0B\n", text)


def test_show_is_of_the_last_kill_or_of_the_one_that_is_named(stored: Path) -> None:
    assert run(stored, "show").stdout.startswith("number: 3\n")
    assert run(stored, "show", "--container", "db").stdout.startswith("number: 2\n")


def test_show_leaves_out_a_series_that_has_no_sample(tmp_path: Path) -> None:
    save(tmp_path, KILLS[0], evidence={1: Evidence(NOW, holder=Involved(f"/docker/{WEB}"))})

    assert "series" not in run(tmp_path, "show", "1").stdout


def test_show_in_json_has_the_evidence_with_units_in_its_names(stored: Path) -> None:
    said = json.loads(run(stored, "show", "1", "--format", "json").stdout)

    assert said["number"] == 1
    assert said["evidence"]["holder"]["last"]["usage_bytes"] == 95 * MIB
    assert said["evidence"]["holder"]["series"]["anon_bytes"] == [90 * MIB]


def test_show_says_where_there_is_no_evidence(stored: Path) -> None:
    assert run(stored, "show", "2").stdout.endswith("evidence: none is stored\n")
    assert json.loads(run(stored, "show", "2", "--format", "json").stdout)["evidence"] is None


def test_explain_is_of_the_last_kill_or_of_the_one_that_is_named(stored: Path) -> None:
    assert run(stored, "explain").stdout.startswith("OOM kill 3, ")
    assert run(stored, "explain", "--container", "db").stdout.startswith("OOM kill 2, ")
    assert run(stored, "explain", "1").stdout.splitlines()[1] == "web: its own limit of 100MiB was hit"


def test_explain_knows_the_earlier_kills_of_the_same_container_alone(stored: Path) -> None:
    assert (
        "It is the 2nd kill of it that is stored; the one before was 40m earlier."
        in run(stored, "explain", "3").stdout
    )
    assert "kill of it that is stored" not in run(stored, "explain", "2").stdout


def test_explain_in_json_is_verdicts_and_sentences_with_their_numbers(stored: Path) -> None:
    said = json.loads(run(stored, "explain", "1", "--format", "json").stdout)

    assert said["verdicts"]["limit_bytes"] == 100 * MIB
    assert said["verdicts"]["scope"] == "main"
    assert {"topic", "text", "numbers"} == set(said["facts"][0])


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_a_number_that_is_not_stored_is_nothing_found(stored: Path, verb: str) -> None:
    result = run(stored, verb, "99")

    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "cgwatch: no OOM kill 99 is stored; cgwatch oom list shows which are\n"


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_a_container_without_a_kill_is_named_in_what_is_said(stored: Path, verb: str) -> None:
    hint = "; cgwatch oom list shows which are\n"

    assert run(stored, verb, "--container", "nobody").stderr == (
        f'cgwatch: no OOM kill of "nobody" is stored{hint}'
    )
    assert run(stored, verb, "1", "--container", "db").stderr == (
        f'cgwatch: no OOM kill 1 of "db" is stored{hint}'
    )


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_where_no_kill_is_stored_at_all_there_is_none_to_show(tmp_path: Path, verb: str) -> None:
    save(tmp_path)

    result = run(tmp_path, verb)

    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "cgwatch: no OOM kill is stored\n"


def test_an_explanation_fits_its_width() -> None:
    said = explain(KILLS[0], EVIDENCE)

    lines = list(explanation(said, NOW, 60))

    assert all(len(line) <= 60 or " " not in line.strip(" -") for line in lines)
    assert any(line.startswith("- ") for line in lines)


def test_a_record_leaves_out_what_is_not_known() -> None:
    assert "victim:" in "\n".join(record(KILLS[0], None))
    assert "victim:" not in "\n".join(record(KILLS[2], None))


# The database


@pytest.mark.parametrize("verb", [["list"], ["show", "1"], ["explain"], ["watch"]])
def test_without_a_database_it_says_where_it_looked_and_what_to_do(tmp_path: Path, verb: list[str]) -> None:
    result = run(tmp_path / "nowhere", *verb)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"cgwatch: {tmp_path}/nowhere/{DATABASE}: no OOM kills are stored here; an agent (cgwatch run) "
        "stores them in its state directory: name that with --state-dir\n"
    )


def test_a_database_that_an_agent_has_only_begun_to_make_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()

    result = run(tmp_path, "list")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"cgwatch: {tmp_path / DATABASE}: nothing is stored here yet; an agent (cgwatch run) will\n"
    )


def test_a_file_that_is_no_database_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("nonsense " * 1000)

    result = run(tmp_path, "list")

    assert result.exit_code == 1
    assert str(tmp_path / DATABASE) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_database_that_may_not_be_read_is_an_error_that_says_so(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "stat", stat)

    result = run(stored, "list")

    assert result.exit_code == 1
    assert "may not be read by this user" in result.stderr


# watch


class Watching:
    """``cgwatch oom watch`` as a process; its lines come as they are written."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "cgwatch", "oom", "watch", "--state-dir", str(folder), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        assert self._process.stderr.readline() == "cgwatch: watching for OOM kills\n"
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes the pipes and waits
            self._process.kill()
            self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)

    def line(self) -> str:
        """Wait for the next line."""
        return self._lines.get(timeout=60)

    def interrupt(self) -> tuple[int, str]:
        """Return the exit status, and what else it said."""
        assert self._process.stderr
        self._process.send_signal(signal.SIGINT)
        status = self._process.wait(30)
        self._reader.join()
        rest = "" if self._lines.empty() else self._lines.get()
        return status, rest + self._process.stderr.read()


def test_watch_shows_a_kill_once_when_it_is_known_whose_it_is_and_ends_when_it_is_interrupted(
    stored: Path,
) -> None:
    now = time.time()
    with Watching(stored, "--format", "json") as watching:
        nobodys = kill(4, found_seconds=now, attributed=False, settled=False, holder=None, path=None)
        save(stored, nobodys, kill(5, DB, "db", found_seconds=now))
        assert json.loads(watching.line())["number"] == 5
        save(stored, kill(4, found_seconds=now, settled=False))
        assert json.loads(watching.line())["number"] == 4
        save(stored, kill(4, found_seconds=now), kill(6, found_seconds=now))
        assert json.loads(watching.line())["number"] == 6

        assert watching.interrupt() == (130, "")


def test_watch_can_follow_one_container_as_a_table_with_titles_once(stored: Path) -> None:
    now = time.time()
    with Watching(stored, "--container", "db") as watching:
        save(stored, kill(4, found_seconds=now), kill(5, DB, "db", found_seconds=now))
        assert watching.line().split()[0] == "NUMBER"
        assert watching.line().split()[0] == "5"
        save(stored, kill(6, DB, "db", found_seconds=now))
        assert watching.line().split()[0] == "6"


# Real kills, beside a real agent.

_HOG = """
import os, sys
kept = [b"x" * (1 << 20) for _ in range({before})]
if {files}:
    with open({file!r}, "wb") as file:
        for _ in range({files}):
            file.write(b"x" * (1 << 20))
print("has", flush=True)
sys.stdin.readline()
while True:
    kept.append(b"x" * (1 << 20))
"""


def _log_missing() -> str | None:
    try:
        os.close(os.open(kmsg.PATH, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return f"cannot read /dev/kmsg: {error.strerror}"
    return None


class Real:
    """An agent, and cgroups to be killed in."""

    def __init__(self, agent: AgentProcess, cgroups: V1Cgroups, shared: str) -> None:
        self.agent = agent
        self.cgroups = cgroups
        self.folder = Path(agent._directory)  # the state directory, which its tests need not name
        self.file = shared

    def make(self, below: str, limit_bytes: int | None) -> Path:
        path = self.cgroups.make(below)
        if limit_bytes is not None:
            (path / "memory.limit_in_bytes").write_text(str(limit_bytes))
        return path

    def kill(self, cgroup: Path, *, before: int, files: int = 0) -> dict[str, Any]:
        """Have a process grow once the agent has seen it, be killed, and explained."""
        name = "/" + str(cgroup.relative_to("/sys/fs/cgroup/memory"))
        code = _HOG.format(before=before, files=files, file=self.file)
        with Watching(self.folder, "--format", "json") as watching:
            process = self.cgroups.start(cgroup, command=(sys.executable, "-c", code))
            assert process.stdout
            assert process.stdin
            assert process.stdout.readline() == b"has\n"
            self.agent.page_after(time.time())
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.wait(30) == -signal.SIGKILL
            while (found := json.loads(watching.line()))["path"] != name:
                pass  # another one's kill
        number = str(found["number"])
        # The log may come a moment after the counter.
        deadline_seconds = time.monotonic() + 30
        while not json.loads(run(self.folder, "show", number, "--format", "json").stdout)["victim"]:
            assert time.monotonic() < deadline_seconds, self.agent.log
            time.sleep(0.05)
        said: dict[str, Any] = json.loads(run(self.folder, "explain", number, "--format", "json").stdout)
        return said


@pytest.fixture
def real(v1_cgroups: V1Cgroups) -> Iterator[Real]:
    require(_log_missing())
    # Not yet a file: it is to be charged to the one who writes it.
    shared = tempfile.mktemp(prefix="cgwtest-", dir="/dev/shm")  # noqa: S306 - as above
    try:
        with AgentProcess(NO_DOCKER) as agent:
            yield Real(agent, v1_cgroups, shared)
    finally:
        Path(shared).unlink(missing_ok=True)


def texts(said: dict[str, Any], topic: str) -> list[str]:
    return [each["text"] for each in (*said["facts"], *said["advice"]) if each["topic"] == topic]


@pytest.mark.real
def test_a_real_process_that_grows_suddenly_is_explained_as_a_spike_of_anonymous_memory(real: Real) -> None:
    cgroup = real.make("spike", 64 * MIB)

    said = real.kill(cgroup, before=10)

    verdicts = said["verdicts"]
    assert verdicts["cause"] == Cause.OWN_LIMIT
    assert (verdicts["limit_bytes"], verdicts["limit_is_inferred"]) == (64 * MIB, False)
    assert (verdicts["consumer"], verdicts["could_reclaim"]) == (Consumer.ANON, False)
    assert verdicts["shape"] == Shape.SPIKE
    (growth,) = [each for each in said["facts"] if each["topic"] == "growth"]
    assert 10 * MIB <= growth["numbers"]["last_bytes"] < 64 * MIB
    assert 64 * MIB - growth["numbers"]["last_bytes"] <= growth["numbers"]["sudden_bytes"] <= 64 * MIB
    assert texts(said, "scope") == ["The victim was the only process there."]


@pytest.mark.real
def test_a_real_container_whose_files_lie_in_a_tmpfs_is_told_that_killing_does_not_free_them(
    real: Real,
) -> None:
    cgroup = real.make("tmpfs", 64 * MIB)

    said = real.kill(cgroup, before=1, files=40)

    assert said["verdicts"]["consumer"] == Consumer.SHMEM
    assert said["verdicts"]["could_reclaim"] is False
    assert any("Killing processes does not free them" in text for text in texts(said, "tmpfs"))


@pytest.mark.real
def test_a_real_kill_by_the_limit_above_names_whose_limit_it_was(real: Real) -> None:
    above = real.make("pod", 64 * MIB)
    cgroup = real.make("pod/member", None)

    said = real.kill(cgroup, before=5)

    assert said["verdicts"]["cause"] == Cause.ANCESTOR_LIMIT
    assert said["verdicts"]["limit_path"] == "/" + str(above.relative_to("/sys/fs/cgroup/memory"))
    assert said["verdicts"]["limit_bytes"] == 64 * MIB
    assert "one above it" in texts(said, "limit")[0]
