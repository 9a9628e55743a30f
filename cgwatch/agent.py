"""The agent: one thread that ticks and takes messages, and the wiring of everything around it.

Producers (runtime watchers, signals) only put messages into the inbox; HTTP threads only read the latest
snapshot. So whatever decides, decides on one thread and in one order.
"""

from __future__ import annotations

import gc
import logging
import queue
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Protocol

from msgspec import Struct, structs

from cgwatch.assembly import FailureLog, make_keeper, make_renderer, make_sources, open_sampler
from cgwatch.control.routes import offered
from cgwatch.control.server import serve as serve_control
from cgwatch.discovery.docker import DockerWatcher
from cgwatch.discovery.runtime import Availability, Described, Forgotten, Lifecycle, Message, RuntimeWatcher
from cgwatch.limits.desk import LimitsDesk
from cgwatch.limits.desk import open_desk as open_limits_desk
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.own_limits import LimitMetrics
from cgwatch.metrics.own_notify import NotifyMetrics
from cgwatch.metrics.pages import LatestPages
from cgwatch.metrics.server import Server
from cgwatch.model import Description, Kind, Snapshot
from cgwatch.notify.desk import open_desk as open_notify_desk
from cgwatch.oom import sources as oom_sources
from cgwatch.oom.desk import OomDesk
from cgwatch.oom.dialect import Told
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.observation import LimitWrite, LogLost, LogPlace
from cgwatch.oom.sources import Look, SourceState
from cgwatch.sampling.sampler import Sampler
from cgwatch.sampling.schedule import Schedule
from cgwatch.settings import Settings

LOG = logging.getLogger(__name__)


_SWITCH_SECONDS = 0.001
"""How long a thread waits for another one that computes, with each call to the kernel that it makes. Python's
5 ms are the life of a cgroup whose process is killed at once: the thread that is told of it would be late."""


class Stop(Struct, frozen=True):
    """End the loop."""

    reason: str


class _Part(Protocol):
    def stop(self) -> None:
        """End it."""


Inbox = queue.SimpleQueue[Message | oom_sources.Message | LimitWrite | Stop]


class Agent:
    """The core: ticks on schedule, takes messages in between."""

    def __init__(
        self,
        *,
        sampler: Sampler,
        schedule: Schedule,
        pages: LatestPages,
        own: OwnMetrics,
        inbox: Inbox,
        monotonic: Callable[[], float],
        watchers: tuple[RuntimeWatcher, ...] = (),
        ooms: OomDesk | None = None,
    ) -> None:
        self._sampler = sampler
        self._schedule = schedule
        self._pages = pages
        self._own = own
        self._inbox = inbox
        self._monotonic = monotonic
        self._watchers = watchers
        self._ooms = ooms
        self._descriptions: dict[str, Description] = {}
        self._availability: dict[str, str] = {}

    def run(self) -> str:
        """Tick and take messages until one of them is ``Stop``; return its reason."""
        while True:
            wait_seconds = self._schedule.deadline_seconds - self._monotonic()
            if wait_seconds <= 0:
                self.tick()
                continue
            try:
                message = self._inbox.get(timeout=wait_seconds)
            except queue.Empty:
                continue
            if isinstance(message, Stop):
                return message.reason
            self.take(message)

    def tick(self) -> Snapshot:
        """Sample once and publish; plan the next tick."""
        snapshot = self._sampler.sample(self._schedule.sequence)
        if self._ooms is not None:
            snapshot = structs.replace(snapshot, oom_kills=self._ooms.sampled(snapshot))
        self._pages.publish(snapshot)
        missed = self._schedule.advance(self._monotonic())
        self._own.sampled(snapshot.duration_seconds, missed)
        if missed:
            LOG.warning(
                "ticks were missed", extra={"missed": missed, "took_seconds": snapshot.duration_seconds}
            )
        self._ask_for_names(snapshot)
        return snapshot

    def _ask_for_names(self, snapshot: Snapshot) -> None:
        for sample in snapshot.samples:
            owner = sample.container.owner
            if sample.container.description is None and owner.kind is Kind.CONTAINER and owner.container_id:
                for watcher in self._watchers:
                    watcher.ask(owner.container_id)

    def take(self, message: Message | oom_sources.Message | LimitWrite) -> None:
        """Take what a runtime's watcher, the kernel or the writer of limits told."""
        match message:
            case Told() | LogLost() | LogPlace() | Look() | SourceState() | LimitWrite():
                if self._ooms is not None:
                    self._ooms.take(message)
            case Described(_, descriptions):
                self._describe(descriptions)
            case Forgotten(_, container_id):
                self._descriptions.pop(container_id, None)
            case Lifecycle(runtime, container_id, action, exit_code=exit_code):
                before = self._descriptions.get(container_id)
                if self._ooms is not None:
                    self._ooms.died(message, before)
                if before is not None and exit_code is not None:
                    self._describe((structs.replace(before, exit_code=exit_code),))
                self._own.happened(runtime, action)
                LOG.debug("container event", extra={"container": container_id, "action": action})
            case Availability(runtime, available, detail):
                self._own.runtime_is(runtime, up=available)
                self._availability[runtime.capitalize()] = (
                    "answers" if available else f"does not answer: {detail}"
                )
                self._pages.runtimes = tuple(sorted(self._availability.items()))
                level = logging.INFO if available else logging.WARNING
                LOG.log(
                    level,
                    "container runtime",
                    extra={"runtime": str(runtime), "up": available, "detail": detail},
                )

    def _describe(self, descriptions: Iterable[Description]) -> None:
        for said in descriptions:
            before = self._descriptions.get(said.container_id)
            if before is not None and said.exit_code is None and before.exit_code is not None:
                # Of a container that runs again the API does not say how it ended before.
                said = structs.replace(said, exit_code=before.exit_code)  # noqa: PLW2901 - the same, completed
            self._descriptions[said.container_id] = said
        self._sampler.describe(self._descriptions)


