"""Capture trees anew, each in the machine that it needs: ``python -m tests.real.trees NAME...``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from tests.real.dockerd import RealKernelError
from tests.real.qemu import run_in_qemu
from tests.real.systemd_machine import SOCKET, build_root, cache_folder, run_in_systemd_machine
from tests.real.uml import CHECKOUT, Finished, run_in_uml
from tests.real.uml_v1 import run_in_uml_v1

if TYPE_CHECKING:
    from collections.abc import Callable

TREES = CHECKOUT / "tests/trees"


class Recipe(Struct, frozen=True):
    """How a tree is made: which machine boots, and what runs in it."""

    boot: Callable[..., Finished]
    module: str
    options: tuple[str, ...] = ()


def _kubernetes(boot: Callable[..., Finished], runtime: str, driver: str) -> Recipe:
    options = (f"--runtime={runtime}", f"--driver={driver}")
    return Recipe(boot, "tests.real.scenario_kubernetes", options)


def _here(command: list[str], *, environment: dict[str, str], **_options: Any) -> Finished:
    """Run natively: this machine is the one that has cgroup v1 with all of its hierarchies."""
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return Finished(done.returncode, done.stdout + done.stderr)


def _docker(boot: Callable[..., Finished], *options: str) -> Recipe:
    return Recipe(boot, "tests.real.scenario", options)


def _uml_with_a_debian(command: list[str], **options: Any) -> Finished:
    """Boot with the folder of the systemd machine in reach: there is no network in there to build it."""
    build_root()
    return run_in_uml(command, **options)


def _uml_v1_with_a_debian(command: list[str], **options: Any) -> Finished:
    """Boot the same on cgroup v1."""
    build_root()
    return run_in_uml_v1(command, **options)


RECIPES = {
    "docker_v1": _docker(_here, "--leave-out=unified"),
    "hybrid": _docker(_here),
    "docker_v2": _docker(run_in_uml, "--disk=/run/disk"),
    "systemd_v2": _docker(
        run_in_systemd_machine,
        f"--socket={SOCKET}",
        "--disk=/run/disk",
        *("--under=/init.scope", "--under=/user.slice"),
        *("--under=/system.slice/docker.service", "--under=/system.slice/docker-*.scope"),
    ),
    # Paths of systemd on a kernel that has everything: there is no systemd to make them.
    "kubernetes_containerd_v2_systemd": _kubernetes(run_in_qemu, "containerd", "systemd"),
    "kubernetes_containerd_v2_cgroupfs": _kubernetes(run_in_uml, "containerd", "cgroupfs"),
    "kubernetes_crio_v2_systemd": _kubernetes(run_in_systemd_machine, "crio", "systemd"),
    "kubernetes_crio_v2_cgroupfs": _kubernetes(run_in_uml, "crio", "cgroupfs"),
    "podman_rootless_v2": Recipe(run_in_uml, "tests.real.scenario_podman"),
    "nested_docker_v1": Recipe(_uml_v1_with_a_debian, "tests.real.scenario_nested"),
    "nested_docker_v2": Recipe(_uml_with_a_debian, "tests.real.scenario_nested"),
}


def make(name: str) -> str:
    """Capture one tree, in place of what is there, and give what the scenario printed."""
    recipe = RECIPES[name]
    environment = {"CGWATCH_TEST_TREE": name, "CGWATCH_TEST_CACHE": str(cache_folder())}
    # The machines have /tmp in common with this one. What is there stays until another one has come.
    with tempfile.TemporaryDirectory(prefix="cgwtest-tree-", dir="/tmp") as folder:
        fresh = f"{folder}/{name}"
        command = [sys.executable, "-m", recipe.module, f"--out={fresh}", *recipe.options]
        finished = recipe.boot(command, environment=environment, disk_megabytes=64)
        if finished.status:
            raise RealKernelError(f"{name}: status {finished.status}\n{finished.output}")
        shutil.rmtree(TREES / name, ignore_errors=True)
        shutil.copytree(fresh, TREES / name, symlinks=True)
    return finished.output


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(sorted(RECIPES)))
def main(names: tuple[str, ...]) -> None:
    """Capture these trees anew, one after the other."""
    for name in names:
        click.echo(make(name), nl=False)
        count = sum(1 for place in Path(TREES / name).rglob("*") if place.is_file())
        click.echo(f"{name}: {count} files")


if __name__ == "__main__":
    main()
