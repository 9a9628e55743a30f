"""Three containers that show most of what there is to see, and their tree: ``python -m tests.real.scenario``.

``limited`` has limits, has reached them, and has had an OOM kill; ``unlimited`` has none; ``host`` has the
host's network. Only ``limited`` has done anything: memory, CPU, disk, a network card and sockets of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tests.real.capture import capture
from tests.real.dockerd import IMAGE, Docker, Dockerd, RealKernelError
from tests.real.leftovers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORK = """
tail /dev/zero; echo "tail: $?"
timeout 4 sh -c 'while :; do :; done'
dd if=/dev/zero of=/disk/direct bs=64k count=32 oflag=direct
dd if=/dev/zero of=/disk/buffered bs=1M count=8 conv=fsync
dd if=/dev/zero of=/dev/shm/held bs=1M count=12
held=$(head -c 6000000 /dev/zero | tr '\\0' a)
until ip link show lo | grep -q UP; do sleep 0.1; done
nc -l -p 8080 &
tail -f /dev/null | nc -l -p 8081 &
until [ $(netstat -ltn | grep -c :808) = 2 ]; do sleep 0.1; done
tail -f /dev/null | nc 127.0.0.1 8081 &
until netstat -tn | grep -q ESTABLISHED; do sleep 0.1; done
echo ready
sleep 100000 & wait
"""
_NETWORK = """
ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
busybox ping -c 2 -W 1 -I eth0 192.0.2.2
busybox ping -c 1 -W 1 -I eth1 192.0.2.2
busybox ping -c 1 -W 1 127.0.0.1
"""
_LIMITS = ("--memory=64m", "--memory-swap=64m", "--cpus=0.5", "--pids-limit=50", "--cpu-shares=512")


def start_three(docker: Docker, disk: Path) -> list[str]:
    """Start the three containers, wait until the work of ``limited`` is done, and give their full ids.

    ``disk`` is a folder on a block device: what ``limited`` writes there is counted by the io controller.
    """
    labels = ("--label=com.docker.compose.project=shop", "--label=com.docker.compose.service=till")
    options = ("--name=limited", *_LIMITS, *labels, "--env=MODE=test", f"--volume={disk}:/disk")
    limited = docker.run(*options, IMAGE, "sh", "-c", _WORK)
    unlimited = docker.run("--name=unlimited", IMAGE, "sleep", "100000")
    host = docker.run("--name=host", "--network=host", "--restart=always", IMAGE, "sleep", "100000")
    pid = docker.docker("inspect", "--format={{.State.Pid}}", limited)
    # The pings are answered by nobody: what is counted is the packets that leave and arrive.
    subprocess.run(
        ["nsenter", "--net", f"--target={pid}", "sh", "-c", _NETWORK], check=False, capture_output=True
    )
    if not wait_until(lambda: "ready" in docker.docker("logs", limited), 60):
        raise RealKernelError(f"the container 'limited' does not get ready: {docker.docker('logs', limited)}")
    return [limited, unlimited, host]


def record(docker: Docker, disk: Path, out: Path, under: Iterable[str], leave_out: Iterable[str]) -> None:
    """Start the three, copy the tree into ``out`` and put ``docker inspect`` beside it as docker.json.

    Without ``under``, what is copied is the three alone: other daemons may have containers in /docker.
    """
    identities = start_three(docker, disk)
    capture(out, tuple(under) or [f"/docker/{identity}" for identity in identities], leave_out)
    (out / "docker.json").write_text(docker.docker("inspect", *identities) + "\n")
    docker.docker("rm", "--force", *identities)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--under", multiple=True, metavar="CGROUP", help="What to copy, instead of the three.")
@click.option("--leave-out", multiple=True, metavar="NAME", help="A hierarchy's folder, such as unified.")
@click.option("--disk", type=click.Path(path_type=Path), help="Folder on a block device, for the writes.")
@click.option("--socket", type=click.Path(path_type=Path), help="A running daemon's, instead of our own.")
def main(
    out: Path, under: tuple[str, ...], leave_out: tuple[str, ...], disk: Path | None, socket: Path | None
) -> None:
    """Record the tree of three containers into a folder."""
    with contextlib.ExitStack() as stack:
        folder = disk or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cgwtest-disk-")))
        if socket is None:
            docker: Docker = stack.enter_context(Dockerd())
        else:
            docker = Docker(socket)
            docker.wait_until_ready()
            docker.import_image()
        record(docker, folder, out, under, leave_out)


if __name__ == "__main__":
    main()
