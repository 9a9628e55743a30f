"""The pods of one node, and their tree: ``python -m tests.real.scenario_kubernetes``.

Kubelet's part is done here (``tests.real.pods``), the runtime's by runc, as containerd and CRI-O have it do.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from tests.real import busy, cri_says
from tests.real.capture import capture
from tests.real.dockerd import RealKernelError
from tests.real.known import Known, write_json, write_meta
from tests.real.leftovers import thread_states, wait_until
from tests.real.pods import (
    MEBIBYTE,
    App,
    Pod,
    has_controller,
    level_cgroup,
    level_files,
    make_cgroup,
    pause_resources,
    resources,
)
from tests.real.runc import Runc, identity_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
ANON_BYTES = 6_000_000
DIRECT_BYTES = 2 * MEBIBYTE
HUGE_BYTES = 4 * MEBIBYTE

_BUSY = f"""
tail /dev/zero
timeout 3 sh -c 'while :; do :; done'
dd if=/dev/zero of=/disk/direct bs=64k count={DIRECT_BYTES >> 16} oflag=direct
dd if=/disk/direct of=/dev/null bs=64k iflag=direct
dd if=/dev/zero of=/disk/buffered bs=1M count=8 conv=fsync
dd if=/dev/zero of=/dev/shm/held bs=1M count=12
held=$(head -c {ANON_BYTES} /dev/zero | tr '\\0' a)
[ -d /dev/hugepages ] && fallocate -l {HUGE_BYTES} /dev/hugepages/held
echo ready
sleep 100000 & wait
"""
_QUIET = "echo ready; exec sleep 100000"
_WORKERS = "for n in 1 2 3; do sleep 100000 & done; echo ready; wait"
_GREEDY = "echo ready; tail /dev/zero"
_NETWORK = """
ip link set lo up
ip link add eth0 type veth peer name veth0
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip link set veth0 up
busybox ping -c 2 -W 1 -I eth0 192.0.2.2
busybox ping -c 1 -W 1 127.0.0.1
"""

PODS = (
    Pod(
        "ledger-0",
        "bank",
        "2edf54f8-6911-449f-9abe-3d468a770d6b",
        "guaranteed",
        (
            App(
                "db",
                "example.test/ledger/db:16.4",
                _BUSY,
                cpu_request_millis=400,
                cpu_limit_millis=400,
                memory_request_bytes=64 * MEBIBYTE,
                memory_limit_bytes=64 * MEBIBYTE,
                huge_pages_bytes=2 * HUGE_BYTES,
                cpus="1",
                is_killed_first=True,
            ),
            App(
                "metrics",
                "example.test/ledger/exporter@sha256:" + "5e" * 32,
                _QUIET,
                cpu_request_millis=100,
                cpu_limit_millis=100,
                memory_request_bytes=16 * MEBIBYTE,
                memory_limit_bytes=16 * MEBIBYTE,
            ),
        ),
    ),
    Pod(
        "mirror-node-1",
        "kube-system",
        "36b6d6be73b1065af369b3985edafa09",
        "burstable",
        (
            App(
                "proxy",
                "example.test/kube-proxy:v1.28.15",
                _QUIET,
                cpu_request_millis=100,
                memory_request_bytes=24 * MEBIBYTE,
            ),
        ),
        host_network=True,
        is_static=True,
    ),
    Pod(
        "report-28431-x7k2p",
        "bank",
        "b7c3f1d0-58a2-4c1e-8f37-0d9a6e4b2c15",
        "besteffort",
        (App("report", "example.test/bank/report:1.8.3", _WORKERS),),
    ),
)


class Node(Struct, frozen=True):
    """How one node is set up."""

    runtime: str
    systemd: bool
    """The cgroup driver: paths of slices and scopes."""
    by_systemd: bool
    """Whether a systemd is there to make them."""

    @property
    def name(self) -> str:
        """Tells the ids of one node from those of another."""
        return f"{self.runtime} {'systemd' if self.systemd else 'cgroupfs'}"

    @property
    def memory_qos(self) -> bool:
        """Containerd's node has the feature MemoryQoS."""
        return self.runtime == "containerd"

    @property
    def kill_all(self) -> bool:
        """CRI-O's node has a kubelet of 1.28 or later: an OOM kill takes the whole container."""
        return self.runtime == "crio"

    def container_name(self, identity: str) -> str:
        """Give the name of a container's directory."""
        if self.systemd:
            prefix = "cri-containerd" if self.runtime == "containerd" else "crio"
            return f"{prefix}-{identity}.scope"
        return identity if self.runtime == "containerd" else f"crio-{identity}"

    def cgroups_path(self, pod: Pod, identity: str) -> str:
        """Give what the runtime tells runc: a path, or "slice:prefix:id" where systemd makes the scope."""
        parent = pod.cgroup(systemd=self.systemd)
        if self.by_systemd:
            prefix = "cri-containerd" if self.runtime == "containerd" else "crio"
            return f"{parent.rpartition('/')[2]}:{prefix}:{identity}"
        return f"{parent}/{self.container_name(identity)}"


