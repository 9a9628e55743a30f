"""What a user's Podman makes without root, and its tree: ``python -m tests.real.scenario_podman``.

The cgroups are made by hand where Podman 4 with crun and the user's systemd have them: a container, a pod,
and a Quadlet (``podman run --cgroups=split`` in a service). The user's systemd got ``memory`` and ``pids``
and no other controller, as from systemd before 252, so ``cpu`` and ``io`` have no limits there.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tests.real.capture import capture
from tests.real.known import Known, write_json, write_meta
from tests.real.runc import READY, identity_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
MEBIBYTE = 1 << 20
ANON_BYTES = 6_000_000
DELEGATED = "+memory +pids"

WEB, INFRA, JOB, CACHE = (identity_of(f"podman {name}") for name in ("web", "infra", "job", "cache"))
POD = identity_of("podman pod")
MANAGER = "/user.slice/user-1000.slice/user@1000.service"
SLICE = f"{MANAGER}/user.slice"
POD_SLICE = f"{SLICE}/user-libpod_pod_{POD}.slice"
SERVICE = f"{MANAGER}/app.slice/cache.service"

_NETWORK = """
ip link set lo up
ip link add tap0 type veth peer name tap1
ip address add 192.0.2.100/24 dev tap0
ip link set tap0 up
ip link set tap1 up
busybox ping -c 2 -W 1 -I tap0 192.0.2.2
"""
_WEB = f"""
tail /dev/zero
dd if=/dev/zero of=/dev/shm/held bs=1M count=8
held=$(head -c {ANON_BYTES} /dev/zero | tr '\\0' a)
{_NETWORK}
echo {READY}
sleep 100000 & wait
"""
_QUIET = f"echo {READY}; exec sleep 100000"
_INFRA = f"{_NETWORK}\n{_QUIET}"
_LIMITS = {"memory.max": str(32 * MEBIBYTE), "pids.max": "2048"}

# Parents first: path, what is written into it, whether it hands its controllers down.
CGROUPS: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("/user.slice", {}, True),
    ("/user.slice/user-1000.slice", {"pids.max": "4096"}, True),
    (MANAGER, {}, True),
    (SLICE, {}, True),
    (f"{SLICE}/libpod-conmon-{WEB}.scope", {}, False),
    (f"{SLICE}/libpod-{WEB}.scope", _LIMITS, True),
    (f"{SLICE}/libpod-{WEB}.scope/container", _LIMITS, False),
    (POD_SLICE, {"memory.max": str(96 * MEBIBYTE)}, True),
    (f"{POD_SLICE}/libpod-{INFRA}.scope", {}, True),
    (f"{POD_SLICE}/libpod-{INFRA}.scope/container", {}, False),
    (f"{POD_SLICE}/libpod-{JOB}.scope", {"pids.max": "64"}, True),
    (f"{POD_SLICE}/libpod-{JOB}.scope/container", {"pids.max": "64"}, False),
    (f"{MANAGER}/app.slice", {}, True),
    (SERVICE, {"memory.high": str(48 * MEBIBYTE)}, True),
    (f"{SERVICE}/libpod-payload-{CACHE}", {}, False),
    (f"{SERVICE}/runtime", {}, False),
)
NAMES = {WEB: "web", INFRA: "infra", JOB: "job", CACHE: "cache"}
AT_LEAST = {
    f"{SLICE}/libpod-{WEB}.scope/container": {
        "memory.stat anon": ANON_BYTES,
        "memory.stat shmem": 8 * MEBIBYTE,
        "memory.events oom_kill": 1,
    }
}


class Processes:
    """Processes by hand in the cgroups, ended together."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def start(self, cgroup: str, work: str, *network: str) -> int:
        """Start one, wait until it is ready, and give its pid; ``network`` is a command to start it by."""
        enter = f'echo 0 > {ROOT}{cgroup}/cgroup.procs; exec "$@"'
        command = ["sh", "-c", enter, "sh", *network, "sh", "-c", work]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._stack.callback(_end, process)
        assert process.stdout
        for line in process.stdout:
            if line.strip() == READY:
                return process.pid
        raise AssertionError(f"{cgroup}: its process ended")


def _end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


@contextlib.contextmanager
def running() -> Iterator[dict[str, int]]:
    """Make the cgroups, run what is in them, and give each container's pid. The cgroups stay."""
    for path, files, hands_down in CGROUPS:
        place = ROOT / path.strip("/")
        place.mkdir()
        if hands_down:
            (place / "cgroup.subtree_control").write_text(DELEGATED)
        for name, text in files.items():
            (place / name).write_text(text)
    with contextlib.ExitStack() as stack:
        start = Processes(stack).start
        start(f"{SLICE}/libpod-conmon-{WEB}.scope", _QUIET)
        start(f"{SERVICE}/runtime", _QUIET)
        pids = {
            WEB: start(f"{SLICE}/libpod-{WEB}.scope/container", _WEB, "unshare", "--net"),
            INFRA: start(f"{POD_SLICE}/libpod-{INFRA}.scope/container", _INFRA, "unshare", "--net"),
            CACHE: start(f"{SERVICE}/libpod-payload-{CACHE}", _QUIET),
        }
        enter = ("nsenter", "--net", f"--target={pids[INFRA]}")
        pids[JOB] = start(f"{POD_SLICE}/libpod-{JOB}.scope/container", _QUIET, *enter)
        yield pids


def _inspect(identity: str, pid: int) -> dict[str, Any]:
    """Say what Podman's Docker-compatible API says of a container, as far as anybody asks for it."""
    moment = datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z")
    network = {INFRA: "slirp4netns", WEB: "slirp4netns", JOB: f"container:{INFRA}", CACHE: "host"}
    name = NAMES[identity]
    image = "localhost/podman-pause:4.3.1-0" if identity == INFRA else f"example.test/{name}:2"
    return {
        "Id": identity,
        "Created": moment,
        "State": {
            "Status": "running",
            "Running": True,
            "OOMKilled": False,
            "Pid": pid,
            "ExitCode": 0,
            "StartedAt": moment,
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "Name": f"/{name}",
        "RestartCount": 0,
        "Config": {
            "Image": image,
            "Labels": {"PODMAN_SYSTEMD_UNIT": "cache.service"} if name == "cache" else {},
        },
        "HostConfig": {"NetworkMode": network[identity]},
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
def main(out: Path) -> None:
    """Record the tree of a user's containers into a folder."""
    with running() as pids:
        capture(out, ["/user.slice"])
    write_json(out / "docker.json", [_inspect(identity, pid) for identity, pid in pids.items()])
    known = {}
    for path, files, _ in CGROUPS:
        name = next((name for identity, name in NAMES.items() if identity in os.path.basename(path)), "")
        known[path] = Known(files, AT_LEAST.get(path, {}), name)
    write_meta(out, known, "by hand, as Podman 4.3 with crun 1.8 and the user's systemd have it")


if __name__ == "__main__":
    main()
