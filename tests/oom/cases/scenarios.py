"""What is recorded: each scenario makes a kill, and says what is known of it without cgwatch."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from cgwatch.oom.case import Consumer
from cgwatch.oom.kill import Cause, Scope
from cgwatch.oom.shape import Shape
from tests.oom.cases.recorded import Recorded, Truth
from tests.oom.cases.stage import Stage
from tests.oom.hogs import MEGABYTE
from tests.real.dockerd import Dockerd

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAK_A_MEGABYTE = 'while (1) { kept[i++] = sprintf("%1048576s", ""); system("sleep 1") }'


def _at_own_limit(
    path: str, limit_bytes: int, consumer: Consumer, shape: Shape, scope: Scope, **more: Any
) -> Truth:
    """Give the truth of a cgroup that one kind of memory filled up to its limit."""
    truth = Truth(Cause.OWN_LIMIT, consumer, shape, scope, path, limit_bytes, consumer_bytes=limit_bytes)
    return structs.replace(truth, **more)


def leak() -> Recorded:
    """One process, 512 KiB more every second, at its own limit."""
    with Stage() as stage:
        path, limit = stage.hogs.make("leaky", 64 * MEGABYTE), 64 * MEGABYTE
        began = time.monotonic()
        program = stage.start(path, f"leak={MEGABYTE // 2},1")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.UNKNOWN,
            bytes_per_second=MEGABYTE / 2,
            growing_seconds=time.monotonic() - began,
            victim_pid=program.pid,
        )
        return stage.record(
            path, "One process took 512 KiB of anonymous memory every second, until its limit.", truth
        )


def spike() -> Recorded:
    """20 MiB for long, then 100 MiB more at once."""
    with Stage() as stage:
        path, limit = stage.hogs.make("sudden", 64 * MEGABYTE), 64 * MEGABYTE
        program = stage.start(path, f"anon={20 * MEGABYTE}", "wait=75", f"anon={100 * MEGABYTE}")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.SPIKE,
            Scope.UNKNOWN,
            victim_pid=program.pid,
        )
        return stage.record(
            path,
            "One process had 20 MiB for 75 s, and then took 100 MiB more at once, past its limit.",
            truth,
        )


def cache() -> Recorded:
    """A file of 48 MiB in the page cache, then a leak that pushes it out."""
    with Stage() as stage, tempfile.TemporaryDirectory(prefix="cgwtest-cache-") as folder:
        path, limit = stage.hogs.make("reader", 64 * MEGABYTE), 64 * MEGABYTE
        began = time.monotonic()
        program = stage.start(path, f"file={48 * MEGABYTE},{folder}/data", f"leak={MEGABYTE},1.5")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.UNKNOWN,
            bytes_per_second=MEGABYTE / 1.5,
            growing_seconds=time.monotonic() - began,
            victim_pid=program.pid,
        )
        return stage.record(
            path,
            "One process wrote a file of 48 MiB, which stayed in the page cache, and then took 1 MiB of "
            "anonymous memory every 1.5 s: the kernel dropped the cache, then killed.",
            truth,
        )


def too_small() -> Recorded:
    """61 of 64 MiB for more than a minute, then a little more; started again each time."""
    with Stage() as stage:
        path, limit = stage.hogs.make("report", 64 * MEGABYTE), 64 * MEGABYTE
        for _ in range(3):
            program = stage.start(path, f"anon={57 * MEGABYTE}", "wait=70", f"anon={8 * MEGABYTE}")
            assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.PLATEAU,
            Scope.UNKNOWN,
            victim_pid=program.pid,
            kills=3,
        )
        return stage.record(
            path,
            "One process had 61 MiB for 70 s, and then took 8 MiB more, past its limit. It was started again "
            "twice, and went the same way.",
            truth,
        )


def tmpfs() -> Recorded:
    """A process writes files to a tmpfs, and has next to nothing itself."""
    with Stage() as stage, tempfile.TemporaryDirectory(prefix="cgwtest-", dir="/dev/shm") as folder:
        path, limit = stage.hogs.make("thumbnails", 64 * MEGABYTE), 64 * MEGABYTE
        began = time.monotonic()
        program = stage.start(path, f"files={MEGABYTE},1.5,{folder}")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.SHMEM,
            Shape.GROWTH,
            Scope.UNKNOWN,
            bytes_per_second=MEGABYTE / 1.5,
            growing_seconds=time.monotonic() - began,
            victim_pid=program.pid,
        )
        return stage.record(
            path,
            "One process wrote a file of 1 MiB to /dev/shm every 1.5 s, and had next to nothing itself.",
            truth,
        )


# Containers of Docker. Their image has busybox only, whose awk takes memory in exact pieces, too.


def leak_docker() -> Recorded:
    """A container whose main process takes 1 MiB more every second."""
    with Stage(Dockerd()) as stage:
        limit = 96 * MEGABYTE
        began = time.monotonic()
        path, pid = stage.run("shop-api", limit, f"exec awk 'BEGIN {{ {_LEAK_A_MEGABYTE} }}'")
        exit_code = stage.ended("shop-api")
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.MAIN,
            bytes_per_second=MEGABYTE,
            growing_seconds=time.monotonic() - began,
            victim_pid=pid,
            name="shop-api",
            exit_code=exit_code,
        )
        return stage.record(
            path, "The main process of a Docker container took 1 MiB of anonymous memory every second.", truth
        )


def too_small_docker() -> Recorded:
    """A container that needs a little more than its limit, and is started again each time."""
    with Stage(Dockerd()) as stage:
        limit = 64 * MEGABYTE
        hold = 'for (i = 0; i < 60; i++) kept[i] = sprintf("%1048576s", ""); '
        more = 'for (; i < 66; i++) kept[i] = sprintf("%1048576s", "")'
        work = f"exec awk 'BEGIN {{ {hold} system(\"sleep 72\"); {more} }}'"
        path, _ = stage.run("report", limit, work, "--restart=on-failure:2")
        stage.settled(path, 3)
        exit_code = stage.ended("report")
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.PLATEAU,
            Scope.MAIN,
            name="report",
            exit_code=exit_code,
            kills=3,
        )
        return stage.record(
            path,
            "The main process of a Docker container had 60 of 64 MiB for 72 s, and then needed 6 MiB more. "
            "Docker started it again twice, and it went the same way.",
            truth,
        )


def tmpfs_docker() -> Recorded:
    """A container that writes files to /dev/shm until its limit: no process has much."""
    with Stage(Dockerd()) as stage:
        limit = 64 * MEGABYTE
        write = "dd if=/dev/zero of=/dev/shm/part$n bs=1M count=1 2>/dev/null"
        work = f"n=0; while {write}; do n=$((n+1)); sleep 1; done; sleep 100000"
        began = time.monotonic()
        path, _ = stage.run("thumbnails", limit, work, "--shm-size=256m")
        while not stage.kills(path):
            time.sleep(0.5)
        grown_seconds = time.monotonic() - began
        stage.settled(path)
        truth = _at_own_limit(
            path,
            limit,
            Consumer.SHMEM,
            Shape.GROWTH,
            Scope.CHILD,
            bytes_per_second=MEGABYTE,
            growing_seconds=grown_seconds,
            name="thumbnails",
        )
        return stage.record(
            path,
            "A Docker container wrote a file of 1 MiB to /dev/shm every second; its processes had next to "
            "nothing.",
            truth,
        )


def child_docker() -> Recorded:
    """A child of the main process takes 4 MiB every second, and the main process goes on without it."""
    with Stage(Dockerd()) as stage:
        limit = 64 * MEGABYTE
        leak = 'awk \'BEGIN { while (1) { kept[i++] = sprintf("%4194304s", ""); system("sleep 1") } }\''
        path, main = stage.run("queue", limit, f"sleep 20; {leak}; sleep 100000")
        stage.settled(path)
        assert stage.running("queue")
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.SPIKE,
            Scope.CHILD,
            name="queue",
        )
        case = stage.record(
            path,
            "A child of the main process of a Docker container took 4 MiB of anonymous memory every "
            "second; the main process went on without it.",
            truth,
        )
        assert case.kill.victim is None or case.kill.victim.pid != main
        return case


# Bare cgroups of cgroup v2.

POD = "kubepods/burstable/pod5c8ecf3d-29a4-4b0e-8d3c-2f1b7a6c9e10"
SIDECAR, WORKERS = "5e" * 32, "a7" * 32


def pod() -> Recorded:
    """In a pod with a limit one container is killed, and the other has most of the memory."""
    with Stage() as stage:
        for below in ("kubepods", "kubepods/burstable"):
            stage.hogs.make(below)
        above, limit = stage.hogs.make(POD, 128 * MEGABYTE), 128 * MEGABYTE
        victim, sibling = (stage.hogs.make(f"{POD}/{identity}") for identity in (SIDECAR, WORKERS))
        stage.start(sibling, f"workers=16,{6 * MEGABYTE}", "wait=100000")
        program = stage.start(victim, f"anon={8 * MEGABYTE}", "wait=5", f"leak={MEGABYTE // 8},1")
        assert program.wait(300) == -9
        truth = Truth(
            Cause.ANCESTOR_LIMIT,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.UNKNOWN,
            above,
            limit,
            consumer_bytes=limit,
            victim_pid=program.pid,
            culprit=WORKERS[:12],
            not_known=("whether it was the main process",),
        )
        return stage.record(
            victim,
            "Two containers of a pod: sixteen workers of 6 MiB in one, and in the other one process that "
            "had 8 MiB and grew by 128 KiB a second until the pod's limit. It was larger than any worker.",
            truth,
        )


def node() -> Recorded:
    """A cgroup without a limit takes all that the node has."""
    with Stage() as stage:
        path, bystander = stage.hogs.make("batch"), stage.hogs.make("frontend", 64 * MEGABYTE)
        stage.start(bystander, f"anon={16 * MEGABYTE}", "wait=100000")
        program = stage.start(path, f"leak={3 * MEGABYTE},1")
        assert program.wait(400) == -9
        truth = Truth(
            Cause.GLOBAL,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.UNKNOWN,
            bytes_per_second=3 * MEGABYTE,
            victim_pid=program.pid,
        )
        return stage.record(
            path,
            "A process in a cgroup without a limit took 3 MiB of anonymous memory every second, until the "
            "node had none left.",
            truth,
        )


def group() -> Recorded:
    """A cgroup with memory.oom.group: four workers die with the one that leaks."""
    with Stage() as stage:
        path, limit = stage.hogs.make("together", 96 * MEGABYTE), 96 * MEGABYTE
        (stage.hogs.directory(path) / "memory.oom.group").write_text("1")
        program = stage.start(path, f"workers=4,{4 * MEGABYTE}", f"leak={MEGABYTE},1")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.GROUP,
            bytes_per_second=MEGABYTE,
            kills=6,  # the kernel counts the first victim twice
        )
        return stage.record(
            path,
            "In a cgroup with memory.oom.group = 1 a process took 1 MiB of anonymous memory every second; "
            "four workers of 4 MiB were killed with it.",
            truth,
        )


def kernel() -> Recorded:
    """A process fills pipes that nobody reads: memory of the kernel."""
    with Stage() as stage:
        path, limit = stage.hogs.make("plumber", 64 * MEGABYTE), 64 * MEGABYTE
        program = stage.start(path, f"pipes={MEGABYTE},1.5")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.KERNEL,
            Shape.GROWTH,
            Scope.UNKNOWN,
            bytes_per_second=MEGABYTE / 1.5,
            victim_pid=program.pid,
        )
        return stage.record(
            path, "A process filled one more pipe of 1 MiB every 1.5 s, which nobody read.", truth
        )


def swap_full() -> Recorded:
    """A leak into swap first, until that is full, too."""
    swap = Path(os.environ["TMPDIR"]) / "../disk/swap"
    with Stage() as stage:
        with swap.open("wb") as file:
            for _ in range(96):
                file.write(bytes(MEGABYTE))
            os.fsync(file.fileno())
        subprocess.run(["mkswap", str(swap)], check=True)
        subprocess.run(["swapon", str(swap)], check=True)
        path, limit = stage.hogs.make("swapper", 48 * MEGABYTE), 48 * MEGABYTE
        (stage.hogs.directory(path) / "memory.swap.max").write_text(str(48 * MEGABYTE))
        program = stage.start(path, f"leak={MEGABYTE},1")
        assert program.wait(300) == -9
        truth = _at_own_limit(
            path,
            limit,
            Consumer.ANON,
            Shape.GROWTH,
            Scope.UNKNOWN,
            bytes_per_second=MEGABYTE,
            victim_pid=program.pid,
            swap_bytes=48 * MEGABYTE,
        )
        case = stage.record(
            path,
            "A process took 1 MiB of anonymous memory every second: 48 MiB up to its limit, and 48 MiB "
            "more into swap, until memory.swap.max was reached as well.",
            truth,
        )
        subprocess.run(["swapoff", str(swap)], check=True)
        return case


SCENARIOS: dict[str, Callable[[], Recorded]] = {
    "leak_v1": leak,
    "spike_v1": spike,
    "cache_v1": cache,
    "pod_v1": pod,
    "kernel_v1": kernel,
    "too_small_v1": too_small,
    "tmpfs_v1": tmpfs,
    "leak_docker_v1": leak_docker,
    "too_small_docker_v1": too_small_docker,
    "tmpfs_docker_v1": tmpfs_docker,
    "child_docker_v1": child_docker,
    "node_v2": node,
    "pod_v2": pod,
    "group_v2": group,
    "kernel_v2": kernel,
    "swap_full_v2": swap_full,
}
"""By the name of the case, which ends with the version of the cgroups of the machine that it needs."""
