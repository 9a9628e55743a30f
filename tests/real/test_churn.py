"""Two thousand cgroups come and go in bursts, while all of them are sampled and scraped.

For a minute, or as long as ``CGWATCH_CHURN_SECONDS`` says (``make churn``: ten); ``CGWATCH_CHURN_CGROUPS`` is
how many a burst has. Each burst is a line of figures on stdout, which ``pytest -s`` shows.

A cgroup that went is no failure, and nothing of it stays. Of descriptors that is exact. Of memory it is not:
the allocators keep what was free once. glibc's keeps room for the next page of megabytes, 40 MB more or less
from one burst to the next, so it is told to map each such block by itself. Python's keeps an arena of a
megabyte until nothing at all lives in it: between two bursts there is room that a leak fills before anybody
sees it. So memory is judged when all of a burst are there, too. What counts is the lowest level: what lives,
and the least that is kept beside it.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import pytest
from msgspec import Struct

from cgwatch.cgroup import hierarchy
from tests.real.agent_process import OPENMETRICS, AgentProcess, Page
from tests.real.churn import Churn, burst, cycled, leaves, memory_bytes, open_files
from tests.real.uml import Finished

SECONDS = float(os.environ.get("CGWATCH_CHURN_SECONDS", "60"))
COUNT = int(os.environ.get("CGWATCH_CHURN_CGROUPS", "2000"))
COUNT_IN_A_MINUTE_OF_UML = 500
"""Its one core makes, finds and loses 2,000 in a minute for each burst."""
BURSTS = 4
"""At least, however long they take. The first third is for warming up."""
GROWTH_BYTES = (32 if SECONDS < 300 else 16) << 20
"""How much the lowest level may grow from the first half of the other bursts to the second. For the first ten
or so arenas fill, and what the ledger of OOM kills remembers of cgroups that went: by 30 MiB at the most, and
the objects of one burst are 50. So a minute shows if a good part of them stays; ten, if 500 bytes of each do.
"""
WITH_PROCESS = 10
"""In how many of a burst something runs, until right before it is removed."""
INTERVAL = "500ms"
AWAITED_SECONDS = 90.0
"""How long anything may take: reading 2,000 new cgroups while others go takes one slow core that long."""
CLOCK_TICK_SECONDS = 0.05
"""The kernel's time of a new directory is that of the last clock tick."""
NO_DOCKER = "unix:///nonexistent/docker.sock"
MALLOC = {"MALLOC_MMAP_THRESHOLD_": f"{128 << 10}"}
"""The size from which on glibc maps a block by itself: its default, which grows unless it is given."""

pytestmark = [pytest.mark.real, pytest.mark.timeout(SECONDS + 900)]

_SHOWN = re.compile(r'^container_start_time_seconds\{.*?\bid="([^"]*)".*\} (\S+)$', re.MULTILINE)
_TEXT = "text/plain; version=0.0.4"
_OWN = (
    "cgwatch_cgroups",
    "cgwatch_descriptors_kept",
    "cgwatch_read_failures_total",
    "cgwatch_missed_ticks_total",
    "cgwatch_sample_duration_seconds_count",
)


class Files(Struct, frozen=True):
    """What the agent has open."""

    ours: list[str]
    """Files of our cgroups."""
    kernel: int
    """Files of any cgroup, and the kernel's count of them."""
    others: int
    """All else; a cgroup has one there by which it tells of OOM kills (v1)."""


class Level(Struct, frozen=True):
    """What the agent holds when a burst is gone."""

    files: Files
    kept: float
    cgroups: float
    memory_bytes: int
    """Resident and anonymous."""
    ticks: float
    missed: float
    failures: float

    def holds_no_more_than(self, before: Level) -> bool:
        """Compare descriptors; cgroups of somebody else may have come and gone meanwhile."""
        others, others_before = self.files.others - self.cgroups, before.files.others - before.cgroups
        return set(self.files.ours) <= set(before.files.ours) and others <= others_before


