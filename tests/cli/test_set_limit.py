from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cgroup.knobs import KNOBS
from cgwatch.change import Actor, ActorKind, Change, Outcome, Report, Request, Step, Target, Via
from cgwatch.change import Result as Became
from cgwatch.cli import cli
from cgwatch.cli.changes_table import comma_separated, row, table
from cgwatch.cli.limit_text import report_lines
from cgwatch.cli.limits_table import table as limits_lines
from cgwatch.control.routes import Limits, NoLimits
from cgwatch.control.server import serve
from cgwatch.discovery.recognise import recognise
from cgwatch.limits.effective import Effective
from cgwatch.limits.record import Entry, Override
from cgwatch.limits.view import Known, View, view_of
from cgwatch.model import Cgroup, Container, Description, Runtime, Sample, Snapshot

if TYPE_CHECKING:
    from cgwatch.metrics.pages import LatestPages

MIB = 1 << 20
WEB, WORKER_1, WORKER_2 = "ab" * 32, "c1" * 32, "c2" * 32
NAMES = {WEB: "web", WORKER_1: "worker-1", WORKER_2: "worker-2"}
TREE = Path(__file__).parents[1] / "trees" / "docker_v2"
HOSTILE = "\x1b[31mred\r\n\u202e"


def snapshot(names: dict[str, str]) -> Snapshot:
    samples = [Sample(Container(Cgroup("/", 1), recognise("/")))]
    for number, (container_id, name) in enumerate(names.items(), start=2):
        path = f"/docker/{container_id}"
        said = Description(Runtime.DOCKER, container_id, name, "image:1", {}, "running")
        samples.append(Sample(Container(Cgroup(path, number), recognise(path), description=said)))
    return Snapshot(0, 1e9, 1.0, 0.01, tuple(samples), Layout.V2)


