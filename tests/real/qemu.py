"""A whole Debian kernel: QEMU without KVM, with the machine's own file system as root (9p).

Slower than User Mode Linux (half a minute instead of seconds), and it has what that kernel lacks: two CPUs,
cpuset, hugetlb, pressure stall information, and a disk behind virtio.
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.dockerd import RealKernelError, root_available
from tests.real.systemd_machine import cache_folder
from tests.real.uml import Finished, read_result, write_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PACKAGE = "linux-image-amd64"
_MODULES = ("virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "crc32c_generic", "ext4", "veth")
_EARLY_INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir /host /proc
/bin/busybox mount -t proc proc /proc
for module in {modules}; do
    /bin/busybox insmod /modules/$module.ko
done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host
exchange=$(/bin/busybox sed 's/.*cgwatch_exchange=\\([^ ]*\\).*/\\1/' /proc/cmdline)
/bin/busybox umount /proc
exec /bin/busybox switch_root /host "$exchange/init.sh"
"""
_INIT = """\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mkdir -p /run/tmp /run/lock /run/disk
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done
mkdir /sys/fs/cgroup/init
echo 0 > /sys/fs/cgroup/init/cgroup.procs
ip link set lo up
mkfs.ext4 -q /dev/vda && mount /dev/vda /run/disk
/bin/sh {exchange}/command.sh
busybox poweroff -f
"""


def qemu_available() -> str | None:
    """Say why QEMU cannot boot Debian's kernel here; None when it can."""
    if reason := root_available():
        return reason
    commands = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "ip": "iproute2"}
    missing = sorted(package for name, package in commands.items() if not shutil.which(name))
    return f"needs the Debian packages {', '.join(missing)}" if missing else None


def run_in_qemu(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    memory: str = "1G",
    disk_megabytes: int = 64,
    deadline_seconds: float = 400,
) -> Finished:
    """Boot, run ``command`` in the checkout as root on cgroup v2, and power off: ``run_in_uml``'s twin.

    TMPDIR is on a disk of its own. The first call downloads the kernel's package with apt. RealKernelError,
    with the console's last lines, when no status came back by the deadline.
    """
    kernel = fetch_kernel()
    with tempfile.TemporaryDirectory(prefix="cgwtest-qemu-") as name:
        exchange = Path(name)
        write_command(exchange, command, {"TMPDIR": "/run/disk", **(environment or {})})
        init = exchange / "init.sh"
        init.write_text(_INIT.format(exchange=shlex.quote(name)))
        init.chmod(0o755)
        image = exchange / "disk"
        with image.open("wb") as file:
            file.truncate(disk_megabytes << 20)
        initramfs = exchange / "initramfs"
        initramfs.write_bytes(gzip.compress(_initramfs(kernel), 1))
        (vmlinuz,) = kernel.glob("boot/vmlinuz-*")
        arguments = [
            *("qemu-system-x86_64", "-accel", "tcg", "-smp", "2", "-m", memory, "-nographic", "-no-reboot"),
            *("-nic", "none", "-kernel", str(vmlinuz), "-initrd", str(initramfs)),
            *("-append", f"console=ttyS0 panic=-1 quiet cgwatch_exchange={name}"),
            *("-virtfs", "local,path=/,mount_tag=host,security_model=none,multidevs=remap"),
            *("-drive", f"file={image},if=virtio,format=raw"),
        ]
        console = exchange / "console"
        with console.open("wb") as sink:
            try:
                subprocess.run(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    check=False,
                    timeout=deadline_seconds,
                )
            except subprocess.TimeoutExpired:
                sink.write(f"\n(killed after {deadline_seconds} s)\n".encode())
        return read_result(exchange, console.read_text(errors="replace"))


def fetch_kernel() -> Path:
    """Give a folder with ``boot`` and ``lib/modules`` of Debian's kernel; fill it if the cache has none."""
    target = cache_folder() / "kernel"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=target.parent) as name:
        depends = subprocess.run(
            ["apt-cache", "depends", _PACKAGE], check=True, capture_output=True, text=True
        )
        package = re.search(r"Depends: (linux-image-\S+)", depends.stdout)
        if package is None:
            raise RealKernelError(f"apt-cache does not say which kernel {_PACKAGE} is: {depends.stdout}")
        subprocess.run(["apt-get", "download", package[1]], check=True, capture_output=True, cwd=name)
        (archive,) = Path(name).glob("*.deb")
        unpacked = Path(name) / "unpacked"
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(unpacked)], check=True)
        unpacked.rename(target)
    return target


def _initramfs(kernel: Path) -> bytes:
    """Make the first root: busybox, the modules that reach the real one, and a script."""
    places = {place.stem: place for place in kernel.glob("lib/modules/*/kernel/**/*.ko")}
    modules: dict[str, bytes] = {}
    for name in _MODULES:
        _add_module(name, places, modules)
    files = [("bin/busybox", Path(shutil.which("busybox") or "busybox").read_bytes())]
    files += [(f"modules/{name}.ko", data) for name, data in modules.items()]
    files.append(("init", _EARLY_INIT.format(modules=" ".join(modules)).encode()))
    return b"".join(_cpio(files))


def _add_module(name: str, places: Mapping[str, Path], modules: dict[str, bytes]) -> None:
    """Add a module after those that it says it depends on; what is not there is built in."""
    place = places.get(name) or places.get(name.replace("_", "-"))
    if name in modules or place is None:
        return
    data = place.read_bytes()
    found = re.search(rb"\0depends=([^\0]*)\0", data)
    for other in found[1].decode().split(",") if found and found[1] else ():
        _add_module(other, places, modules)
    modules[name] = data


def _cpio(files: Sequence[tuple[str, bytes]]) -> Iterator[bytes]:
    """Yield an archive in cpio's "newc" format (the kernel's buffer-format.rst)."""
    folders = [(name, b"", 0o040755) for name in sorted({os.path.dirname(name) for name, _ in files} - {""})]
    plain = [(name, data, 0o100755) for name, data in files]
    for inode, (name, data, mode) in enumerate([*folders, *plain, ("TRAILER!!!", b"", 0)], start=1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        yield head + b"\0" * (-len(head) % 4)
        yield data + b"\0" * (-len(data) % 4)
