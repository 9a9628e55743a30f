"""The agent: one thread that ticks and takes messages, and the wiring of everything around it.

Producers (runtime watchers, signals) only put messages into the inbox; HTTP threads only read the latest
snapshot. So whatever decides, decides on one thread and in one order.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Protocol

from msgspec import Struct, structs

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors, descriptor_budget
from cgwatch.control.routes import offered
from cgwatch.control.server import serve as serve_control
from cgwatch.discovery.docker import DockerWatcher
from cgwatch.discovery.runtime import Availability, Described, Forgotten, Lifecycle, Message, RuntimeWatcher
from cgwatch.errors import KernelFileError
from cgwatch.limits.desk import LimitsDesk, open_desk
from cgwatch.metrics import families, strict
from cgwatch.metrics.families.base import Family
from cgwatch.metrics.labels import SCHEMES, Shown
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.own_limits import LimitMetrics
from cgwatch.metrics.pages import LatestPages
from cgwatch.metrics.render import Bounds, Renderer
from cgwatch.metrics.selection import Selection
from cgwatch.metrics.server import Server
from cgwatch.model import Description, Kind, Snapshot
from cgwatch.oom import sources as oom_sources
from cgwatch.oom.desk import OomDesk
from cgwatch.oom.dialect import Told
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.kernel_log import Start
from cgwatch.oom.observation import LimitWrite, LogLost
from cgwatch.oom.sources import Look, Sources, SourceState
from cgwatch.oom.tally import Tally
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from cgwatch.sampling.schedule import Schedule
from cgwatch.settings import Settings
from cgwatch.storage import DATABASE, Storage, StorageError

LOG = logging.getLogger(__name__)

_REMEMBERED_FAILURES = 1000
_NOTICES_SHARE = 8
"""On v1 one in so many descriptors is for being told of OOM kills, one for each cgroup that is watched; the
ticks find what happens in all others."""


class Stop(Struct, frozen=True):
    """End the loop."""

    reason: str


class _Part(Protocol):
    def stop(self) -> None:
        """End it."""


Inbox = queue.SimpleQueue[Message | oom_sources.Message | LimitWrite | Stop]


class FailureLog:
    """Counts files that could not be read, and logs each of them once."""

    def __init__(self, own: OwnMetrics) -> None:
        self._own = own
        self._logged: set[tuple[str, str]] = set()

    def __call__(self, error: KernelFileError) -> None:
        """Take note of one failure."""
        self._own.failed(error)
        key = (error.path, type(error).__name__)
        if key in self._logged:
            return
        if len(self._logged) >= _REMEMBERED_FAILURES:
            self._logged.clear()  # a node with that many is logged again now and then, which is right
        self._logged.add(key)
        LOG.warning("a kernel file could not be read", extra={"path": error.path, "problem": error.problem})


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
            case Told() | LogLost() | Look() | SourceState() | LimitWrite():
                if self._ooms is not None:
                    self._ooms.take(message)
            case Described(_, descriptions):
                self._describe(descriptions)
            case Forgotten(_, container_id):
                self._descriptions.pop(container_id, None)
            case Lifecycle(runtime, container_id, action, exit_code=exit_code):
                before = self._descriptions.get(container_id)
                if self._ooms is not None:
                    self._ooms.keeper.died(message, before)
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


def open_sampler(
    settings: Settings, failed: Callable[[KernelFileError], None]
) -> tuple[Sampler, Descriptors]:
    """Find the cgroups of this node and make what reads them.

    Raises ``NoCgroupsError``, or a ``KernelFileError`` when the mount table cannot be read.
    """
    wanted, interval_seconds = settings.sampling.descriptors, settings.sampling.interval_seconds
    granted = descriptor_budget()
    granted -= _notices(granted) if settings.oom.enabled else 0
    budget = granted if wanted == "auto" else min(wanted, granted)
    descriptors = Descriptors(budget, interval_seconds)
    sampler = Sampler(
        hierarchy.find(settings.roots.proc, settings.roots.cgroup),
        proc_root=settings.roots.proc,
        sys_root=settings.roots.sys,
        descriptors=descriptors,
        plan=sampling_plan(settings),
        clock=time.time,
        monotonic=time.monotonic,
        failed=failed,
    )
    return sampler, descriptors


def _notices(budget: int) -> int:
    return budget // _NOTICES_SHARE


def sampling_plan(settings: Settings) -> Plan:
    """Return what has to be read for the metrics that the settings want, and how often."""
    sampling = settings.sampling
    shown = shown_families(settings)
    parts = frozenset(part for family in shown for part in (str(family.part), *family.reads))
    return Plan(
        interval_seconds=sampling.interval_seconds,
        settings_seconds=sampling.settings_seconds,
        machine_seconds=sampling.machine_seconds,
        processes_seconds=sampling.processes_seconds,
        sockets_seconds=sampling.sockets_seconds,
        parts=parts,
    )


def shown_families(settings: Settings) -> tuple[Family, ...]:
    """Return the metrics of cgroups and of the node that the settings want."""
    metrics = settings.metrics
    shown = families.enabled(metrics.groups.enabled(), metrics.include, metrics.exclude)
    return strict.as_cadvisor(shown) if metrics.strict_cadvisor else shown


def make_renderer(settings: Settings) -> Renderer:
    """Make what writes the containers' pages, as the settings want them."""
    metrics = settings.metrics
    return Renderer(
        shown_families(settings),
        scheme=SCHEMES[metrics.scheme](
            Shown(
                metrics.container_labels,
                dict(text.split("=", 1) for text in metrics.rename_labels),
                metrics.bounds.labels,
                metrics.bounds.label_bytes,
            )
        ),
        timestamps=metrics.timestamps,
        selection=Selection(metrics.cgroups.include, metrics.cgroups.exclude),
        bounds=Bounds(metrics.bounds.series, metrics.bounds.page_bytes),
    )


