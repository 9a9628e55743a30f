"""On the cgroups of this kernel; test_uml.py runs the same on cgroup v2."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from cgwatch.change import Change, Plan, Request, Result, Step
from cgwatch.control import client
from cgwatch.limits.baseline import read_baseline
from cgwatch.limits_settings import Limits
from tests.limits.sandbox import MEBIBYTE, SOMEBODY, Bench, Sandbox, wish
from tests.real.agent_process import AgentProcess

if TYPE_CHECKING:
    from pathlib import Path

    from cgwatch.change import Report, Tree

pytestmark = pytest.mark.real

NO_DOCKER = "unix:///nonexistent/docker.sock"


def results(report: Report) -> dict[str, Result]:
    return {outcome.change.key: outcome.result for outcome in report.outcomes}


def test_a_limit_is_set_read_back_recorded_and_goes_back_when_its_time_is_over(
    sandbox: Sandbox, bench: Bench
) -> None:
    target, path = sandbox.target(sandbox.root), sandbox.root
    earliest = bench.now() + 600

    report = bench.office.enforcer.apply(wish(target, 600, memory_max=64 * MEBIBYTE, pids_max=50))

    assert results(report) == {"memory.max": Result.APPLIED, "pids.max": Result.APPLIED}
    assert report.expires_seconds is not None
    assert earliest <= report.expires_seconds <= bench.now() + 600
    assert sandbox.memory(path).read_text() == f"{64 * MEBIBYTE}\n"
    assert sandbox.pids(path).read_text() == "50\n"
    [outcome] = [each for each in report.outcomes if each.change.key == "memory.max"]
    assert (outcome.written, outcome.read_back, outcome.effective) == (
        str(64 * MEBIBYTE),
        64 * MEBIBYTE,
        64 * MEBIBYTE,
    )
    assert bench.office.terms.next_seconds() == report.expires_seconds
    assert bench.office.terms.expire(bench.now()) == []

    bench.ahead_seconds = 601
    bench.office.terms.expire(bench.now())

    assert sandbox.memory(path).read_text() == sandbox.unlimited
    assert sandbox.pids(path).read_text() == "max\n"
    assert sorted(bench.results()) == [
        ("command", "memory.max", "applied"),
        ("command", "pids.max", "applied"),
        ("expiry", "memory.max", "applied"),
        ("expiry", "pids.max", "applied"),
    ]
    assert bench.office.terms.next_seconds() is None
    assert bench.told.counts["memory.max restored"] == 1


def test_the_ledger_of_oom_kills_is_told_when_a_write_to_memory_begins_and_ends(
    sandbox: Sandbox, bench: Bench
) -> None:
    bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), pids_max=50))
    assert bench.told.writes == []

    bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), memory_max=64 * MEBIBYTE))

    begun, ended = bench.told.writes
    assert begun.path == ended.path == sandbox.root
    assert begun.from_seconds == ended.from_seconds
    assert begun.to_seconds is None
    assert ended.to_seconds is not None
    assert ended.to_seconds >= ended.from_seconds


def test_a_dry_run_says_what_would_be_and_changes_and_records_nothing(sandbox: Sandbox, bench: Bench) -> None:
    request = structs.replace(wish(sandbox.target(sandbox.root), memory_max=64 * MEBIBYTE), dry_run=True)

    report = bench.office.enforcer.apply(request)

    assert results(report) == {"memory.max": Result.DRY_RUN}
    assert [step.text for step in report.steps] == [str(64 * MEBIBYTE)]
    assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited
    assert bench.results() == []
    assert bench.office.terms.watch(bench.now()) == ()


def test_of_stacked_overrides_the_newest_wins_and_the_first_value_comes_back(
    sandbox: Sandbox, bench: Bench
) -> None:
    target = sandbox.target(sandbox.root)
    sandbox.memory(sandbox.root).write_text(str(256 * MEBIBYTE))
    for size in (128, 64, 96):
        bench.office.enforcer.apply(wish(target, 600, memory_max=size * MEBIBYTE))
    [held] = bench.office.terms.watch(bench.now())
    assert (held.desired, held.applied, held.baseline) == (
        96 * MEBIBYTE,
        96 * MEBIBYTE,
        256 * MEBIBYTE,
    )

    bench.office.enforcer.reset(target, None, SOMEBODY)

    assert sandbox.memory(sandbox.root).read_text() == f"{256 * MEBIBYTE}\n"
    assert bench.office.terms.watch(bench.now()) == ()
    assert bench.office.records.baselines(bench.office.enforcer.identity(target)) == {}


@pytest.mark.parametrize("size", [64, 96], ids=["the same value", "another value"])
def test_a_limit_that_is_set_without_a_time_replaces_one_with_a_time(
    sandbox: Sandbox, bench: Bench, size: int
) -> None:
    target = sandbox.target(sandbox.root)
    bench.office.enforcer.apply(wish(target, 600, memory_max=64 * MEBIBYTE))
    bench.office.enforcer.apply(wish(target, memory_max=size * MEBIBYTE))

    bench.ahead_seconds = 601
    assert bench.office.terms.expire(bench.now()) == []

    assert sandbox.memory(sandbox.root).read_text() == f"{size * MEBIBYTE}\n"


def test_what_somebody_else_has_written_since_is_left_alone_and_recorded_as_a_conflict(
    sandbox: Sandbox, bench: Bench
) -> None:
    target = sandbox.target(sandbox.root)
    bench.office.enforcer.apply(wish(target, 600, memory_max=64 * MEBIBYTE, pids_max=50))
    sandbox.memory(sandbox.root).write_text(str(100 * MEBIBYTE))

    bench.ahead_seconds = 601
    reports = bench.office.terms.expire(bench.now())

    assert sandbox.memory(sandbox.root).read_text() == f"{100 * MEBIBYTE}\n"
    assert sandbox.pids(sandbox.root).read_text() == "max\n"
    [conflict] = [each for report in reports for each in report.outcomes if each.change.key == "memory.max"]
    assert (conflict.result, conflict.read_back) == (Result.REFUSED, 100 * MEBIBYTE)
    assert "somebody else" in conflict.message
    assert bench.told.counts["memory.max conflict"] == 1
    assert bench.office.records.overrides() == []


def test_what_somebody_else_writes_over_a_limit_is_counted_once_and_left_alone(
    sandbox: Sandbox, bench: Bench
) -> None:
    bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), 600, memory_max=64 * MEBIBYTE))
    sandbox.memory(sandbox.root).write_text(str(100 * MEBIBYTE))

    for _ in range(3):
        [held] = bench.office.terms.watch(bench.now())

    assert (held.desired, held.applied) == (64 * MEBIBYTE, 100 * MEBIBYTE)
    assert bench.told.counts["memory.max drift"] == 1


def test_nothing_is_brought_back_onto_a_cgroup_that_was_made_anew_at_the_same_path(
    sandbox: Sandbox, bench: Bench
) -> None:
    path = f"{sandbox.root}/job"
    target = sandbox.make(path)
    sandbox.memory(path).write_text(str(256 * MEBIBYTE))
    bench.office.enforcer.apply(wish(target, 600, memory_max=64 * MEBIBYTE))
    sandbox.remove(path)
    sandbox.make(path)
    sandbox.memory(path).write_text(str(64 * MEBIBYTE))

    bench.ahead_seconds = 601
    [report] = bench.office.terms.expire(bench.now())

    assert results(report) == {"memory.max": Result.GONE}
    assert sandbox.memory(path).read_text() == f"{64 * MEBIBYTE}\n"
    assert bench.office.records.overrides() == []


def test_a_request_for_a_cgroup_that_was_made_anew_is_not_carried_out(sandbox: Sandbox, bench: Bench) -> None:
    path = f"{sandbox.root}/job"
    target = sandbox.make(path)
    sandbox.remove(path)
    sandbox.make(path)

    assert results(bench.office.enforcer.apply(wish(target, memory_max=64 * MEBIBYTE))) == {
        "memory.max": Result.GONE
    }
    assert sandbox.memory(path).read_text() == sandbox.unlimited


def test_what_expired_while_nobody_ran_is_brought_back_at_the_next_start(
    sandbox: Sandbox, bench: Bench
) -> None:
    bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), 600, memory_max=64 * MEBIBYTE))
    bench.close()
    bench.ahead_seconds = 10_000

    bench.open().terms.resume()

    assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited


@pytest.mark.parametrize("on_exit", ["keep", "restore"])
def test_at_the_end_overrides_are_left_or_undone_as_the_settings_say(
    sandbox: Sandbox, tmp_path: Path, on_exit: str
) -> None:
    bench = Bench(tmp_path, Limits(on_exit=on_exit))  # type: ignore[arg-type]  # both are literals
    bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), 600, memory_max=64 * MEBIBYTE))

    bench.office.terms.leave()
    bench.close()

    expected = f"{64 * MEBIBYTE}\n" if on_exit == "keep" else sandbox.unlimited
    assert sandbox.memory(sandbox.root).read_text() == expected


def test_what_a_limit_was_stays_on_the_cgroup_itself_where_the_database_is_lost(
    sandbox: Sandbox, bench: Bench, tmp_path: Path
) -> None:
    target = sandbox.target(sandbox.root)
    sandbox.memory(sandbox.root).write_text(str(256 * MEBIBYTE))
    bench.office.enforcer.apply(wish(target, memory_max=64 * MEBIBYTE))
    bench.close()
    for file in tmp_path.glob("cgwatch.db*"):
        file.unlink()

    bench.open().enforcer.reset(target, None, SOMEBODY)

    assert sandbox.memory(sandbox.root).read_text() == f"{256 * MEBIBYTE}\n"
    directories = (sandbox.memory(sandbox.root).parent, sandbox.pids(sandbox.root).parent)
    assert all(read_baseline(str(each)) == {} for each in directories)


HOLD = "held = b'x' * (48 << 20); print('held', flush=True); import time; time.sleep(1000)"


def test_a_limit_is_not_brought_back_below_what_is_used_until_that_is_less(
    sandbox: Sandbox, bench: Bench
) -> None:
    path = f"{sandbox.root}/job"
    target = sandbox.make(path)
    sandbox.memory(path).write_text(str(32 * MEBIBYTE))
    bench.office.enforcer.apply(wish(target, 600, memory_max=128 * MEBIBYTE))
    move = f"open('{sandbox.memory(path).parent}/cgroup.procs', 'w').write('0')"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"{move}; {HOLD}"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        bench.ahead_seconds = 601

        [report] = bench.office.terms.expire(bench.now())

        assert results(report) == {"memory.max": Result.REFUSED}
        assert sandbox.memory(path).read_text() == f"{128 * MEBIBYTE}\n"
        assert process.poll() is None, "nobody is killed for an override that ends"
        assert bench.office.terms.expire(bench.now()) == [], "it is not tried again at once"
        process.kill()
    bench.ahead_seconds += 61

    [report] = bench.office.terms.expire(bench.now())

    assert results(report) == {"memory.max": Result.APPLIED}
    assert sandbox.memory(path).read_text() == f"{32 * MEBIBYTE}\n"


def test_a_kill_by_a_limit_that_was_forced_below_what_is_used_is_told_as_our_own_doing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path = f"{sandbox.root}/job"
    target = sandbox.make(path)
    # Without swap: it would take what has no room.
    swap = sandbox.file(path, "memory", "memory.swap.max", "memory.swappiness")
    if swap.exists():
        swap.write_text("0")
    move = f"open('{sandbox.memory(path).parent}/cgroup.procs', 'w').write('0')"
    environment = {"CGWATCH_LIMITS_VERIFY_AFTER": "100ms"}
    with (
        AgentProcess(NO_DOCKER, state_dir=str(tmp_path), environment=environment) as agent,
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"{move}; {HOLD}"], stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        agent.page_after(time.time())
        request = structs.replace(wish(target, memory_max=16 * MEBIBYTE), force=True)

        report = client.apply(str(tmp_path), request)

        if sandbox.version == 1:
            assert results(report) == {"memory.max": Result.REFUSED}, "cgroup v1 kills nobody for a new limit"
            assert process.poll() is None
            process.kill()
            return
        assert results(report) == {"memory.max": Result.APPLIED}
        assert process.wait() == -signal.SIGKILL
        page = agent.wait_for(
            lambda page: page.value("cgwatch_limit_oom_kills_total") == 1, deadline_seconds=30
        )
        assert page.value("cgwatch_oom_kills_total", name=path, cause="limit_write") == 1


def test_no_text_that_somebody_gives_keeps_a_change_from_being_recorded(
    sandbox: Sandbox, bench: Bench
) -> None:
    target = structs.replace(sandbox.target(sandbox.root), name="odd\udcff")
    request = structs.replace(wish(target, 600, pids_max=50), reason="because \ud800")

    assert results(bench.office.enforcer.apply(request)) == {"pids.max": Result.APPLIED}
    nowhere = structs.replace(target, path="/cgwtest-odd\udcff")
    report = bench.office.enforcer.apply(wish(nowhere, pids_max=50))

    assert results(report) == {"pids.max": Result.REFUSED}
    assert bench.results() == [("command", "pids.max", "applied"), ("command", "pids.max", "refused")]


def test_what_was_before_two_databases_comes_back_from_the_cgroup(
    sandbox: Sandbox, bench: Bench, tmp_path: Path
) -> None:
    target = sandbox.target(sandbox.root)
    sandbox.memory(sandbox.root).write_text(str(256 * MEBIBYTE))
    bench.office.enforcer.apply(wish(target, memory_max=64 * MEBIBYTE))
    bench.close()
    for file in tmp_path.glob("cgwatch.db*"):
        file.unlink()
    bench.open().enforcer.apply(wish(target, pids_max=50))

    bench.office.enforcer.reset(target, ["pids.max"], SOMEBODY)
    bench.office.enforcer.reset(target, ["memory.max"], SOMEBODY)

    assert sandbox.pids(sandbox.root).read_text() == "max\n"
    assert sandbox.memory(sandbox.root).read_text() == f"{256 * MEBIBYTE}\n"


def plan_with_a_bad_step(request: Request, tree: Tree, _restores: bool) -> Plan:  # noqa: FBT001 - as planned
    """Return a plan whose last step no kernel takes."""
    version = tree.versions["memory"]
    memory = "memory.max" if version == 2 else "memory.limit_in_bytes"
    before = "max" if version == 2 else "-1"
    path = request.target.path
    return Plan(
        request,
        (
            Change("memory.max", math.inf, 64 * MEBIBYTE, 64 * MEBIBYTE),
            Change("pids.max", math.inf, -5, -5),
        ),
        steps=(
            Step(path, "memory", memory, str(64 * MEBIBYTE), before, ("memory.max",)),
            Step(path, "pids", "pids.max", "-5", "max", ("pids.max",)),
        ),
    )


def test_where_the_kernel_refuses_one_limit_those_that_were_set_are_undone(
    sandbox: Sandbox, bench: Bench
) -> None:
    target = sandbox.target(sandbox.root)
    office = bench.open(plan_with_a_bad_step)

    report = office.enforcer.apply(wish(target, memory_max=64 * MEBIBYTE, pids_max=-5))

    assert results(report) == {"memory.max": Result.REFUSED, "pids.max": Result.REFUSED}
    assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited
    assert sandbox.pids(sandbox.root).read_text() == "max\n"
    assert office.records.overrides() == []
    assert office.records.baselines(office.enforcer.identity(target)) == {}
    assert bench.results() == [
        ("command", "memory.max", "refused"),
        ("command", "pids.max", "refused"),
    ]


def test_a_write_that_hangs_is_given_up_at_the_deadline_and_what_was_done_is_undone(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "state", Limits(deadline_seconds=0.3))
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)  # to open it waits for a reader, for ever
    pids, hand = str(sandbox.pids(sandbox.root)), bench.office.enforcer._ground._hand  # type: ignore[attr-defined]  # the real one
    write = hand.write
    monkeypatch.setattr(hand, "write", lambda path, raw: write(str(hanging) if path == pids else path, raw))

    report = bench.office.enforcer.apply(
        wish(sandbox.target(sandbox.root), memory_max=64 * MEBIBYTE, pids_max=50)
    )
    bench.close()

    assert results(report) == {"memory.max": Result.REFUSED, "pids.max": Result.REFUSED}
    assert "0.3 s" in next(each.message for each in report.outcomes if each.change.key == "pids.max")
    assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited


def test_of_two_that_would_write_limits_only_one_does(sandbox: Sandbox, bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    bench.close()
    first = Bench(tmp_path / "first", lock=tmp_path / "lock")
    with pytest.raises(AssertionError):
        Bench(other, lock=tmp_path / "lock", patience_seconds=0.0)
    first.office.lock.release()

    report = first.office.enforcer.apply(wish(sandbox.target(sandbox.root), memory_max=64 * MEBIBYTE))

    assert results(report) == {"memory.max": Result.REFUSED}
    assert "limits.lock" not in report.outcomes[0].message
    assert str(tmp_path / "lock") in report.outcomes[0].message
    assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited


def test_a_reset_brings_back_what_was_there_though_the_nodes_reserve_would_not_have_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with open("/proc/meminfo", encoding="ascii") as file:
        total_bytes = int(file.readline().split()[1]) * 1024
    before_bytes = total_bytes // 2 // MEBIBYTE * MEBIBYTE
    sandbox.memory(sandbox.root).write_text(str(before_bytes))
    bench = Bench(tmp_path / "reserve", Limits(host_reserve_bytes=total_bytes * 3 // 4))
    target = sandbox.target(sandbox.root)
    with closing(bench):
        bench.office.enforcer.apply(wish(target, memory_max=64 * MEBIBYTE))

        report = bench.office.enforcer.reset(target, None, SOMEBODY)

    assert results(report) == {"memory.max": Result.APPLIED}
    assert int(sandbox.memory(sandbox.root).read_text()) == before_bytes


def test_the_own_cgroup_and_those_above_are_protected(sandbox: Sandbox, bench: Bench) -> None:
    own = bench.office.enforcer._ground.own_paths
    for path in {"/", *own}:
        report = bench.office.enforcer.apply(wish(sandbox.target(path), memory_max=64 * MEBIBYTE))
        assert results(report) == {"memory.max": Result.REFUSED}
        assert "protected" in report.outcomes[0].message