class Desk:
    """Does what it is told, and says of a value of 666 that a cgroup above allows less."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.entries: list[Entry] = []

    def apply(self, request: Request, *, timeout_seconds: float) -> Report:
        assert timeout_seconds
        self.asked.append(request)
        return report(request)

    def reset(
        self, target: Target, keys: Iterable[str] | None, actor: Actor, *, timeout_seconds: float
    ) -> Report:
        assert timeout_seconds
        return self.apply(Request(target, dict.fromkeys(keys or (), 0), actor), timeout_seconds=1)

    def changes(self, *, since_seconds: float, container: str | None, limit: int) -> list[Entry]:
        assert (since_seconds, container) == (0, None)
        return self.entries[:limit]

    def view(self, target: Target) -> View:
        path = target.path
        override = Override(
            target, "memory.max", 512 * MIB, Via.DOCKER, entry().actor, "test", 1e9, 1e9 + 600, 1
        )
        known = Known(
            {"memory": 2, "pids": 2},
            effective={"pids.max": Effective(5, "/docker"), "memory.max": Effective(512 * MIB, path)},
            runtime={"memory.max": 512 * MIB},
            baselines={"memory.max": math.inf},
            overrides=(override,),
            notes=(f"Docker says {HOSTILE}",),
        )
        return view_of(target, {"pids.max": 50, "memory.max": 512 * MIB, "memory.high": math.inf}, known)


def report(request: Request) -> Report:
    outcomes = []
    for key, value in request.wanted.items():
        result = Became.DRY_RUN if request.dry_run else Became.APPLIED
        outcome = Outcome(
            Change(key, math.inf, value, value), result, Via.DOCKER, 1e9, read_back=value, effective=value
        )
        if value == 666:
            outcome = structs.replace(
                outcome, result=Became.APPLIED_NOT_EFFECTIVE, effective=5, effective_path="/docker"
            )
        outcomes.append(outcome)
    steps = (Step(request.target.path, "memory", "memory.max", "536870912\n", "max\n", ("memory.max",)),)
    expires = None if request.for_seconds is None else 1e9 + request.for_seconds
    warnings = ("pid 5 (hog) is going to be killed",) if request.force else ()
    return Report(request, tuple(outcomes), warnings, 7, expires, steps if request.dry_run else ())


@contextmanager
def agent(desk: Desk | None, names: dict[str, str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        pages = cast("LatestPages", SimpleNamespace(previous=None, snapshot=snapshot(names)))
        server = serve(f"{folder}/state", pages, Limits(desk, desk, desk) if desk else NoLimits("why"))
        assert server is not None
        try:
            yield f"{folder}/state"
        finally:
            server.stop()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def run(desk: Desk) -> Iterator[Callable[..., Result]]:
    """Run a verb beside an agent that follows three containers."""
    with agent(desk, NAMES) as state_dir:

        def call(*arguments: str) -> Result:
            roots = ("--cgroup-root", str(TREE / "cgroup"), "--proc-root", str(TREE / "proc"))
            environment = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
            command = [arguments[0], "--state-dir", state_dir, *roots, *arguments[1:]]
            return CliRunner(env=environment).invoke(cli, command, prog_name="cgwatch")

        yield call


def test_a_limit_that_holds_is_shown_before_after_and_effective_with_exit_code_0(
    run: Callable[..., Result], desk: Desk
) -> None:
    result = run("set-limit", "web", "--memory", "512m", "--for", "10m", "--reason", "load test")

    assert (result.exit_code, result.stderr) == (0, "")
    heading, titles, line, until = result.stdout.splitlines()
    assert heading == f"web  /docker/{WEB}"
    assert titles.split() == ["LIMIT", "BEFORE", "NOW", "EFFECTIVE", "VIA", "RESULT"]
    assert line.split() == ["memory.max", "max", "512MiB", "512MiB", "docker", "applied"]
    assert until.startswith("until 2001-09-09")
    assert until.endswith("(10m); then it is as before")
    (asked,) = desk.asked
    assert (asked.wanted, asked.for_seconds, asked.reason) == ({"memory.max": 512 * MIB}, 600, "load test")
    assert asked.target.name == "web"


def test_a_limit_that_does_not_hold_ends_with_exit_code_1_and_says_who_allows_less(
    run: Callable[..., Result],
) -> None:
    result = run("set-limit", "web", "--pids-limit", "666")

    assert result.exit_code == 1
    assert "not effective" in result.stdout
    assert "pids.max: /docker allows only 5" in result.stdout


def test_a_dry_run_shows_the_steps_and_says_that_nothing_was_changed(
    run: Callable[..., Result], desk: Desk
) -> None:
    result = run("set-limit", "web", "--memory", "512m", "--dry-run")

    assert result.exit_code == 0
    assert [each.dry_run for each in desk.asked] == [True]
    assert "write '536870912' to memory.max (undone by 'max')" in result.stdout
    assert result.stdout.endswith("nothing was changed (--dry-run)\n")


def test_force_says_before_what_it_is_going_to_do(run: Callable[..., Result], desk: Desk) -> None:
    result = run("set-limit", "web", "--memory", "1m", "--force")

    assert result.stderr == "cgwatch: --force: pid 5 (hog) is going to be killed\n"
    assert [(each.dry_run, each.force) for each in desk.asked] == [(True, True), (False, True)]


def test_json_has_the_report_as_it_is_with_max_for_no_limit(run: Callable[..., Result]) -> None:
    result = run("set-limit", "web", "--memory", "max", "--format", "json")

    (said,) = json.loads(result.stdout)
    assert said["outcomes"][0]["change"] == {
        "key": "memory.max",
        "before": "max",
        "asked": "max",
        "to": "max",
        "note": "",
    }
    assert said["request"]["target"]["name"] == "web"


def test_a_glob_that_means_several_acts_on_none_of_them_without_all(
    run: Callable[..., Result], desk: Desk
) -> None:
    refused = run("set-limit", "worker-*", "--cpus", "1")
    assert refused.exit_code == 3
    assert desk.asked == []
    *listed, last = refused.stderr.splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "worker-1", "worker-2"]
    assert last == 'cgwatch: "worker-*" can mean any of the 2 above; --all means all of them'

    assert run("set-limit", "worker-*", "--all", "--cpus", "1").exit_code == 0
    assert [each.target.name for each in desk.asked] == ["worker-1", "worker-2"]


def test_the_beginning_of_two_ids_is_refused_as_well(run: Callable[..., Result], desk: Desk) -> None:
    assert run("freeze", "c").exit_code == 3  # one digit is anybody's
    assert run("freeze", "c1c").exit_code == 0
    assert [each.target.name for each in desk.asked] == ["worker-1"]


def test_several_names_are_done_one_after_the_other_and_each_once(
    run: Callable[..., Result], desk: Desk
) -> None:
    result = run("set-limit", "web", "worker-1", "web", "--set", "pids.max=50")

    assert result.exit_code == 0
    assert [each.target.name for each in desk.asked] == ["web", "worker-1"]


def test_one_unknown_name_keeps_all_others_untouched(run: Callable[..., Result], desk: Desk) -> None:
    result = run("set-limit", "web", "worke", "--pids-limit", "5")

    assert result.exit_code == 3
    assert "worker-1" in result.stderr
    assert 'is called "worke"; above is what is called like it' in result.stderr
    assert desk.asked == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("set-limit", "web"), "say what to limit, such as --memory 512m"),
        (("set-limit", "web", "--memory", "lots"), "lots"),
        (("set-limit", "web", "--set", "memory.maxx=1"), "there is no limit 'memory.maxx'"),
        (("set-limit", "web", "--memory", "1g", "--for", "soon"), '--for: "soon" is not a duration'),
        (("set-limit", "web", "--memory", "1g", "--for", "0s"), "one second at least"),
        (("set-limit", "web", "--memory", "1g", "--reason", "x" * 1001), "be brief"),
        (("set-limit", "--memory", "1g"), "Missing argument"),
        (("reset-limit", "web", "memory.maxx"), "there is no limit 'memory.maxx'"),
    ],
)
def test_what_is_not_understood_is_exit_code_2_and_changes_nothing(
    run: Callable[..., Result], desk: Desk, arguments: tuple[str, ...], says: str
) -> None:
    result = run(*arguments)

    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert desk.asked == []


def test_freeze_and_thaw_are_a_limit_like_others(run: Callable[..., Result], desk: Desk) -> None:
    assert run("freeze", "web", "--for", "30s").exit_code == 0
    assert run("thaw", "web").exit_code == 0

    assert [each.wanted for each in desk.asked] == [{"cgroup.freeze": 1}, {"cgroup.freeze": 0}]
    assert [each.for_seconds for each in desk.asked] == [30, None]


def test_reset_brings_back_what_is_named(run: Callable[..., Result], desk: Desk) -> None:
    assert run("reset-limit", "web", "memory.max", "pids.max").exit_code == 0
    assert list(desk.asked[0].wanted) == ["memory.max", "pids.max"]
    nothing = run("reset-limit", "web")
    assert nothing.exit_code == 0
    assert "nothing to do" in nothing.stdout


def test_an_agent_that_changes_nothing_is_not_gone_around() -> None:
    with agent(None, NAMES) as state_dir:
        result = CliRunner().invoke(
            cli, ["set-limit", "web", "--memory", "1g", "--state-dir", state_dir], prog_name="cgwatch"
        )
    assert result.exit_code == 1
    assert result.stderr.startswith("cgwatch: web: the agent says: this agent changes no limits")


# What is shown of names and texts of anybody's.


def entry(**changed: Any) -> Entry:
    path = f"/docker/{WEB}"
    change = Change("memory.max", math.inf, 512 * MIB, 512 * MIB)
    outcome = Outcome(change, Became.APPLIED, Via.DOCKER, 1e9, read_back=512 * MIB, effective=512 * MIB)
    said: dict[str, Any] = {
        "number": 3,
        "report": 2,
        "seconds": 1e9,
        "target": Target(path, 7, recognise(path), "web"),
        "actor": Actor(ActorKind.COMMAND, "alice", 1000),
        "reason": "load test",
        "for_seconds": 600.0,
        "change": change,
        "outcome": outcome,
    }
    return Entry(**(said | changed))


def test_a_change_is_a_line_of_who_did_what_to_whom_and_why() -> None:
    titles, line = table([entry()], 1e9, None)

    assert titles.split() == ("NUMBER WHEN CONTAINER LIMIT FROM TO RESULT BY FOR VIA REASON".split())
    assert line.split()[2:] == "web memory.max max 512MiB applied alice 10m docker load test".split()


def test_on_a_narrow_terminal_what_matters_less_is_left_out() -> None:
    lines = list(table([entry(), entry(outcome=None, reason="x" * 500)], 1e9 + 5, 80))

    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == "NUMBER WHEN CONTAINER LIMIT FROM TO RESULT BY FOR".split()


def test_a_change_of_today_shows_its_time_and_an_older_one_its_day() -> None:
    here = [line.split()[1] for line in table([entry(), entry(seconds=1e9 - 200_000)], 1e9, None)]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", here[1])
    assert re.fullmatch(r"2001-09-0\d", here[2])


def test_a_change_under_way_has_no_result_yet() -> None:
    assert "under way" in list(table([entry(outcome=None)], 1e9, None))[1]


def test_csv_has_one_line_for_each_change_whatever_its_names_hold() -> None:
    target = structs.replace(entry().target, name=HOSTILE)
    lines = comma_separated([entry(), entry(target=target, reason=HOSTILE, outcome=None)]).splitlines()

    assert len(lines) == 3
    assert lines[0].split(",") == list(row(entry()))
    assert "max,536870912,536870912,536870912" in lines[1]


@given(st.text(max_size=30), st.text(max_size=30), st.integers(40, 200))
def test_no_name_reaches_the_terminal_as_it_is(name: str, text: str, width: int) -> None:
    target = Target(f"/docker/{name}", 7, recognise(f"/docker/{name}"), name or None)
    asked = Request(target, {"memory.max": 666}, entry().actor, dry_run=True)
    said = structs.replace(report(asked), warnings=(text,))
    step = structs.replace(said.steps[0], path=f"/{text}") if said.steps else None
    said = structs.replace(said, steps=(step,) if step else ())
    view = view_of(target, {"memory.max": 1}, Known({"memory": 2}, notes=(text,)))
    lines = [
        *report_lines(said, width),
        *limits_lines(view, 1e9, width),
        *table([entry(target=target, reason=text, actor=Actor(ActorKind.POLICY, text))], 1e9, width),
    ]
    assert all(" " <= each <= "~" for line in lines for each in line)


def test_the_log_is_read_by_the_agent(run: Callable[..., Result], desk: Desk) -> None:
    desk.entries = [entry(), entry(number=2)]

    assert [line.split()[0] for line in run("changes").stdout.splitlines()] == ["NUMBER", "3", "2"]
    (said,) = json.loads(run("changes", "--limit", "1", "--format", "json").stdout)
    assert (said["number"], said["change"]["before"], said["outcome"]["result"]) == (3, "max", "applied")


def test_without_a_change_the_exit_code_is_3(run: Callable[..., Result]) -> None:
    result = run("changes")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "cgwatch: no change of a limit is stored\n"


def test_without_an_agent_and_a_database_it_is_said_where_changes_would_be() -> None:
    result = CliRunner().invoke(cli, ["changes", "--state-dir", "/nonexistent"], prog_name="cgwatch")
    assert result.exit_code == 1
    assert "no changes of limits are stored here" in result.stderr


def test_limits_shows_what_holds_and_whose_that_is_and_until_when(run: Callable[..., Result]) -> None:
    result = run("limits", "web")

    assert result.exit_code == 0, result.output
    heading, owner, titles, maximum, high, pids, who, note = result.stdout.splitlines()
    assert (heading, owner) == (f"web  /docker/{WEB}", "owner: docker (container)")
    assert titles.split() == "LIMIT CONFIGURED EFFECTIVE OF BASELINE LEFT RUNTIME VIA".split()
    assert maximum.split() == "memory.max 512MiB 512MiB -- max 0s 512MiB docker".split()
    assert high.split() == "memory.high max -- -- -- -- -- cgroupfs".split()
    assert pids.split() == "pids.max 50 5 /docker -- -- -- docker".split()
    assert re.fullmatch(r"  memory\.max: 512MiB by alice until 2001-09-\d\d \d\d:\d\d \(test\)", who)
    assert note.startswith("note: Docker says \\x1b[31mred")


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/system.slice/ssh.service", "systemd (ssh.service)"),
        (f"/docker/{WEB}/init", f"whoever is in container {WEB[:12]}"),
        ("/made", "nobody that its path tells"),
        ("/kubepods/burstable/pod11111111-2222-3333-4444-555555555555", "kubernetes (pod)"),
    ],
)
def test_limits_says_whose_the_cgroup_is(path: str, owner: str) -> None:
    view = view_of(Target(path, 7, recognise(path)), {"memory.max": 1}, Known({"memory": 2}))
    assert f"owner: {owner}" in limits_lines(view, 1e9, 80)


def test_limits_in_json_has_every_number_as_it_is(run: Callable[..., Result]) -> None:
    said = json.loads(run("limits", "web", "--format", "json").stdout)

    assert [(each["key"], each["configured"], each["baseline"]) for each in said["limits"]] == [
        ("memory.max", 512 * MIB, "max"),
        ("memory.high", "max", None),
        ("pids.max", 50, None),
    ]


def test_a_shell_completes_names_by_what_the_agent_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with agent(None, {**NAMES, "cd" * 32: "with space", "ce" * 32: HOSTILE}) as state_dir:
        monkeypatch.setenv("CGWATCH_STATE_DIR", state_dir)
        words = {"_CGWATCH_COMPLETE": "bash_complete", "COMP_WORDS": "cgwatch limits w", "COMP_CWORD": "2"}
        result = CliRunner(env=words).invoke(cli, [], prog_name="cgwatch")
    assert result.stdout.split() == ["plain,web", "plain,worker-1", "plain,worker-2"]


def test_a_limits_name_is_completed_as_well() -> None:
    words = {
        "_CGWATCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "cgwatch reset-limit web memory.m",
        "COMP_CWORD": "3",
    }
    result = CliRunner(env=words).invoke(cli, [], prog_name="cgwatch")
    assert result.stdout.split() == ["plain,memory.max", "plain,memory.min"]


def test_every_limit_is_listed_with_its_files_and_flags(run: Callable[..., Result]) -> None:
    listed = run("set-limit", "--list").stdout
    for knob in KNOBS:
        assert knob.key.replace("DEVICE", "8:0").replace("SIZE", "2MB") in listed
        assert all(flag in listed for flag in knob.flags)