class Recorder:
    """Starts the pods, and keeps what is known of them."""

    def __init__(self, node: Node, runc: Runc, disk: Path) -> None:
        self.node = node
        self.runc = runc
        self.disk = disk
        self.known: dict[str, Known] = {}
        self.sandboxes: list[dict[str, Any]] = []
        self.containers: list[dict[str, Any]] = []

    def start(self, pod: Pod) -> None:
        """Make the pod's cgroup, its pause container and its apps, and let its network see packets."""
        node = self.node
        parent = pod.cgroup(systemd=node.systemd)
        self._make(parent, pod.files(memory_qos=node.memory_qos))
        sandbox = identity_of(f"{node.name} {pod.uid}")
        pause = self.runc.run(
            sandbox,
            _QUIET,
            cgroup=node.cgroups_path(pod, sandbox),
            resources=pause_resources(),
            network=None if pod.host_network else "",
        )
        if not pod.host_network:
            command = ["nsenter", "--net", f"--target={pause}", "sh", "-c", _NETWORK]
            # The pings are answered by nobody: what is counted is the packets that leave and arrive.
            subprocess.run(command, check=False, capture_output=True)
        self.sandboxes.append(cri_says.sandbox(node.runtime, pod, sandbox, pause))
        self.known[f"{parent}/{node.container_name(sandbox)}"] = Known({"cpu.weight": "1"}, {}, "pause")
        for app in pod.apps:
            self._start_app(pod, app, sandbox, None if pod.host_network else f"/proc/{pause}/ns/net")

    def levels(self) -> None:
        """Make the cgroups that all pods are in."""
        for level, files in level_files(PODS, memory_qos=self.node.memory_qos).items():
            self._make(level_cgroup(level, systemd=self.node.systemd), files)

    @contextlib.contextmanager
    def monitor(self) -> Iterator[list[str]]:
        """Give the first container CRI-O's conmon, in a cgroup where its default configuration puts it."""
        if self.node.runtime != "crio":
            yield []
            return
        identity = self.containers[0]["id"]
        if self.node.systemd:
            cgroup = f"/system.slice/crio-conmon-{identity}.scope"
            scope = (f"--unit={cgroup.rpartition('/')[2]}", "--slice=system.slice")
            command = ["systemd-run", "--scope", "--quiet", *scope, "sleep", "100000"]
        else:
            cgroup = f"{PODS[0].cgroup(systemd=False)}/crio-conmon-{identity}"
            (ROOT / cgroup.strip("/")).mkdir()
            command = ["sh", "-c", f"echo 0 > {ROOT}{cgroup}/cgroup.procs; exec sleep 100000"]
        with subprocess.Popen(command) as process:
            try:
                procs = ROOT / cgroup.strip("/") / "cgroup.procs"
                if not wait_until(lambda: procs.exists() and bool(procs.read_text()), 10):
                    raise RealKernelError(f"no process in {cgroup}")
                self.known[cgroup] = Known({}, {}, "conmon")
                yield [cgroup]
            finally:
                process.kill()

    def _make(self, cgroup: str, files: dict[str, str]) -> None:
        make_cgroup(cgroup, files, by_systemd=self.node.by_systemd)
        self.known[cgroup] = Known(files, {})

    def _start_app(self, pod: Pod, app: App, sandbox: str, network: str | None) -> None:
        node = self.node
        limits = resources(app, pod.qos, memory_qos=node.memory_qos, kill_all=node.kill_all)
        parent = pod.cgroup(systemd=node.systemd)

        def run(attempt: int, work: str) -> tuple[str, int]:
            identity = identity_of(f"{node.name} {pod.uid} {app.name} {attempt}")
            pid = self.runc.run(
                identity,
                work,
                cgroup=node.cgroups_path(pod, identity),
                resources=limits,
                network=network,
                disk=self.disk,
            )
            return identity, pid

        attempt = 0
        if app.is_killed_first and node.kill_all:
            victim, pid = run(0, _GREEDY)
            if not wait_until(lambda: set(thread_states(pid)) <= {"Z"}, 60):
                raise RealKernelError(f"{app.name} is not killed")
            self.runc.delete(victim)
            attempt = 1
            self.known[parent].at_least["memory.events oom_kill"] = 1
        # With memory.oom.group its own "tail /dev/zero" would be the end of it once more.
        work = app.work.replace("tail /dev/zero\n", "") if node.kill_all else app.work
        identity, pid = run(attempt, work)
        self.containers.append(cri_says.container(pod, app, sandbox, identity, attempt, pid))
        self.known[f"{parent}/{node.container_name(identity)}"] = _known(app, limits, kill_all=node.kill_all)


