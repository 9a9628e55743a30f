"""Where sources, samples and the ledger come together, on a real kernel and with a runtime's words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping

import pytest

from cgwatch.assembly import open_sampler
from cgwatch.discovery.runtime import Lifecycle
from cgwatch.model import Runtime
from cgwatch.oom.desk import OomDesk
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.observation import LogPlace
from cgwatch.oom.sources import Message
from cgwatch.oom.tally import Tally
from cgwatch.oom.watching import Watched
from cgwatch.settings import Settings
from tests.oom.hogs import MEGABYTE, Hogs, run_on_v2

pytestmark = pytest.mark.real

ID = "d" * 64


class Deaf:
    """A watcher that is never told anything: without inotify, descriptors and the kernel's log."""

    def watch(self, _cgroups: Mapping[str, Watched], /) -> None:
        pass

    def catch_up(self, _after: LogPlace | None, /) -> Iterable[Message]:
        return ()


class Silent:
    """Learns nothing."""

    def oom_counted(self, _source: str, _seconds: float | None, /) -> None:
        pass


@pytest.fixture
def hogs() -> Iterator[Hogs]:
    found = Hogs()
    yield found
    found.close()


def test_when_a_runtime_says_die_the_counters_are_read_once_more_before_the_cgroup_goes(hogs: Hogs) -> None:
    path = hogs.make(ID, 16 * MEGABYTE)
    sampler, _ = open_sampler(Settings(), lambda error: pytest.fail(str(error)))
    keeper = Keeper(
        proc_root="/proc",
        clock=time.time,
        monotonic=time.monotonic,
        tally=Tally(retain_seconds=60, most_series=10),
        observer=Silent(),
        failed=lambda error: pytest.fail(str(error)),
    )
    memory = sampler.hierarchies.holder("memory")
    said: dict[str, bool] = {}
    desk = OomDesk(keeper, sampler, Deaf(), memory=memory, source_is=said.__setitem__)
    try:
        desk.begin()
        desk.sampled(sampler.sample(0))
        hogs.kill_in(path)
        desk.died(Lifecycle(Runtime.DOCKER, ID, "die", time.time(), 137, {"name": "web"}), None)
        hogs.remove(path)

        # Before the next tick, which would find nothing of it.
        assert keeper.tally.by_path == {path: 1}
        assert said == {"node_counter": True, "cgroup_counters": True, "database": False}
    finally:
        sampler.close()


@pytest.mark.skipif("CGWATCH_TEST_IN_UML" in os.environ, reason="is the one that runs the others inside")
def test_a_kernel_with_cgroup_v2_keeps_this_promise() -> None:
    run_on_v2(__file__)