class Observer:
    """Looks at the agent from outside, now and then: each look costs it time, and it is busy enough."""

    def __init__(self, agent: AgentProcess, churn: Churn) -> None:
        self.agent = agent
        self._churn = churn

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + AWAITED_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.25)
        return True

    def own(self) -> Page:
        return Page(self._families(*_OWN))

    def ticks(self) -> float:
        return self.own().value("cgwatch_sample_duration_seconds_count")

    def wait_until_shown(self) -> dict[str, float]:
        """Wait until the page has each of our cgroups that is there and no other; tell when it was made."""
        shown: dict[str, float] = {}

        def as_they_are() -> bool:
            nonlocal shown
            shown = self._shown()
            return shown.keys() == self._churn.alive

        if not self.wait_for(as_they_are):
            missing = sorted(self._churn.alive - shown.keys())
            gone = sorted(shown.keys() - self._churn.alive)
            raise AssertionError(f"not shown: {missing[:5]}; shown and gone: {gone[:5]}\n{self.agent.log}")
        return shown

    def full_bytes(self) -> int:
        """Give the least memory that it takes during two ticks: scrapes are more for a moment."""
        sizes: list[int] = []
        ended = self.ticks()

        def two_ticks_later() -> bool:
            sizes.append(memory_bytes(self.agent.pid, "RssAnon"))
            return self.ticks() >= ended + 2

        assert self.wait_for(two_ticks_later)
        return min(sizes)

    def level(self, before: Level | None = None) -> Level:
        """Tell what the agent holds, as soon as it holds no more descriptors than ``before``."""
        self.wait_until_shown()
        # It keeps the snapshot before the last one, too.
        ended = self.ticks()
        assert self.wait_for(lambda: self.ticks() >= ended + 2)
        now: Level | None = None

        def as_before() -> bool:
            nonlocal now
            page, files = self.own(), self._files()
            now = Level(
                files,
                page.value("cgwatch_descriptors_kept"),
                page.value("cgwatch_cgroups"),
                memory_bytes(self.agent.pid, "RssAnon"),
                page.value("cgwatch_sample_duration_seconds_count"),
                page.value("cgwatch_missed_ticks_total"),
                sum(value for _, value in page.find("cgwatch_read_failures_total")),
            )
            # More than is kept is open only while it is read: settings, and a scrape's connection.
            settled = now.kept == files.kernel
            return settled and (before is None or now.holds_no_more_than(before))

        in_time = self.wait_for(as_before)
        assert now is not None
        was, ours = set(before.files.ours if before else ()), set(now.files.ours)
        assert in_time, (
            f"kept: {now.kept:.0f}, open: {now.files.kernel} of the kernel and {now.files.others} others;"
            f" of ours are left: {sorted(ours - was)[:10]}"
        )
        return now

    def _families(self, *names: str) -> str:
        return self.agent.get("/metrics?" + "&".join(f"name[]={name}" for name in names))

    def _shown(self) -> dict[str, float]:
        found = _SHOWN.findall(self._families("container_start_time_seconds"))
        top = self._churn.top + "/"
        return {path: float(seconds) for path, seconds in found if f"{path}/".startswith(top)}

    def _files(self) -> Files:
        targets = open_files(self.agent.pid)
        kernel = [
            target for target in targets if target.startswith(self._churn.roots) or target == "/proc/cgroups"
        ]
        ours = sorted(target for target in kernel if self._churn.top + "/" in target)
        return Files(ours, len(kernel), len(targets) - len(kernel))


class Scraper:
    """Scrapes the whole page again and again on a thread of its own, in either format."""

    def __init__(self, agent: AgentProcess) -> None:
        self._agent = agent
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.errors: list[Exception] = []
        self.scrapes = 0
        self.largest_characters = 0
        self.slowest_seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            for accept in itertools.cycle((OPENMETRICS, _TEXT)):
                began = time.monotonic()
                text = self._agent.get(accept=accept)
                assert text.endswith("\n# EOF\n" if accept is OPENMETRICS else "\n")
                self.scrapes += 1
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
                self.largest_characters = max(self.largest_characters, len(text))
                if self._stopping.wait(1.0):
                    return
        except Exception as error:  # noqa: BLE001 - the thread's top: what went wrong fails the test
            self.errors.append(error)