def _known(app: App, limits: dict[str, Any], *, kill_all: bool) -> Known:
    files = dict(limits["unified"])
    if app.memory_limit_bytes:
        files |= {"memory.max": str(app.memory_limit_bytes)}
    if app.cpu_limit_millis:
        files["cpu.max"] = f"{limits['cpu']['quota']} {limits['cpu']['period']}"
    for huge in limits.get("hugepageLimits", ()):
        files[f"hugetlb.{huge['pageSize']}.max"] = str(huge["limit"])
    if "cpus" in limits["cpu"]:
        files["cpuset.cpus"] = limits["cpu"]["cpus"]
    at_least: dict[str, int] = {}
    if app.is_killed_first:
        at_least = {"memory.stat anon": ANON_BYTES, "memory.stat shmem": 12 * MEBIBYTE}
        at_least |= {"cpu.stat nr_throttled": 1, "io.stat rbytes": DIRECT_BYTES}
        at_least["io.stat wbytes"] = DIRECT_BYTES + 8 * MEBIBYTE
        if not kill_all:
            at_least["memory.events oom_kill"] = 1
        if "hugepageLimits" in limits:
            at_least["hugetlb.2MB.current"] = HUGE_BYTES
    return Known(files, at_least, app.name)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")
@click.option("--runtime", type=click.Choice(["containerd", "crio"]), required=True)
@click.option("--driver", type=click.Choice(["systemd", "cgroupfs"]), required=True, help="Whose paths.")
def main(out: Path, runtime: str, driver: str) -> None:
    """Record the tree of a node's pods into a folder. Kubelet's cgroups stay: the node is thrown away."""
    systemd = driver == "systemd"
    node = Node(runtime, systemd, systemd and Path("/run/systemd/system").exists())
    if has_controller("hugetlb"):
        Path("/proc/sys/vm/nr_hugepages").write_text("8")
    with busy.disk() as disk, Runc(systemd=node.by_systemd) as runc:
        recorder = Recorder(node, runc, disk)
        recorder.levels()
        for pod in PODS:
            recorder.start(pod)
        with recorder.monitor() as monitors:
            capture(out, [level_cgroup("", systemd=systemd), *monitors])
    write_json(out / "cri.json", {"sandboxes": recorder.sandboxes, "containers": recorder.containers})
    made_by = f"runc, as {runtime} has it do with the {driver} driver; kubelet's part by hand"
    write_meta(out, recorder.known, made_by)


if __name__ == "__main__":
    main()