def run(settings: Settings) -> None:
    """Run the agent on the main thread until SIGTERM or SIGINT.

    Raises ``NoCgroupsError``, ``ListenError`` or a ``KernelFileError`` when it cannot start.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    own = OwnMetrics()
    inbox: Inbox = queue.SimpleQueue()
    sampler, descriptors = open_sampler(settings, FailureLog(own))
    interval_seconds = settings.sampling.interval_seconds
    pages = LatestPages(
        make_renderer(settings),
        own,
        node=socket.gethostname(),
        interval_seconds=interval_seconds,
        monotonic=time.monotonic,
    )
    own.watch(descriptors, lambda: pages.snapshot, interval_seconds)
    server = Server(
        settings.listen,
        pages,
        max_requests=settings.server.max_requests,
        compression=settings.server.compression,
        observe=own.scraped,
    )
    server.bind()
    watchers = _watchers(settings, inbox, own)
    keeper, storage = make_keeper(settings, own)
    sources = make_sources(settings, sampler, inbox.put, own) if keeper else None
    observer = NotifyMetrics(own.registry)
    notices = open_notify_desk(settings.notify, storage, observer, clock=time.time, monotonic=time.monotonic)
    ooms = None
    if keeper and sources:
        keeper.listener = notices if notices.tells else None
        memory = sampler.hierarchies.holder("memory")
        ooms = OomDesk(keeper, sampler, sources, memory=memory, source_is=own.oom_source_is)
        own.watch_userspace(ooms.userspace)
    agent = Agent(
        sampler=sampler,
        schedule=Schedule(interval_seconds, time.monotonic()),
        pages=pages,
        own=own,
        inbox=inbox,
        monotonic=time.monotonic,
        watchers=watchers,
        ooms=ooms,
    )
    limits = _limits(settings, inbox, own, keeper)
    _stop_on_signals(inbox)
    if ooms:
        ooms.begin()
    agent.tick()
    server.start()
    notices.start()
    if sources:
        sources.start()
    if limits:
        limits.start()
    for watcher in watchers:  # after the first tick: the docker library takes a while to import
        watcher.start()
    control_server = serve_control(
        settings.state_dir, pages, offered(settings, limits, sampler.hierarchies), settings.control.group
    )
    LOG.info("serving metrics", extra={"url": f"{server.url}metrics", "interval_seconds": interval_seconds})
    gc.freeze()  # what is there now stays: the collector need not walk it again
    try:
        LOG.info("stopping", extra={"reason": agent.run()})
    finally:
        parts: tuple[_Part | None, ...] = (server, control_server, limits, *watchers, sources)
        for part in filter(None, parts):
            part.stop()
        sampler.close()
        if keeper:
            keeper.save()
        notices.stop()
        if storage:
            storage.close()


def _limits(settings: Settings, inbox: Inbox, own: OwnMetrics, keeper: Keeper | None) -> LimitsDesk | None:
    """Make what writes limits, where it may."""
    metrics = LimitMetrics(own.registry)
    desk = open_limits_desk(settings, metrics, inbox.put)
    metrics.watch(desk.held if desk else tuple, lambda: keeper.tally if keeper else None)
    return desk


def _watchers(settings: Settings, inbox: Inbox, own: OwnMetrics) -> tuple[RuntimeWatcher, ...]:
    docker = settings.discovery.docker
    if not docker.enabled:
        return ()
    return (DockerWatcher(docker.socket, inbox.put, own, timeout_seconds=docker.timeout_seconds),)


def _stop_on_signals(inbox: Inbox) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        inbox.put(Stop(signal.Signals(number).name))  # SimpleQueue.put may be called from a signal handler

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
