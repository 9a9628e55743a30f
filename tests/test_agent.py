"""The agent's core with a clock and an inbox that a test winds forward by hand."""

from __future__ import annotations

import logging
import queue
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import structs

from cgwatch.agent import Agent, Inbox, Stop
from cgwatch.assembly import FailureLog, make_renderer, open_sampler
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.discovery.runtime import Availability, Described, Forgotten, Lifecycle, Message
from cgwatch.errors import MalformedFileError, NoCgroupsError, ReadFailedError
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.pages import LatestPages
from cgwatch.model import Cgroup, Container, Description, Kind, Owner, Runtime, Sample, Snapshot
from cgwatch.sampling.schedule import Schedule
from cgwatch.settings import Roots, Sampling, Settings
from tests.cgroup.fake_trees import Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cgwatch.sampling.sampler import Sampler

ID = "a" * 64
OTHER_ID = "b" * 64
DOCKER = Runtime.DOCKER


def description(container_id: str, name: str) -> Description:
    return Description(DOCKER, container_id, name, "image:1", {}, "running")


def lifecycle(action: str) -> Lifecycle:
    return Lifecycle(DOCKER, ID, action, 0.0, None, {})


class Time:
    """A clock, and an inbox in which each message arrives at its own second."""

    def __init__(self) -> None:
        self.now_seconds = 100.0
        self.mail: list[tuple[float, Message | Stop]] = []

    def monotonic(self) -> float:
        return self.now_seconds

    def post(self, seconds: float, message: Message | Stop) -> None:
        self.mail.append((seconds, message))
        self.mail.sort(key=lambda item: item[0])

    def get(self, timeout: float) -> Message | Stop:
        assert timeout > 0
        if not self.mail or self.mail[0][0] > self.now_seconds + timeout:
            self.now_seconds += timeout
            raise queue.Empty
        arrival, message = self.mail.pop(0)
        self.now_seconds = max(self.now_seconds, arrival)
        return message


