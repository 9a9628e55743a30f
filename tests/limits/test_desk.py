from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from cgwatch.change import Result
from cgwatch.errors import EnforcerBusyError
from cgwatch.limits.desk import LimitsDesk
from cgwatch.limits.wiring import open_office
from cgwatch.storage import DATABASE, Storage
from tests.limits.sandbox import MEBIBYTE, SOMEBODY, Bench, Sandbox, Told, wish
from tests.real.agent_process import AgentProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real

NO_DOCKER = "unix:///nonexistent/docker.sock"


class ToldOfLock(Told):
    def __init__(self) -> None:
        super().__init__()
        self.ours: list[bool] = []
        self.changed = threading.Condition()

    def enforcing(self, is_ours: bool, /) -> None:  # noqa: FBT001 - a callback
        with self.changed:
            self.ours.append(is_ours)
            self.changed.notify_all()

    def wait_for(self, *expected: bool) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.ours == list(expected), 30), self.ours


def desk_of(bench: Bench, told: ToldOfLock) -> LimitsDesk:
    bench.close()
    storage = Storage.open(str(bench.state_dir / DATABASE))
    office = open_office(bench.settings, storage, observer=told, told=bench.told.writes.append)
    return LimitsDesk(office, storage, told, lock_seconds=0.05)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_worker_undoes_a_limit_when_its_time_is_over_without_being_asked(
    sandbox: Sandbox, bench: Bench
) -> None:
    told = ToldOfLock()
    desk = desk_of(bench, told)
    desk.start()
    try:
        target = sandbox.target(sandbox.root)
        report = desk.apply(wish(target, 0.5, memory_max=64 * MEBIBYTE))
        assert [outcome.result for outcome in report.outcomes] == [Result.APPLIED]
        assert sandbox.memory(sandbox.root).read_text() == f"{64 * MEBIBYTE}\n"
        wait_until(lambda: sandbox.memory(sandbox.root).read_text() == sandbox.unlimited)
        assert report.expires_seconds is not None
        assert report.expires_seconds <= time.time() < report.expires_seconds + 15

        desk.apply(wish(target, memory_max=64 * MEBIBYTE))
        wait_until(lambda: len(desk.held()) == 1)
        desk.reset(target, None, SOMEBODY)
        assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited
    finally:
        desk.stop()


def test_of_two_agents_one_writes_and_the_other_one_observes_until_the_first_ends(
    sandbox: Sandbox, bench: Bench, tmp_path: Path
) -> None:
    told, other_told = ToldOfLock(), ToldOfLock()
    first = desk_of(bench, told)
    second = desk_of(Bench(tmp_path / "second", lock=bench.state_dir / "limits.lock"), other_told)
    first.start()
    told.wait_for(True)
    second.start()
    try:
        other_told.wait_for(False)
        request = wish(sandbox.target(sandbox.root), memory_max=64 * MEBIBYTE)
        with pytest.raises(EnforcerBusyError, match=str(bench.state_dir / "limits.lock")):
            second.apply(request)

        first.stop()
        other_told.wait_for(False, True)

        assert [each.result for each in second.apply(request).outcomes] == [Result.APPLIED]
    finally:
        first.stop()
        second.stop()


def test_an_agent_undoes_what_expired_before_its_start_and_says_that_it_is_the_one_that_writes(
    sandbox: Sandbox, bench: Bench
) -> None:
    report = bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), 0.01, memory_max=64 * MEBIBYTE))
    held = bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), 600, pids_max=50))
    bench.close()
    assert report.outcomes[0].result is Result.APPLIED

    with AgentProcess(NO_DOCKER, state_dir=str(bench.state_dir)) as agent:
        wait_until(lambda: sandbox.memory(sandbox.root).read_text() == sandbox.unlimited)
        page = agent.wait_for(
            lambda page: bool(
                page.find("cgwatch_limit", knob="pids.max")
                and page.find("cgwatch_limit_restores_total", knob="memory.max")
            ),
            deadline_seconds=30,
        )
        assert page.value("cgwatch_enforcer") == 1
        assert page.value("cgwatch_limit_restores_total", knob="memory.max") == 1
        for state in ("desired", "applied", "effective"):
            labels = {"container": sandbox.root, "knob": "pids.max", "state": state}
            assert page.value("cgwatch_limit", **labels) == 50
        name = "cgwatch_limit_override_expiry_timestamp_seconds"
        assert page.value(name, container=sandbox.root, knob="pids.max") == held.expires_seconds
        assert page.value("cgwatch_limit_oom_kills_total") == 0

    assert sandbox.pids(sandbox.root).read_text() == "50\n"  # on_exit: keep


def test_an_agent_that_only_observes_leaves_everything_as_it_is(sandbox: Sandbox, bench: Bench) -> None:
    bench.office.enforcer.apply(wish(sandbox.target(sandbox.root), 0.01, memory_max=64 * MEBIBYTE))
    bench.close()

    environment = {"CGWATCH_READ_ONLY": "true"}
    with AgentProcess(NO_DOCKER, state_dir=str(bench.state_dir), environment=environment) as agent:
        page = agent.page_after(time.time())
        assert page.value("cgwatch_enforcer") == 0
    assert sandbox.memory(sandbox.root).read_text() == f"{64 * MEBIBYTE}\n"
