"""Capture the kernel's own words of real OOM kills: ``python -m tests.oom.capture``.

Boots User Mode Linux (cgroup v2), makes kills of every shape in it and writes what /dev/kmsg said of each to
``tests/oom/kmsg/<shape>.txt``, with the counters of the kernel beside it in ``<shape>.json``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.real.uml import run_in_uml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).with_name("kmsg")
ROOT = Path("/sys/fs/cgroup")
_MEGABYTE = 1 << 20


def main() -> None:
    """Inside the machine: make the kills. Outside: boot it, and write what it said."""
    if len(sys.argv) > 1:
        _inside(sys.argv[1])
        return
    HERE.mkdir(exist_ok=True)
    for shape in SHAPES:
        done = run_in_uml([sys.executable, "-m", "tests.oom.capture", shape], memory="256M")
        if done.status:
            sys.exit(done.output)
        said = json.loads(done.output.splitlines()[-1])
        _write(shape, said)
    _write("v1_parent_limit", _on_v1())


def _write(shape: str, said: dict[str, Any]) -> None:
    (HERE / f"{shape}.txt").write_text(_without_addresses(said.pop("records")))
    (HERE / f"{shape}.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")


def _on_v1() -> dict[str, Any]:
    """Make a kill natively, by the limit of the parent, on cgroup v1."""
    pod = Path("/sys/fs/cgroup/memory/cgwtest-v1")
    container = pod / "container"
    with contextlib.ExitStack() as stack:
        for path in (pod, container):
            path.mkdir()
            stack.callback(path.rmdir)
        (pod / "memory.limit_in_bytes").write_text("20M")
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, log)
        os.lseek(log, 0, os.SEEK_END)
        before = _killed()
        _ends(fork(container, eat))
        counters = {
            "/" + str(path.relative_to(pod.parent)): {
                "memory.oom_control": _keyed(path / "memory.oom_control")["oom_kill"]
            }
            for path in (pod, container)
        }
        return {"node": _killed() - before, "cgroups": counters, "records": _records(log)}


def _inside(shape: str) -> None:
    with contextlib.ExitStack() as stack:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, log)
        os.lseek(log, 0, os.SEEK_END)
        before = _killed()
        records = ""
        cgroups = []
        for cgroup in SHAPES[shape]():
            # The buffer of such a small machine overruns within a dozen kills.
            records += _records(log)
            cgroups.append(cgroup)
        counters = {
            "/" + str(path.relative_to(ROOT)): {
                name: _keyed(path / name).get("oom_kill") for name in ("memory.events", "memory.events.local")
            }
            for path in cgroups
        }
        told = {"node": _killed() - before, "cgroups": counters, "records": records}
    json.dump(told, sys.stdout)


def _records(log: int) -> str:
    records = []
    with contextlib.suppress(BlockingIOError):
        while True:
            records.append(os.read(log, 8192).decode())
    return "".join(records)


def _without_addresses(text: str) -> str:
    """Leave out what belongs to one machine: its build, the registers and the addresses of the stack."""
    text = re.sub(r"(tainted \d+\.\d+\.\d+)\S*", r"\1", text)
    text = re.sub(r"(?m)^.*;(RIP|Code|R..|EFLAGS): .*\n", "", text)
    return re.sub(r"\b[0-9a-f]{8,16}\b(?=[ \]:])", "0", text)


def _killed() -> int:
    return _keyed(Path("/proc/vmstat"))["oom_kill"]


def _keyed(path: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def _make(name: str, **settings: str) -> Path:
    path = ROOT / name
    path.mkdir()
    for knob, value in settings.items():
        (path / knob.replace("_", ".")).write_text(value)
    return path


def fork(cgroup: Path, act: Callable[[], None], name: bytes = b"hog") -> int:
    """Run ``act`` in a child that lives in ``cgroup``, under ``name``."""
    pid = os.fork()
    if not pid:
        (cgroup / "cgroup.procs").write_text("0")
        Path("/proc/self/comm").write_bytes(name)
        act()
        os._exit(0)
    return pid


def eat(megabytes: int = 64) -> None:
    """Touch every page of so much memory."""
    eaten = bytearray()
    for _ in range(megabytes):
        eaten += b"x" * _MEGABYTE


def _wait_and_be_killed() -> None:
    signal.pause()


def _ends(pid: int) -> None:
    os.waitpid(pid, 0)


def _single() -> Iterator[Path]:
    cgroup = _make("cgwtest-single", memory_max="20M")
    _ends(fork(cgroup, eat))
    yield cgroup


def _child_only() -> Iterator[Path]:
    cgroup = _make("cgwtest-child", memory_max="20M")

    def main_process() -> None:
        _ends(fork(cgroup, eat, b"child"))

    _ends(fork(cgroup, main_process, b"main"))
    yield cgroup


def _group() -> Iterator[Path]:
    cgroup = _make("cgwtest-group", memory_max="30M", memory_oom_group="1")
    waiting = [fork(cgroup, _wait_and_be_killed, b"member") for _ in range(3)]
    _ends(fork(cgroup, eat))
    for pid in waiting:
        _ends(pid)
    yield cgroup


def _parent_limit() -> Iterator[Path]:
    pod = _make("cgwtest-pod", memory_max="20M")
    (pod / "cgroup.subtree_control").write_text("+memory")
    container = _make("cgwtest-pod/container")
    _ends(fork(container, eat))
    yield pod
    yield container


def _burst() -> Iterator[Path]:
    for number in range(30):
        cgroup = _make(f"cgwtest-burst-{number}", memory_max="12M")
        _ends(fork(cgroup, eat))
        yield cgroup


def _odd_names() -> Iterator[Path]:
    names = [b"a,b=c,task=d", b"x) total-vm:1kB", b"new\nline", b"back\\slash", b"\xff\xfe", b" , ", b"(())"]
    for number, name in enumerate(names):
        cgroup = _make(f"cgwtest,task_memcg=a,task=b,pid=1 {number}", memory_max="12M")
        _ends(fork(cgroup, eat, name))
        yield cgroup


def _long_path() -> Iterator[Path]:
    path = ROOT / ("cgwtest-" + "a" * 150)
    path.mkdir()
    for letter in "bcde":
        (path / "cgroup.subtree_control").write_text("+memory")
        path /= letter * 150
        path.mkdir()
    (path / "memory.max").write_text("12M")
    _ends(fork(path, eat))
    yield path


def _whole_node() -> Iterator[Path]:
    cgroup = _make("cgwtest-free")
    _ends(fork(cgroup, lambda: eat(1024)))
    yield cgroup


SHAPES: dict[str, Callable[[], Iterator[Path]]] = {
    "single": _single,
    "child_only": _child_only,
    "group": _group,
    "parent_limit": _parent_limit,
    "burst": _burst,
    "odd_names": _odd_names,
    "long_path": _long_path,
    "whole_node": _whole_node,
}

if __name__ == "__main__":
    main()
