"""A second kernel in seconds: User Mode Linux, a process with the machine's own file system as root.

Inside there is cgroup v2 with every controller that kernel has, this checkout and this Python.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.real import wide
from tests.real.dockerd import RealKernelError, root_available

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]

_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mkdir -p /run/tmp /run/lock
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done
mkdir /sys/fs/cgroup/init
echo 0 > /sys/fs/cgroup/init/cgroup.procs
ip link set lo up
for module in $(find /usr/lib/uml/modules -path "*/$(uname -r)/*" -name veth.ko); do
    busybox insmod "$module"
done
if [ -b /dev/ubda ]; then
    mkdir /run/disk
    mkfs.ext4 -q /dev/ubda && mount /dev/ubda /run/disk
fi
/bin/sh {exchange}/command.sh
busybox poweroff -f
"""

_COMMAND = """\
cd {directory}
env -i {environment} {command} < /dev/null > {exchange}/output 2>&1
echo $? > {exchange}/status
sync
"""


class Finished(msgspec.Struct, frozen=True):
    """How a command inside a machine ended: its exit status, and stdout and stderr as one text."""

    status: int
    output: str


def uml_available() -> str | None:
    """Say why User Mode Linux cannot be booted here; None when it can."""
    if reason := root_available():
        return reason
    commands = {"linux.uml": "user-mode-linux", "busybox": "busybox-static", "ip": "iproute2"}
    missing = sorted(package for name, package in commands.items() if not shutil.which(name))
    return f"needs the Debian packages {', '.join(missing)}" if missing else wide.missing()


def run_in_uml(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    memory: str = "2G",
    disk_megabytes: int = 0,
    deadline_seconds: float = 120,
) -> Finished:
    """Boot, run ``command`` in the checkout as root on cgroup v2, and power off.

    The command runs in the cgroup /init, as the root cgroup has no limits that Docker could learn from.
    The root file system is the machine's own and writable; /run (with TMPDIR in it), /dev and /sys are the
    guest's, and with ``disk_megabytes`` there is an empty ext4 on a block device at /run/disk.
    RealKernelError, with the console's last lines, when no status came back by the deadline.
    """
    with tempfile.TemporaryDirectory(prefix="cgwtest-uml-") as name:
        exchange = Path(name)
        write_command(exchange, command, environment or {})
        init = exchange / "init.sh"
        init.write_text(_INIT.format(exchange=shlex.quote(name)))
        init.chmod(0o755)
        extra = ["rw"]
        if disk_megabytes:
            extra.append(make_disk(exchange, disk_megabytes))
        console = boot(
            exchange, Path("/"), str(init), *extra, memory=memory, deadline_seconds=deadline_seconds
        )
        return read_result(exchange, console)


def write_command(exchange: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Write ``command.sh``, which runs ``command`` and leaves ``output`` and ``status`` beside itself."""
    settings = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/run/tmp",
        "TMPDIR": "/run/tmp",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    text = _COMMAND.format(
        directory=shlex.quote(str(CHECKOUT)),
        environment=shlex.join(f"{name}={value}" for name, value in settings.items()),
        command=shlex.join(command),
        exchange=shlex.quote(str(exchange)),
    )
    (exchange / "command.sh").write_text(text)


def make_disk(exchange: Path, megabytes: int) -> str:
    """Make a sparse disk image, and give the kernel argument that attaches it as /dev/ubda."""
    image = exchange / "disk"
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    return f"ubd0={image}"


def boot(exchange: Path, root: Path, init: str, *extra: str, memory: str, deadline_seconds: float) -> str:
    """Run the machine until it powers itself off or the deadline kills it; give what its console said.

    ``extra`` goes to the kernel's command line, after ``root`` (a folder of this machine) and ``init``.
    """
    arguments = [
        "linux.uml",
        f"mem={memory}",
        f"uml_dir={exchange}/",
        "root=/dev/root",
        "rootfstype=hostfs",
        f"rootflags={root}",
        f"init={init}",
        "con=null",
        "con0=null,fd:1",
        *extra,
    ]
    console = exchange / "console"
    with console.open("wb") as sink:
        process = subprocess.Popen(
            arguments,
            env={**os.environ, **wide.preload(exchange)},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            with console.open("ab") as note:
                note.write(f"\n(killed after {deadline_seconds} s)\n".encode())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return console.read_text(errors="replace")


def read_result(exchange: Path, console: str) -> Finished:
    """Read what ``command.sh`` left behind; RealKernelError when the machine ended without a status."""
    output = exchange / "output"
    text = output.read_text(errors="replace") if output.exists() else ""
    try:
        status = int((exchange / "status").read_text())
    except (OSError, ValueError):
        tail = "\n".join(console.splitlines()[-30:])
        raise RealKernelError(f"the machine left no exit status; output:\n{text}\nconsole:\n{tail}") from None
    return Finished(status, text)
