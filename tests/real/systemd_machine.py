"""A small Debian with systemd as process 1 and Docker on the systemd cgroup driver, on cgroup v2.

Its root folder is built once with debootstrap and booted read-only as User Mode Linux, so machines can run
side by side. The command runs as a service of that systemd, with this machine's file system as its root.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.dockerd import RealKernelError
from tests.real.uml import Finished, boot, make_disk, read_result, uml_available, write_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOCKET = Path("/run/docker.sock")
_PACKAGES = ("systemd", "systemd-sysv", "libpam-systemd", "dbus", "docker.io")
_DAEMON = {
    "bridge": "none",
    "exec-opts": ["native.cgroupdriver=systemd"],
    "iptables": False,
    "live-restore": True,
    "storage-driver": "vfs",
}
# Process 1 until the folder of this very run can be reached; the kernel hands cgwatch_exchange over.
_INIT = """\
#!/bin/sh
mount -t proc proc /proc
mount -t hostfs hostfs /host -o /
. "/host$cgwatch_exchange/prepare.sh"
exec /lib/systemd/systemd
"""
_PREPARE = """\
for folder in /run /tmp /var /etc/docker; do
    mount -t tmpfs tmpfs $folder
done
mkdir -p /run/tmp /run/disk /run/systemd/system/multi-user.target.wants
cp "/host$cgwatch_exchange/daemon.json" /etc/docker/daemon.json
cp "/host$cgwatch_exchange/cgwatch-test.service" /run/systemd/system/
cd /run/systemd/system
ln -s ../cgwatch-test.service multi-user.target.wants/
ln -s /lib/systemd/system/user@.service multi-user.target.wants/user@0.service
for unit in getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer; do
    ln -s /dev/null $unit
done
for module in $(find /host/usr/lib/uml/modules -path "*/$(uname -r)/*" -name veth.ko); do
    /host/usr/bin/busybox insmod "$module"
done
[ -b /dev/ubda ] && mkfs.ext4 -q /dev/ubda && mount /dev/ubda /run/disk
cd /
"""
_UNIT = """\
[Unit]
Description=The command under test
Wants=docker.service user@0.service
After=docker.service user@0.service
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
Type=oneshot
RootDirectory=/host
MountAPIVFS=yes
BindPaths=/run
ExecStart=/bin/sh {exchange}/command.sh
"""


def systemd_machine_available() -> str | None:
    """Say why the machine can be neither built nor booted here; None when it can."""
    if reason := uml_available():
        return reason
    if (cache_folder() / "systemd" / "built").exists() or shutil.which("debootstrap"):
        return None
    return "needs the Debian package debootstrap"


def cache_folder() -> Path:
    """Where the root folder is kept between runs: $CGWATCH_TEST_CACHE, or ~/.cache/cgwatch-tests."""
    return Path(os.environ.get("CGWATCH_TEST_CACHE") or Path.home() / ".cache/cgwatch-tests").resolve()


def run_in_systemd_machine(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    memory: str = "2G",
    disk_megabytes: int = 0,
    deadline_seconds: float = 240,
) -> Finished:
    """Boot, run ``command`` in the checkout as a root service, once Docker is up, and power off.

    Docker listens on ``SOCKET``. /run (with TMPDIR in it, systemd's and D-Bus's sockets, and with
    ``disk_megabytes`` an empty ext4 at /run/disk) is the guest's; all else is this machine's, and writable.
    The first call builds the root folder. RealKernelError when no status came back by the deadline.
    """
    root = build_root()
    with tempfile.TemporaryDirectory(prefix="cgwtest-systemd-") as name:
        exchange = Path(name)
        # For systemctl, which sees that its root is not that of process 1 and would refuse to talk to it.
        write_command(exchange, command, {"SYSTEMD_IGNORE_CHROOT": "1", **(environment or {})})
        (exchange / "prepare.sh").write_text(_PREPARE)
        (exchange / "daemon.json").write_text(json.dumps(_DAEMON))
        (exchange / "cgwatch-test.service").write_text(_UNIT.format(exchange=exchange))
        extra = ["ro", f"cgwatch_exchange={exchange}", "systemd.show_status=yes"]
        if disk_megabytes:
            extra.append(make_disk(exchange, disk_megabytes))
        init = "/sbin/cgwatch-init"
        console = boot(exchange, root, init, *extra, memory=memory, deadline_seconds=deadline_seconds)
        return read_result(exchange, console)


def build_root() -> Path:
    """Give the machine's root folder; build it if the cache has none (about a minute)."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "systemd"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "built").exists():
            shutil.rmtree(root, ignore_errors=True)
            _debootstrap(root)
            (root / "host").mkdir()
            init = root / "sbin/cgwatch-init"
            init.write_text(_INIT)
            init.chmod(0o755)
            (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
            (root / "etc/hostname").write_text("cgwatch-test\n")
            (root / "built").touch()
    return root


def _debootstrap(root: Path) -> None:
    codename, mirror = _own_release()
    packages = ",".join(_PACKAGES)
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", codename, str(root), mirror]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        shutil.rmtree(root, ignore_errors=True)
        raise RealKernelError(f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()


def _own_release() -> tuple[str, str]:
    """Ask apt which release this machine runs, and where it is told to fetch it from."""
    lines = Path("/etc/os-release").read_text().splitlines()
    codename = dict(line.partition("=")[::2] for line in lines).get("VERSION_CODENAME", "").strip('"')
    query = ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"]
    targets = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    for target in targets:
        release, mirror = target.split(" ", 1)
        if release == codename:
            return codename, mirror
    raise RealKernelError(f"apt has no source for the release {codename!r}: see apt-get indextargets")
