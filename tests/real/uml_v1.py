"""User Mode Linux on cgroup v1 alone, with the hierarchies that systemd mounts on such a machine."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.uml import Finished, boot, make_disk, read_result, write_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# cpu and cpuacct are one hierarchy, with a link for each name; name=systemd has no controller.
_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mkdir -p /run/tmp /run/lock /run/disk
mount -t tmpfs tmpfs /sys/fs/cgroup
for names in blkio cpu,cpuacct devices freezer memory pids; do
    mkdir /sys/fs/cgroup/$names
    mount -t cgroup -o $names cgroup /sys/fs/cgroup/$names
done
ln -s cpu,cpuacct /sys/fs/cgroup/cpu
ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
ip link set lo up
mkfs.ext4 -q /dev/ubda && mount /dev/ubda /run/disk
/bin/sh {exchange}/command.sh
busybox poweroff -f
"""


def run_in_uml_v1(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    memory: str = "2G",
    disk_megabytes: int = 64,
    deadline_seconds: float = 120,
) -> Finished:
    """Boot, run ``command`` in the checkout as root on cgroup v1, and power off: ``run_in_uml``'s twin."""
    with tempfile.TemporaryDirectory(prefix="cgwtest-uml-") as name:
        exchange = Path(name)
        write_command(exchange, command, environment or {})
        init = exchange / "init.sh"
        init.write_text(_INIT.format(exchange=shlex.quote(name)))
        init.chmod(0o755)
        disk = make_disk(exchange, disk_megabytes)
        console = boot(
            exchange, Path("/"), str(init), "rw", disk, memory=memory, deadline_seconds=deadline_seconds
        )
        return read_result(exchange, console)