def one_burst(observer: Observer, churn: Churn, number: int) -> int | None:
    """Make a burst of cgroups, make some of them again through all of a tick, and remove them all.

    Give the memory that the agent takes for them; None for every third burst, which it never sees at rest.
    """
    full_bytes = None
    paths = burst(number, COUNT)
    ends = leaves(paths)
    began = time.time()
    churn.make(paths)
    for path in ends[:: len(ends) // WITH_PROCESS]:
        churn.start(path)
    if number % 3:
        # Let the agent get to know them all; those with the path of one from the burst before are others.
        shown = observer.wait_until_shown()
        same = [seconds for path, seconds in shown.items() if "/same-" in path]
        assert min(same) >= began - CLOCK_TICK_SECONDS
        full_bytes = observer.full_bytes()
    # Once two more ticks have ended, cgroups went and came through the whole of one.
    ended = observer.ticks()
    batches = cycled(ends, 20)
    while observer.ticks() < ended + 2:
        for batch in itertools.islice(batches, 10):
            started = time.monotonic()
            churn.make_again(batch)
            time.sleep(time.monotonic() - started)  # the agent needs the kernel's locks, too
    churn.remove(paths)
    return full_bytes


def report(burst_number: int, now: Level, churn: Churn, began: float, full_bytes: int | None = None) -> None:
    sys.stdout.write(
        f"burst {burst_number:3} {time.monotonic() - began:6.1f} s {churn.made:7} cgroups made"
        f" {(full_bytes or 0) / 1024:8.0f} KiB, then {now.memory_bytes / 1024:7.0f}"
        f" {len(now.files.ours):5} files of ours {now.files.kernel:5} of all {now.files.others:3} others"
        f" {now.ticks:5.0f} ticks {now.missed:5.0f} missed {now.failures:.0f} failures\n"
    )
    sys.stdout.flush()


def growth_bytes(sizes: list[int]) -> int:
    """Compare the lowest level of the first half with that of the second."""
    judged = sizes[max(1, len(sizes) // 3) :]
    half = len(judged) // 2
    return min(judged[half:]) - min(judged[:half])


def check_log(text: str, churn: Churn) -> None:
    """Nothing went wrong, and of our cgroups there is nothing to tell at all; others may be about."""
    bad = [line for line in text.splitlines() if not re.search(r"\blevel=(info|warning)\b", line)]
    assert bad + [line for line in text.splitlines() if churn.top in line] == []


@pytest.fixture
def churn(root: None) -> Iterator[Churn]:  # noqa: ARG001 - asked for first
    with Churn(hierarchy.find("/proc", None)) as churn:
        yield churn


def test_cgroups_that_come_and_go_by_the_thousand_leave_nothing_behind(churn: Churn) -> None:
    began = time.monotonic()
    empty: list[int] = []
    full: list[int] = []
    with AgentProcess(NO_DOCKER, interval=INTERVAL, environment=MALLOC) as agent:
        observer = Observer(agent, churn)
        churn.make([f"lasting-{number}" for number in range(20)])
        before = observer.level()
        report(0, before, churn, began)
        with Scraper(agent) as scraper:
            for number in itertools.count(1):
                full_bytes = one_burst(observer, churn, number)
                now = observer.level(before)
                report(number, now, churn, began, full_bytes)
                empty.append(now.memory_bytes)
                full += [full_bytes] if full_bytes else []
                assert scraper.errors == [], agent.log
                if time.monotonic() - began > SECONDS and number >= BURSTS:
                    break
        # Those that are alive at the end are all there, in a page that holds to its format.
        last = burst(0, 200)
        churn.make(last)
        churn.make_again(leaves(last))
        observer.wait_until_shown()
        page = agent.page()
        found = {labels["id"] for labels, _ in page.find("container_last_seen")}
        assert {path for path in found if f"{path}/".startswith(churn.top + "/")} == churn.alive
        churn.remove(last)
        after = observer.level(before)
        report(number + 1, after, churn, began)
        peak_bytes = memory_bytes(agent.pid, "VmHWM")
    sys.stdout.write(
        f"{scraper.scrapes} scrapes, the slowest {scraper.slowest_seconds:.2f} s,"
        f" the largest {scraper.largest_characters / 1e6:.1f} MB; {peak_bytes / 1024:.0f} KiB at the most,"
        f" it grew by {growth_bytes(full) / 1024:.0f} KiB, then by {growth_bytes(empty) / 1024:.0f}\n"
    )
    check_log(agent.log, churn)
    assert after.failures == before.failures, agent.log
    assert growth_bytes(full) < GROWTH_BYTES, full
    assert growth_bytes(empty) < GROWTH_BYTES, empty


def test_so_they_do_on_cgroup_v2(uml: Callable[..., Finished]) -> None:
    inner = f"{__file__}::{test_cgroups_that_come_and_go_by_the_thousand_leave_nothing_behind.__name__}"
    finished = uml(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", inner],
        environment={
            "CGWATCH_CHURN_SECONDS": f"{SECONDS}",
            "CGWATCH_CHURN_CGROUPS": f"{COUNT if SECONDS > 60 else COUNT_IN_A_MINUTE_OF_UML}",
            "CGWATCH_REQUIRE_REAL": "1",
        },
        deadline_seconds=SECONDS + 600,
    )
    sys.stdout.write(finished.output)
    assert finished.status == 0, finished.output
    assert "= 1 passed" in finished.output
