"""Containers in containers, and their tree: ``python -m tests.real.scenario_nested``.

A Docker daemon in a privileged container of another one has a container of its own (Docker in Docker), and
beside it a systemd is process 1 of a container. Both see the machine's programs, in a root of their own.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import click

from tests.real.capture import capture
from tests.real.dockerd import IMAGE, Docker, Dockerd, RealKernelError
from tests.real.known import Known, write_meta
from tests.real.leftovers import wait_until
from tests.real.systemd_machine import build_root

MEBIBYTE = 1 << 20
ANON_BYTES = 6_000_000
UNIT = "till.service"
ROOT = Path("/sys/fs/cgroup")
MEMORY_MAX = {1: "memory.limit_in_bytes", 2: "memory.max"}
OOM_KILL = {1: "memory.oom_control oom_kill", 2: "memory.events oom_kill"}
ANON = {1: "memory.stat rss", 2: "memory.stat anon"}

# As Docker's own image for this does (moby, hack/dind): the controllers can only be handed down by a cgroup
# without processes.
_EMPTY_ROOT = """
mkdir /sys/fs/cgroup/init
for pid in $(cat /sys/fs/cgroup/cgroup.procs); do
    echo $pid > /sys/fs/cgroup/init/cgroup.procs || true  # cat has gone
done
sed -e 's/ / +/g' -e 's/^/+/' /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
"""
_NEW_ROOT = """
mount -t proc proc /new/proc
mount --rbind /sys /new/sys
mount --rbind /dev /new/dev
for folder in /run /tmp; do mount -t tmpfs tmpfs /new$folder; done
"""
_DOCKER = f"""
set -e; exec 2>&1
[ -e /sys/fs/cgroup/cgroup.controllers ] && {{ {_EMPTY_ROOT} }}
{_NEW_ROOT}
mkdir /new/run/exchange
mount --bind /exchange /new/run/exchange
exec chroot /new dockerd --host=unix:///run/exchange/docker.sock --pidfile=/run/dockerd.pid \\
    --data-root=/run/data --exec-root=/run/exec --storage-driver=vfs --iptables=false --bridge=none
"""
_SYSTEMD = f"""
set -e; exec 2>&1
{_NEW_ROOT}
mkdir -p /new/run/systemd/system
cat > /new/run/systemd/system/{UNIT} << END
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sleep 100000
StandardOutput=null
StandardError=null
MemoryMax=16M
TasksMax=8
END
cat > /new/run/systemd/system/all.target << END
[Unit]
DefaultDependencies=no
Wants={UNIT}
END
exec env container=docker chroot /new /lib/systemd/systemd --unit=all.target
"""
_INNER = f"""
tail /dev/zero
held=$(head -c {ANON_BYTES} /dev/zero | tr '\\0' a)
echo ready
sleep 100000 & wait
"""


def version() -> int:
    """Tell which version of cgroups this kernel runs."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1


def start(outer: Docker, folder: Path) -> tuple[Docker, dict[str, str]]:
    """Start everything; give the daemon inside, and the containers' ids by name."""
    privileged = ("--privileged", "--network=none", "--cgroupns=private")
    binds = ("--volume=/:/new", f"--volume={folder}:/exchange")
    limits = ("--memory=256m", "--memory-swap=256m")
    ids = {"dind": outer.run("--name=dind", *privileged, *limits, *binds, IMAGE, "sh", "-c", _DOCKER)}
    inner = Docker(folder / "docker.sock")
    try:
        inner.wait_until_ready()
    except RealKernelError as error:
        raise RealKernelError(f"{error}\n{outer.docker('logs', ids['dind'])}") from error
    inner.import_image()
    few = ("--memory=32m", "--memory-swap=32m", "--pids-limit=50")
    ids["inner"] = inner.run("--name=inner", "--network=none", *few, IMAGE, "sh", "-c", _INNER)
    if not wait_until(lambda: "ready" in inner.docker("logs", ids["inner"]), 60):
        raise RealKernelError(f"'inner' does not get ready: {inner.docker('logs', ids['inner'])}")
    root = f"--volume={build_root()}:/new:ro"
    ids["machine"] = outer.run("--name=machine", *privileged, root, IMAGE, "sh", "-c", _SYSTEMD)
    hierarchy = ROOT if version() == 2 else ROOT / "systemd"
    unit = hierarchy / "docker" / ids["machine"] / "system.slice" / UNIT / "cgroup.procs"
    if not wait_until(lambda: unit.exists() and bool(unit.read_text()), 60):
        raise RealKernelError(f"no {UNIT} in 'machine': {outer.docker('logs', ids['machine'])}")
    return inner, ids


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
def main(out: Path) -> None:
    """Record the tree of containers in containers into a folder."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cgwtest-")))
        outer = stack.enter_context(Dockerd())
        inner, ids = start(outer, folder)
        capture(out, ["/docker"])
        said = outer.docker("inspect", ids["dind"], ids["machine"]).replace(str(build_root()), "/debian")
        (out / "docker.json").write_text(said + "\n")
        (out / "inner_docker.json").write_text(inner.docker("inspect", ids["inner"]) + "\n")
        outer.docker("rm", "--force", ids["dind"], ids["machine"])
    dind, machine = f"/docker/{ids['dind']}", f"/docker/{ids['machine']}"
    most, kind = MEMORY_MAX[version()], version()
    known = {
        dind: Known({most: str(256 * MEBIBYTE)}, {}, "dind"),
        f"{dind}/docker/{ids['inner']}": Known(
            {most: str(32 * MEBIBYTE), "pids.max": "50"}, {ANON[kind]: ANON_BYTES, OOM_KILL[kind]: 1}, "inner"
        ),
        machine: Known({}, {}, "machine"),
        f"{machine}/system.slice/{UNIT}": Known({most: str(16 * MEBIBYTE), "pids.max": "8"}, {}),
    }
    write_meta(out, known, "dockerd 20.10 in a container of dockerd 20.10, systemd 252 in another one")


if __name__ == "__main__":
    main()
