"""Containers by runc alone: what the shims of containerd and CRI-O do, without an API in front of it.

For a kernel all that they differ in is with which cgroup, limits and namespaces they call ``runc run``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.real.dockerd import RealKernelError, busybox_tar
from tests.real.leftovers import wait_until

if TYPE_CHECKING:
    from types import TracebackType

READY = "ready"
"""The last word of a work that does something before it sleeps."""
_NAMESPACES = ("ipc", "mount", "pid", "uts")
_MOUNTS = (("proc", "/proc"), ("tmpfs", "/dev"), ("tmpfs", "/dev/shm"))  # noqa: S108 - a mount point, in there


def identity_of(name: str) -> str:
    """Give the id of a container: one name has the same 64 digits in each run."""
    return hashlib.sha256(name.encode()).hexdigest()


class Runc:
    """runc with one root file system for all containers, as a context manager that removes them.

    With ``systemd`` the ``cgroup`` of a container is "slice:prefix:id" and systemd makes the scope.
    """

    def __init__(self, *, systemd: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cgwtest-runc-"))
        self._command = [
            "runc",
            f"--root={self.folder / 'state'}",
            *(["--systemd-cgroup"] if systemd else []),
        ]
        self._started: set[str] = set()

    def __enter__(self) -> Self:
        rootfs = self.folder / "rootfs"
        rootfs.mkdir()
        subprocess.run(["tar", "-x", "-C", str(rootfs)], input=busybox_tar(), check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for identity in list(self._started):
            self.delete(identity)
        shutil.rmtree(self.folder)

    def run(
        self,
        identity: str,
        work: str,
        *,
        cgroup: str,
        resources: dict[str, Any],
        network: str | None = None,
        disk: Path | None = None,
    ) -> int:
        """Start a container, and give its pid once it has said ``READY``.

        ``network`` is the path of a network namespace: an empty one means a new one, None the host's.
        """
        bundle = self.folder / identity
        bundle.mkdir()
        (bundle / "config.json").write_text(
            json.dumps(
                {
                    "ociVersion": "1.0.2",
                    "process": {
                        "user": {"uid": 0, "gid": 0},
                        "args": ["sh", "-c", work],
                        "env": ["PATH=/bin"],
                        "cwd": "/",
                    },
                    "root": {"path": str(self.folder / "rootfs")},
                    "mounts": _mounts(disk),
                    "linux": {
                        "cgroupsPath": cgroup,
                        "resources": resources,
                        "namespaces": _namespaces(network),
                    },
                }
            )
        )
        self._started.add(identity)
        self._call("run", "--detach", f"--bundle={bundle}", f"--pid-file={bundle / 'pid'}", identity)
        pid = int((bundle / "pid").read_text())
        if not wait_until(lambda: READY in self._log(identity), 60):
            raise RealKernelError(f"no {READY!r} after 60 s from {work}\n{self._log(identity)}")
        return pid

    def delete(self, identity: str) -> None:
        """Kill a container and forget it; its cgroup is gone as well."""
        self._call("delete", "--force", identity)
        self._started.remove(identity)
        shutil.rmtree(self.folder / identity)

    def _log(self, identity: str) -> str:
        return (self.folder / identity / "log").read_text(errors="replace")

    def _call(self, verb: str, *args: str) -> None:
        # What runc starts inherits the streams, and would keep a pipe open.
        log = self.folder / args[-1] / "log"
        with log.open("ab") as sink:
            done = subprocess.run(
                [*self._command, verb, *args],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                timeout=120,
                check=False,
            )
        if done.returncode:
            raise RealKernelError(f"runc {verb}: {log.read_text(errors='replace')}")


def _mounts(disk: Path | None) -> list[dict[str, Any]]:
    kinds = list(_MOUNTS)
    if "\thugetlbfs\n" in Path("/proc/filesystems").read_text():
        kinds.append(("hugetlbfs", "/dev/hugepages"))
    mounts: list[dict[str, Any]] = [
        {"destination": place, "type": kind, "source": kind} for kind, place in kinds
    ]
    if disk is not None:
        mounts.append({"destination": "/disk", "type": "bind", "source": str(disk), "options": ["rbind"]})
    return mounts


def _namespaces(network: str | None) -> list[dict[str, str]]:
    namespaces = [{"type": kind} for kind in _NAMESPACES]
    if network is not None:
        namespaces.append({"type": "network", **({"path": network} if network else {})})
    return namespaces