def run(settings: Settings) -> None:
    """Run the agent on the main thread until SIGTERM or SIGINT.

    Raises ``NoCgroupsError``, ``ListenError`` or a ``KernelFileError`` when it cannot start.
    """
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
    keeper, storage = _keeper(settings, own)
    sources = _sources(settings, sampler, inbox, own) if keeper else None
    ooms = None
    if keeper and sources:
        memory = sampler.hierarchies.holder("memory")
        ooms = OomDesk(keeper, sampler, sources, memory=memory, source_is=own.oom_source_is)
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
    agent.tick()
    server.start()
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
        if storage:
            storage.close()


def _keeper(settings: Settings, own: OwnMetrics) -> tuple[Keeper | None, Storage | None]:
    """Make what keeps the ledger of OOM kills; without a database it is kept for this run alone."""
    if not settings.oom.enabled:
        return None, None
    try:
        storage = Storage.open(os.path.join(settings.state_dir, DATABASE))
        storage.prune(before_seconds=time.time() - settings.oom.keep_seconds, keep=settings.oom.keep_kills)
    except StorageError as error:
        LOG.warning(
            "OOM kills are not stored: those while cgwatch does not run are not found",
            extra={"problem": str(error), "see": "state_dir"},
        )
        storage = None
    keeper = Keeper(
        proc_root=settings.roots.proc,
        clock=time.time,
        monotonic=time.monotonic,
        tally=Tally(retain_seconds=settings.oom.retain_seconds, most_series=settings.oom.series),
        observer=own,
        failed=FailureLog(own),
        store=storage,
        reads_log=settings.oom.kernel_log,
    )
    own.watch_oom(keeper)
    return keeper, storage


def _limits(settings: Settings, inbox: Inbox, own: OwnMetrics, keeper: Keeper | None) -> LimitsDesk | None:
    """Make what writes limits, where it may."""
    metrics = LimitMetrics(own.registry)
    desk = open_desk(settings, metrics, inbox.put)
    metrics.watch(desk.held if desk else tuple, lambda: keeper.tally if keeper else None)
    return desk


def _sources(settings: Settings, sampler: Sampler, inbox: Inbox, own: OwnMetrics) -> Sources:
    """Make what tells of OOM kills at once."""
    return Sources(
        inbox.put,
        memory=sampler.hierarchies.holder("memory"),
        log=Start() if settings.oom.kernel_log else None,
        eventfds=_notices(descriptor_budget()),
        proc_root=settings.roots.proc,
        failed=FailureLog(own),
        clock=time.time,
        monotonic=time.monotonic,
    )


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
