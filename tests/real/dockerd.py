"""A Docker daemon of our own: nothing of it is shared with the machine's, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.real import leftovers

if TYPE_CHECKING:
    from types import TracebackType

IMAGE = "cgwatch-test:1"
_KEY = Path("/etc/docker/key.json")
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


class RealKernelError(Exception):
    """The harness could not bring up what a test asked for; the message ends with the log."""


def root_available() -> str | None:
    """Say why this process cannot make cgroups and start daemons; None when it can."""
    return None if os.geteuid() == 0 else "needs root, to make cgroups and to start daemons"


def docker_available() -> str | None:
    """Say why no private Docker daemon can run here; None when it can."""
    if reason := root_available():
        return reason
    commands = {"dockerd": "docker.io", "docker": "docker.io", "busybox": "busybox-static"}
    missing = sorted({package for name, package in commands.items() if not shutil.which(name, path=_SEARCH)})
    return f"needs the Debian packages {', '.join(missing)}" if missing else None


def inside_uml() -> bool:
    """Tell whether this kernel is User Mode Linux."""
    return "User Mode Linux" in Path("/proc/cpuinfo").read_text()


class Docker:
    """A Docker daemon that listens on ``socket``, spoken to by its own command line."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.url = f"unix://{socket}"

    def docker(self, *args: str, stdin: bytes | None = None, timeout_seconds: float = 120) -> str:
        """Run one docker command and give its standard output, stripped."""
        environment = {**os.environ, "DOCKER_HOST": self.url, "DOCKER_CONFIG": "/nonexistent"}
        done = subprocess.run(
            ["docker", *args],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=timeout_seconds,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise RealKernelError(f"docker {' '.join(args)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode().strip()

    def run(self, *args: str) -> str:
        """Start a container in the background (``docker run --detach``) and give its full id."""
        return self.docker("run", "--detach", *args)

    def import_image(self) -> None:
        """Make ``IMAGE`` from the machine's static busybox, with a symlink for each applet."""
        self.docker("import", "-", IMAGE, stdin=busybox_tar())

    def wait_until_ready(self, deadline_seconds: float = 60) -> None:
        """Wait for the daemon to answer a ping; RealKernelError when it has not by then."""
        deadline = time.monotonic() + deadline_seconds
        while not self.answers():
            self._check_alive()
            if time.monotonic() > deadline:
                raise RealKernelError(
                    f"{self.url} does not answer after {deadline_seconds} s{self._log_tail()}"
                )
            time.sleep(0.05)

    def answers(self) -> bool:
        """Ask ``/_ping`` once."""
        connection = http.client.HTTPConnection("docker")
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(2)
        try:
            channel.connect(str(self.socket))
            connection.sock = channel
            connection.request("GET", "/_ping")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
            channel.close()

    def _check_alive(self) -> None:
        """Nothing is known of a daemon that somebody else started."""

    def _log_tail(self) -> str:
        return ""


class Dockerd(Docker):
    """A private dockerd with a containerd of its own, as a context manager.

    ``cgroup_parent`` is the cgroup that new containers go below (``/docker`` if None, a slice with systemd);
    ``systemd_cgroup_driver`` lets systemd make the cgroups, and needs a systemd that runs as process 1.
    Containers outlive the daemon (``--live-restore``), so it can be killed and restarted under them.
    """

    def __init__(self, *, cgroup_parent: str | None = None, systemd_cgroup_driver: bool = False) -> None:
        # A unix socket's path may have 107 bytes, so the name is short.
        self.directory = Path(tempfile.mkdtemp(prefix="cgwtest-"))
        super().__init__(self.directory / "docker.sock")
        self.log = self.directory / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroups = leftovers.missing_cgroups(cgroup_parent or "/docker")
        # dockerd writes its key there, whatever its own directories are.
        self._traces = [path for path in (_KEY, _KEY.parent) if not path.exists()]
        config = self.directory / "daemon.json"
        config.write_text(json.dumps({}))
        self._command = [
            shutil.which("dockerd", path=_SEARCH) or "dockerd",
            f"--config-file={config}",
            f"--host={self.url}",
            f"--data-root={self.directory / 'data'}",
            f"--exec-root={self.directory / 'exec'}",
            f"--pidfile={self.directory / 'dockerd.pid'}",
            f"--storage-driver={'vfs' if inside_uml() else 'overlay2'}",
            "--iptables=false",
            "--bridge=none",
            "--live-restore",
        ]
        if cgroup_parent is not None:
            self._command.append(f"--cgroup-parent={cgroup_parent}")
        if systemd_cgroup_driver:
            self._command.append("--exec-opt=native.cgroupdriver=systemd")

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        if self._process is None:
            raise RealKernelError("dockerd does not run: call start() or restart() first")
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
            self.import_image()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": _SEARCH},
                start_new_session=True,
            )
        self.wait_until_ready()

    def pause_daemon(self) -> None:
        """SIGSTOP, and wait until every thread stands: the socket accepts, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        if not leftovers.wait_until(lambda: set(leftovers.thread_states(self.pid)) == {"T"}, 10):
            raise RealKernelError(f"dockerd, process {self.pid}, does not stop on SIGSTOP")

    def resume_daemon(self) -> None:
        """SIGCONT, after ``pause_daemon``."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to the daemon alone; the containers go on."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Stop the daemon in good order; the containers go on."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """End the daemon if it runs, and start it with the same state and the same socket."""
        self.terminate()
        self.start()

    def stop(self) -> None:
        """Remove the containers, end the daemon and take away everything that it made."""
        try:
            if self._process is not None:
                self.resume_daemon()
            elif self.log.exists():
                self.start()
            containers = self.docker("ps", "--all", "--quiet").split() if self._process else []
            if containers:
                self.docker("rm", "--force", *containers)
        finally:
            self.terminate()
            leftovers.end_daemons_naming(f"{self.directory}/")
            leftovers.end_containers(place.name for place in self.directory.glob("data/containers/*"))
            leftovers.unmount_below(self.directory)
            leftovers.remove_cgroups(self._cgroups)
            shutil.rmtree(self.directory, ignore_errors=True)
            for path in self._traces:
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        # Its containerd dies with it. Where process 1 is slow to reap it, the next dockerd would take the
        # zombie for a running containerd, and wait for it in vain.
        containerd = self.directory / "exec/containerd"
        leftovers.end_daemons_naming(f"{containerd}/containerd.toml")
        (containerd / "containerd.pid").unlink(missing_ok=True)

    def _check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            status, self._process = self._process.returncode, None
            raise RealKernelError(f"dockerd ended with status {status}{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n" + "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def busybox_tar() -> bytes:
    """Give a root file system: one static binary, and an applet's name for each thing it can be."""
    busybox = shutil.which("busybox", path=_SEARCH) or "busybox"
    applets = subprocess.run([busybox, "--list"], capture_output=True, check=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        tar.add(busybox, "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return buffer.getvalue()
