"""The parts of an agent, made as the settings want them; commands that sample by themselves take some."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors, descriptor_budget
from cgwatch.errors import KernelFileError
from cgwatch.metrics import families, strict
from cgwatch.metrics.families.base import Family
from cgwatch.metrics.labels import SCHEMES, Shown
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.render import Bounds, Renderer
from cgwatch.metrics.selection import Selection
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.kernel_log import Start
from cgwatch.oom.sources import Message, Sources
from cgwatch.oom.tally import Tally
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from cgwatch.settings import Settings
from cgwatch.storage import DATABASE, Storage, StorageError

LOG = logging.getLogger(__name__)

_REMEMBERED_FAILURES = 1000
_NOTICES_SHARE = 8
"""On v1 one in so many descriptors is for being told of OOM kills, one for each cgroup that is watched; the
ticks find what happens in all others."""


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


def open_sampler(
    settings: Settings, failed: Callable[[KernelFileError], None]
) -> tuple[Sampler, Descriptors]:
    """Find the cgroups of this node and make what reads them.

    Raises ``NoCgroupsError``, or a ``KernelFileError`` when the mount table cannot be read.
    """
    wanted, interval_seconds = settings.sampling.descriptors, settings.sampling.interval_seconds
    granted = descriptor_budget()
    granted -= notices_of(granted) if settings.oom.enabled else 0
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


def notices_of(budget: int) -> int:
    """Return how many of so many descriptors are for being told of OOM kills, on v1."""
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


def make_keeper(settings: Settings, own: OwnMetrics) -> tuple[Keeper | None, Storage | None]:
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
        tally=Tally(
            retain_seconds=settings.oom.retain_seconds,
            most_series=settings.oom.series,
            with_image=settings.oom.image_label,
        ),
        observer=own,
        failed=FailureLog(own),
        store=storage,
        reads_log=settings.oom.kernel_log,
    )
    own.watch_oom(keeper)
    return keeper, storage


def make_sources(
    settings: Settings, sampler: Sampler, deliver: Callable[[Message], None], own: OwnMetrics
) -> Sources:
    """Make what tells of OOM kills at once."""
    return Sources(
        deliver,
        memory=sampler.hierarchies.holder("memory"),
        log=Start() if settings.oom.kernel_log else None,
        eventfds=notices_of(descriptor_budget()),
        proc_root=settings.roots.proc,
        failed=FailureLog(own),
        clock=time.time,
        monotonic=time.monotonic,
    )