class FakeSampler:
    """Takes as long as it is told to, and shows containers without asking a kernel."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.taking_seconds: dict[int, float] = {}
        self.ticks: list[tuple[int, float]] = []
        self.containers: dict[str, Kind] = {}
        self.descriptions: Mapping[str, Description] = {}

    def describe(self, descriptions: Mapping[str, Description]) -> None:
        self.descriptions = descriptions

    def sample(self, sequence: int) -> Snapshot:
        start_seconds = self._time.now_seconds
        self.ticks.append((sequence, start_seconds))
        self._time.now_seconds += self.taking_seconds.get(sequence, 0.25)
        samples = tuple(
            Sample(
                Container(
                    Cgroup(f"/docker/{identity}", number),
                    Owner(kind, DOCKER, identity),
                    description=self.descriptions.get(identity),
                )
            )
            for number, (identity, kind) in enumerate(self.containers.items())
        )
        return Snapshot(
            sequence, start_seconds, start_seconds, self._time.now_seconds - start_seconds, samples, Layout.V2
        )


class FakeWatcher:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def ask(self, container_id: str) -> None:
        self.asked.append(container_id)


class Core:
    """An agent with everything around it made for the test."""

    def __init__(self) -> None:
        self.time = Time()
        self.sampler = FakeSampler(self.time)
        self.own = OwnMetrics()
        self.pages = LatestPages(
            make_renderer(Settings()),
            self.own,
            node="node",
            interval_seconds=5,
            monotonic=self.time.monotonic,
        )
        self.watcher = FakeWatcher()
        self.agent = Agent(
            sampler=cast("Sampler", self.sampler),
            schedule=Schedule(5, self.time.now_seconds),
            pages=self.pages,
            own=self.own,
            inbox=cast("Inbox", self.time),
            monotonic=self.time.monotonic,
            watchers=(self.watcher,),
        )

    def run_until(self, seconds: float) -> str:
        self.time.post(seconds, Stop("the test is over"))
        return self.agent.run()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.own.registry.get_sample_value(name, labels)


@pytest.fixture
def core() -> Core:
    return Core()


def test_it_ticks_at_once_and_then_on_schedule(core: Core) -> None:
    core.run_until(121)
    assert core.sampler.ticks == [(0, 100), (1, 105), (2, 110), (3, 115), (4, 120)]


def test_a_message_to_stop_ends_it_and_says_why(core: Core) -> None:
    assert core.run_until(101) == "the test is over"
    assert core.sampler.ticks == [(0, 100)]


def test_messages_are_taken_between_two_ticks(core: Core) -> None:
    said = description(ID, "shop")
    core.time.post(102, Described(DOCKER, (said,)))
    core.time.post(103, lifecycle("start"))
    core.run_until(106)
    assert core.sampler.descriptions == {ID: said}
    assert [when for _, when in core.sampler.ticks] == [100, 105]
    assert core.metric("cgwatch_container_events_total", runtime="docker", action="start") == 1


def test_a_flood_of_messages_does_not_delay_a_tick(core: Core) -> None:
    for number in range(10_000):
        core.time.post(100 + number / 1000, lifecycle("exec_start"))
    core.time.post(111, lifecycle("die"))
    core.run_until(112)
    assert core.sampler.ticks == [(0, 100), (1, 105), (2, 110)]
    assert core.time.mail == []
    assert core.metric("cgwatch_container_events_total", runtime="docker", action="die") == 1


def test_messages_that_came_during_a_long_tick_are_taken_after_it(core: Core) -> None:
    core.sampler.taking_seconds[0] = 4.0
    core.time.post(101, Described(DOCKER, (description(ID, "shop"),)))
    core.run_until(106)
    assert [when for _, when in core.sampler.ticks] == [100, 105]
    assert ID in core.sampler.descriptions


def test_ticks_that_were_run_over_are_skipped_and_counted(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    core.sampler.taking_seconds[1] = 12.0
    core.run_until(126)
    assert core.sampler.ticks == [(0, 100), (1, 105), (4, 120), (5, 125)]
    assert core.metric("cgwatch_missed_ticks_total") == 2
    (record,) = [record for record in caplog.records if record.getMessage() == "ticks were missed"]
    assert record.__dict__["missed"] == 2


def test_every_tick_is_shown_at_once(core: Core) -> None:
    snapshot = core.agent.tick()
    assert core.pages.snapshot is snapshot
    following = core.agent.tick()
    assert (core.pages.previous, core.pages.snapshot) == (snapshot, following)
    assert core.metric("cgwatch_sample_duration_seconds_count") == 2


def test_containers_without_a_name_are_asked_for_until_they_have_one(core: Core) -> None:
    core.sampler.containers = {ID: Kind.CONTAINER, OTHER_ID: Kind.CONTAINER, "pod": Kind.POD}
    core.agent.tick()
    assert core.watcher.asked == [ID, OTHER_ID]
    core.agent.take(Described(DOCKER, (description(ID, "shop"),)))
    core.agent.tick()
    assert core.watcher.asked == [ID, OTHER_ID, OTHER_ID]


def test_what_is_said_again_replaces_what_was_said_before(core: Core) -> None:
    core.agent.take(Described(DOCKER, (description(ID, "shop"), description(OTHER_ID, "till"))))
    core.agent.take(Described(DOCKER, (description(ID, "store"),)))
    assert {identity: said.name for identity, said in core.sampler.descriptions.items()} == {
        ID: "store",
        OTHER_ID: "till",
    }


def test_a_forgotten_container_is_not_described_any_more(core: Core) -> None:
    core.agent.take(Described(DOCKER, (description(ID, "shop"),)))
    core.agent.take(Forgotten(DOCKER, ID))
    core.agent.take(Forgotten(DOCKER, ID))
    assert core.sampler.descriptions == {}


def ended(exit_code: int) -> Lifecycle:
    return Lifecycle(DOCKER, ID, "die", 105.0, exit_code, {})


def test_how_a_container_ended_is_known_while_it_runs_again(core: Core) -> None:
    core.agent.take(Described(DOCKER, (structs.replace(description(ID, "shop"), exit_code=3),)))
    core.agent.take(Described(DOCKER, (description(ID, "shop"),)))
    assert core.sampler.descriptions[ID].exit_code == 3
    core.agent.take(Described(DOCKER, (structs.replace(description(ID, "shop"), exit_code=0),)))
    assert core.sampler.descriptions[ID].exit_code == 0


def test_how_a_container_ended_is_known_from_the_event_where_the_description_came_too_late(
    core: Core,
) -> None:
    core.agent.take(Described(DOCKER, (description(ID, "shop"),)))
    core.agent.take(ended(137))
    assert core.sampler.descriptions[ID].exit_code == 137
    core.agent.take(Described(DOCKER, (description(ID, "shop"),)))
    assert core.sampler.descriptions[ID].exit_code == 137


def test_the_end_of_a_container_that_nobody_described_is_no_description(core: Core) -> None:
    core.agent.take(ended(1))
    core.agent.take(Forgotten(DOCKER, ID))
    assert core.sampler.descriptions == {}


def test_the_runtimes_health_is_a_metric_a_line_of_the_log_and_of_the_landing_page(
    core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    core.agent.take(Availability(DOCKER, available=False, detail="no such file"))
    assert core.metric("cgwatch_runtime_up", runtime="docker") == 0
    assert core.pages.runtimes == (("Docker", "does not answer: no such file"),)
    core.agent.take(Availability(DOCKER, available=True, detail=""))
    assert core.metric("cgwatch_runtime_up", runtime="docker") == 1
    assert core.pages.runtimes == (("Docker", "answers"),)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_failure_is_counted_each_time_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    own = OwnMetrics()
    failed = FailureLog(own)
    for _ in range(3):
        failed(MalformedFileError("/sys/fs/cgroup/a/memory.current", "expected one integer"))
    failed(MalformedFileError("/sys/fs/cgroup/b/memory.current", "expected one integer"))
    failed(ReadFailedError("/sys/fs/cgroup/a/memory.current", "Input/output error", 5))
    assert [record.__dict__["path"] for record in caplog.records] == [
        "/sys/fs/cgroup/a/memory.current",
        "/sys/fs/cgroup/b/memory.current",
        "/sys/fs/cgroup/a/memory.current",
    ]
    counted = {
        sample.labels["error"]: sample.value
        for metric in own.registry.collect()
        for sample in metric.samples
        if sample.name == "cgwatch_read_failures_total" and sample.labels["file"] == "memory.current"
    }
    assert sorted(counted.values()) == [1, 4]


def test_the_log_of_failures_does_not_grow_without_end(caplog: pytest.LogCaptureFixture) -> None:
    failed = FailureLog(OwnMetrics())
    for number in range(2500):
        failed(MalformedFileError(f"/sys/fs/cgroup/{number}/memory.current", "expected one integer"))
    assert len(caplog.records) == 2500
    assert len(failed._logged) <= 1000


def settings_of(node: Node, **sampling: Any) -> Settings:
    return Settings(roots=Roots(cgroup=str(node.cgroup), proc=str(node.proc)), sampling=Sampling(**sampling))


@pytest.mark.parametrize(("wanted", "kept"), [(0, 0), (7, 7), ("auto", None)])
def test_the_settings_say_how_many_descriptors_are_kept(
    tmp_path: Path, wanted: int | str, kept: int | None
) -> None:
    node = Node(tmp_path / "node")
    node.v2("/")
    node.v2("/a")
    sampler, descriptors = open_sampler(settings_of(node, descriptors=wanted), node.failures.append)
    sampler.sample(0)
    if kept is None:
        assert 7 < descriptors.kept < descriptors.budget
    else:
        assert descriptors.kept == kept
    sampler.close()
    assert descriptors.kept == 0
    assert node.failures == []


def test_without_cgroups_it_does_not_start_and_says_what_to_do(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    with pytest.raises(NoCgroupsError, match="--cgroup-root"):
        open_sampler(settings_of(node), node.failures.append)
