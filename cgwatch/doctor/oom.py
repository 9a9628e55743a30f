"""Checks of what tells of OOM kills: each source on its own, as the ledger does with any of them."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.cgroup.events import ModifiedEvents
from cgwatch.doctor.finding import Finding, Level, counted, ok
from cgwatch.errors import KernelFileError
from cgwatch.proc.vmstat import read_vmstat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey

_AT_THE_NEXT_TICK = "kills are found at the next tick only, and not at once"


def oom_node_counter(host: Host) -> Iterator[Finding]:
    """Whether /proc/vmstat counts the kills of the node: the sum that all others are held against."""
    subject = "OOM kills of the node"
    if not host.settings.oom.enabled:
        yield ok(subject, "not counted: oom.enabled is false")
        return
    consequence = (
        "kills in cgroups that were removed before anyone looked are only known from the kernel's log or the"
        " runtime"
    )
    try:
        total = read_vmstat(host.proc_root).oom_kills_total
    except KernelFileError as error:
        yield Finding(Level.WARNING, subject, str(error), consequence, "see whether --proc-root is a proc")
        return
    if total is None:
        found = f"{host.proc_root}/vmstat has no oom_kill"
        yield Finding(Level.NOTE, subject, found, consequence, "use kernel 4.13 or newer")
    else:
        yield ok(subject, f"oom_kill of {host.proc_root}/vmstat counts them: {total:,} since boot")


def oom_counters(host: Host, survey: Survey) -> Iterator[Finding]:
    """Whether cgroups count the kills in them: whose a kill is."""
    subject = "OOM kills of cgroups"
    if not host.settings.oom.enabled:
        yield ok(subject, "not counted: oom.enabled is false")
        return
    memories = [sample.memory for sample in survey.samples if sample.memory is not None]
    counting = sum(memory.events_local.oom_kill is not None for memory in memories)
    if counting == len(memories):
        yield ok(subject, f"counted by {counted(counting, 'cgroup')}")
        return
    yield Finding(
        Level.NOTE,
        subject,
        f"not counted for itself by {len(memories) - counting} of {counted(len(memories), 'cgroup')}",
        "whose a kill is, is only known from the kernel's log or the runtime",
        "cgroup v2: use kernel 5.2 or newer (memory.events.local); v1: kernel 4.13 (memory.oom_control)",
    )


def oom_notices(host: Host, survey: Survey) -> Iterator[Finding]:
    """Whether the kernel tells at once: inotify on v2; on v1 eventfds, which take write access."""
    subject = "OOM notices"
    memory = survey.hierarchies.holder("memory")
    if not host.settings.oom.enabled or memory is None:
        reason = "there is no memory controller" if host.settings.oom.enabled else "oom.enabled is false"
        yield ok(subject, f"not asked for: {reason}")
        return
    if memory.version > 1:
        try:
            with closing(ModifiedEvents()):
                pass
        except KernelFileError as error:
            found, _, advice = str(error).removeprefix("inotify: ").partition(": ")
            yield Finding(Level.WARNING, subject, f"inotify: {found}", _AT_THE_NEXT_TICK, advice)
        else:
            yield ok(subject, "inotify tells of memory.events and cgroup.events")
        return
    control = Path(memory.directory, "cgroup.event_control")
    if os.access(control, os.W_OK, effective_ids=True):
        yield ok(subject, f"eventfds can be registered at {control.name}")
    else:
        yield Finding(
            Level.WARNING,
            subject,
            f"{control} cannot be written",
            _AT_THE_NEXT_TICK,
            "run as root, and mount the cgroup file system read-write; on cgroup v2 reading will do",
        )
