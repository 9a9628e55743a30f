"""Containers with known limits and known work: some of Docker's, and one that nobody's runtime made."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from tests.real import leftovers
from tests.real.dockerd import IMAGE, Docker, RealKernelError, busybox_tar, inside_uml
from tests.real.kernel_says import device_path, file_of, is_v1

MEBIBYTE = 1 << 20
SHM_BYTES = 32 * MEBIBYTE
ANON_BYTES = 6_000_000
SLEEPERS = 7
BURNER_CPUS = 0.1
"""So little that a busy machine gives it all the same: on each CPU all containers count as one task."""
DIRECT_BYTES = 4 * MEBIBYTE
BUFFERED_BYTES = 48 * MEBIBYTE
LIMIT_BYTES = 64 * MEBIBYTE
WRITER_LIMIT_BYTES = 24 * MEBIBYTE
NETWORK = "cgwtest"
GATEWAY = "198.51.100.1"

_SLEEP = "for n in $(seq {sleepers}); do sleep 100000 & done; echo ready; wait"
_HOLD = f"""
dd if=/dev/zero of=/dev/shm/held bs=1M count={SHM_BYTES // MEBIBYTE}
held=$(head -c {ANON_BYTES} /dev/zero | tr '\\0' a)
ping -c 3 -i 0.2 {GATEWAY}
{_SLEEP.format(sleepers=SLEEPERS)}
"""
_WRITE = f"""
dd if=/dev/zero of=/disk/direct bs=64k count={DIRECT_BYTES // 65536} oflag=direct
dd if=/disk/direct of=/dev/null bs=64k iflag=direct
dd if=/dev/zero of=/disk/buffered bs=1M count={BUFFERED_BYTES // MEBIBYTE} conv=fsync
{_SLEEP.format(sleepers=1)}
"""
_BURN = "while :; do :; done & while :; do :; done & echo ready; wait"
_BY_HAND = f"""
held=$(yes | tr -d '\\n' | head -c {ANON_BYTES})
n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); done
echo ready
read line
"""
_CARD = """
ip link set lo up
ip link add eth0 type veth peer name veth0
ip link set eth0 up
ip link set veth0 up
ip address add 203.0.113.1/24 dev eth0
busybox ping -c 2 -W 1 -I eth0 203.0.113.2
"""


class Busy(Struct, frozen=True):
    """The running containers by name."""

    docker: Docker
    ids: dict[str, str]

    def cgroup(self, name: str) -> str:
        """Give the path of a container's cgroup."""
        return f"/docker/{self.ids[name]}"

    def inspect(self, name: str, template: str) -> str:
        """Ask ``docker inspect`` for one thing."""
        return self.docker.docker("inspect", f"--format={{{{{template}}}}}", self.ids[name])


class ByHand(Struct, frozen=True):
    """A container without a runtime: its cgroup's path, its process, and when it was made."""

    cgroup: str
    pid: int
    made_seconds: float


@contextlib.contextmanager
def disk() -> Iterator[Path]:
    """Give an empty folder on a block device, whose I/O the kernel counts."""
    parent = Path("/run/disk") if inside_uml() else Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix="cgwtest-disk-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def no_disk() -> str | None:
    """Say why nothing that is written here can be counted; None when it can."""
    parent = "/run/disk" if inside_uml() else tempfile.gettempdir()
    device = Path(parent).stat().st_dev
    if Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists():
        return None
    return f"needs {parent} on a block device (run_in_uml has disk_megabytes, natively there is TMPDIR)"


def disk_device(folder: Path) -> tuple[str, str]:
    """Give the whole disk that a folder is on: its path and its MAJOR:MINOR."""
    device = folder.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    if (place / "partition").exists():
        place = place.parent
    numbers = (place / "dev").read_text().strip()
    return device_path(numbers), numbers


@contextlib.contextmanager
def busy_containers(docker: Docker, folder: Path) -> Iterator[Busy]:
    """Start the containers, wait until their work is done, and remove them in the end."""
    if inside_uml():
        for module in ("crc-ccitt", "ipv6", "llc", "stp", "bridge"):
            (place,) = Path("/usr/lib/uml/modules").glob(f"{os.uname().release}/**/{module}.ko")
            subprocess.run(["busybox", "insmod", str(place)], check=True)
    # Its addresses are for documentation (RFC 5737), and nothing leaves it: --internal.
    network = ("network", "create", "--driver=bridge", "--internal", "--subnet=198.51.100.0/24")
    docker.docker(*network, NETWORK)
    busy = Busy(docker, {})
    try:
        _start(busy, folder)
        _wait_until_ready(busy)
        yield busy
    finally:
        if busy.ids:
            docker.docker("rm", "--force", *busy.ids.values())
        docker.docker("network", "rm", NETWORK)


def _start(busy: Busy, folder: Path) -> None:
    def run(name: str, *options: str, work: str) -> None:
        busy.ids[name] = busy.docker.run(f"--name={name}", *options, IMAGE, "sh", "-c", work)

    path, _ = disk_device(folder)
    limits = (f"--memory={LIMIT_BYTES}", f"--memory-swap={LIMIT_BYTES}", "--memory-reservation=32m")
    labels = ("com.docker.compose.project=shop", "com.docker.compose.service=till", "secret=unseen")
    options = (*limits, "--cpu-shares=512", "--pids-limit=50", f"--network={NETWORK}")
    run("holder", *options, *(f"--label={label}" for label in labels), work=_HOLD)
    run("burner", f"--cpus={BURNER_CPUS}", work=_BURN)
    # v1 counts the I/O of a device from its first throttle rule on (kernel 6.9): this one holds nobody up.
    rule = (f"--device-write-bps={path}:1gb",) if is_v1() else ()
    run("writer", f"--memory={WRITER_LIMIT_BYTES}", *rule, f"--volume={folder}:/disk", work=_WRITE)
    run("joined", f"--network=container:{busy.ids['holder']}", work=_SLEEP.format(sleepers=1))
    run("host", "--network=host", work=_SLEEP.format(sleepers=1))


def _wait_until_ready(busy: Busy) -> None:
    for name, identity in busy.ids.items():
        if not leftovers.wait_until(lambda: "ready" in busy.docker.docker("logs", identity), 60):  # noqa: B023 - called before the next round
            raise RealKernelError(f"{name} does not get ready:\n{busy.docker.docker('logs', identity)}")


@contextlib.contextmanager
def container_by_hand() -> Iterator[ByHand]:
    """Make a cgroup in each hierarchy and a process in it, in its own network and its own root folder."""
    cgroup = f"/cgwtest-byhand-{os.getpid()}"
    places = [mount / cgroup.lstrip("/") for mount in leftovers.cgroup_mounts()]
    made_seconds = time.time()
    with contextlib.ExitStack() as undo:
        for place in places:
            place.mkdir()
            undo.callback(_remove, place)
            _inherit_cpuset(place)
        _limit(cgroup)
        root = Path(tempfile.mkdtemp(prefix="cgwtest-root-"))
        undo.callback(shutil.rmtree, root)
        subprocess.run(["tar", "--extract", f"--directory={root}"], input=busybox_tar(), check=True)
        command = ["unshare", "--net", "chroot", str(root), "/bin/sh", "-c", _BY_HAND]
        enter = 'for place in "$@"; do echo 0 > "$place/cgroup.procs"; done'
        script = f"{enter}; exec {shlex.join(command)}"
        process = undo.enter_context(
            subprocess.Popen(
                ["sh", "-c", script, "sh", *map(str, places)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        undo.callback(process.send_signal, signal.SIGKILL)
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RealKernelError("the container by hand does not get ready")
        enter_network = ["nsenter", "--net", f"--target={process.pid}"]
        # Nobody answers the pings: what is counted is the packets that leave.
        subprocess.run([*enter_network, "sh", "-c", _CARD], check=False, capture_output=True)
        yield ByHand(cgroup, process.pid, made_seconds)


def _limit(cgroup: str) -> None:
    if is_v1():
        file_of("memory", cgroup, "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
        file_of("cpu", cgroup, "cpu.cfs_quota_us").write_text("50000")
    else:
        file_of("memory", cgroup, "memory.max").write_text(str(LIMIT_BYTES))
        file_of("cpu", cgroup, "cpu.max").write_text("50000 100000")


def _inherit_cpuset(place: Path) -> None:
    """A v1 cpuset takes no process before it has CPUs and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (place / name).exists() and (place.parent / "cgroup.clone_children").exists():
            (place / name).write_text((place.parent / name).read_text())


def _remove(place: Path) -> None:
    def gone() -> bool:
        try:
            place.rmdir()
        except OSError:
            return False
        return True

    if not leftovers.wait_until(gone, 10):
        raise RealKernelError(f"{place} cannot be removed")
