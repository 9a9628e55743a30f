"""Families that are always there: when a container was made and seen, and the exporter itself."""

from __future__ import annotations

from collections.abc import Iterable

from cgwatch import __version__
from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Kind, Sample, Snapshot


def _last_seen(_sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    return (("", int(snapshot.time_seconds)),)


def _created(sample: Sample, snapshot: Snapshot) -> Number | None:
    container = sample.container
    if container.owner.kind is Kind.ROOT:
        return snapshot.machine.boot_time_seconds if snapshot.machine else None
    said = container.description.created_seconds if container.description else None
    return said if said is not None else container.created_seconds


def _creation_time(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    return (("", _created(sample, snapshot)),)


def _start_time(sample: Sample, snapshot: Snapshot) -> Iterable[Row]:
    description = sample.container.description
    said = description.started_seconds if description else None
    return (("", said if said is not None else _created(sample, snapshot)),)


_HEALTH = {None: -1, "healthy": 1}


def _health(sample: Sample) -> Number:
    description = sample.container.description
    return _HEALTH.get(description.health if description else None, 0)


def _version(snapshot: Snapshot) -> Iterable[Row]:
    machine = snapshot.machine
    labels = {
        "kernelVersion": machine.kernel_release if machine else "",
        "osVersion": machine.os_name if machine else "",
        "dockerVersion": "",
        "cadvisorVersion": f"cgwatch-{__version__}",
        "cadvisorRevision": "",
    }
    yield ",".join(label(name, value) for name, value in labels.items()), 1


FAMILIES = (
    Family(
        "container_last_seen",
        Type.GAUGE,
        "Time of the last sample of the container, in seconds since the epoch.",
        "",
        Part.SAMPLE,
        "time of the last sample",
        rows=_last_seen,
        volatile=True,
    ),
    Family(
        "container_creation_time_seconds",
        Type.GAUGE,
        "When the container was created, in seconds since the epoch.",
        "",
        Part.SAMPLE,
        "the runtime's API; else the cgroup directory's time at first sight; boot time for the root",
        rows=_creation_time,
    ),
    Family(
        "container_start_time_seconds",
        Type.GAUGE,
        "When the container was last started, in seconds since the epoch.",
        "",
        Part.SAMPLE,
        "the runtime's API; else as container_creation_time_seconds",
        rows=_start_time,
    ),
    Family(
        "container_health_state",
        Type.GAUGE,
        "Health check of the container: 1 healthy, 0 starting or unhealthy, -1 without a check.",
        "",
        Part.SAMPLE,
        "the runtime's API",
        value=_health,
    ),
    Family(
        "container_scrape_error",
        Type.GAUGE,
        "Whether the containers could not be sampled at all (1) or could (0).",
        "",
        Part.SNAPSHOT,
        "0 while there is a snapshot; see cgwatch_read_failures_total for single files",
        rows=lambda _part, _snapshot: [("", 0)],
    ),
    Family(
        "cadvisor_version_info",
        Type.GAUGE,
        "1, with the versions of the kernel, the operating system and the exporter as labels.",
        "",
        Part.SNAPSHOT,
        "cgwatch's version in the labels that dashboards look at",
        rows=lambda _part, snapshot: _version(snapshot),
        labels=("kernelVersion", "osVersion", "dockerVersion", "cadvisorVersion", "cadvisorRevision"),
    ),
)
