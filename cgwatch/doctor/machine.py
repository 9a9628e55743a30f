"""Checks of the node itself: its kernel, its identity, its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cgwatch.doctor.finding import Finding, Level, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cgwatch.doctor.finding import Host
    from cgwatch.doctor.survey import Survey


def kernel(_host: Host, survey: Survey) -> Iterator[Finding]:
    """Which kernel runs."""
    machine = survey.snapshot.machine
    release = machine.kernel_release if machine else ""
    if survey.kernel == (0, 0):
        yield Finding(
            Level.WARNING,
            "kernel",
            f"its release {release!r} does not begin with a version",
            "every file that came with a later kernel than the first is taken to be one of an older kernel",
            "see sys/kernel/osrelease below --proc-root",
        )
    else:
        yield ok("kernel", release)


def identity(host: Host, survey: Survey) -> Iterator[Finding]:
    """Whether the labels that name the node have values."""
    machine = survey.snapshot.machine
    if machine is None:
        return
    labels = "the label {} of the machine_* metrics is empty"
    if machine.machine_id:
        yield ok("machine id", machine.machine_id)
    else:
        yield Finding(
            Level.NOTE,
            "machine id",
            "neither the host's nor this root has an /etc/machine-id",
            labels.format("machine_id"),
            "in a container: -v /etc/machine-id:/etc/machine-id:ro; else systemd-machine-id-setup",
        )
    if machine.system_uuid:
        yield ok("system uuid", machine.system_uuid)
    else:
        path = Path(host.sys_root, "class/dmi/id/product_uuid")
        is_there = path.exists()
        yield Finding(
            Level.NOTE,
            "system uuid",
            f"{path} is not readable" if is_there else f"this machine has no {path}",
            labels.format("system_uuid"),
            "run as root" if is_there else "",
        )


def kernel_log(host: Host) -> Iterator[Finding]:
    """Whether /dev/kmsg can be read: it names the processes that the out-of-memory killer ends."""
    path = f"{host.dev_root}/kmsg"
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        yield Finding(
            Level.NOTE,
            "kernel log",
            f"{path}: {error.strerror}",
            "out-of-memory kills are counted all the same, but not which process it was and by whose limit",
            "run as root; in a container: --device /dev/kmsg --cap-add SYSLOG",
        )
    else:
        yield ok("kernel log", f"{path} can be read")
