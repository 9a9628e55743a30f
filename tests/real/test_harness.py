from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real import leftovers
from tests.real.capture import capture
from tests.real.dockerd import IMAGE, Dockerd, RealKernelError, inside_uml
from tests.real.needs import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.uml import Finished

OOM = """
set -e
cd /sys/fs/cgroup
mkdir cgwtest-oom
echo 20M > cgwtest-oom/memory.max
sh -c 'echo 0 > cgwtest-oom/cgroup.procs; exec busybox tail /dev/zero' || echo "tail: $?"
grep . cgwtest-oom/memory.events
rmdir cgwtest-oom
"""
SCOPE = f"""
set -e
readlink /proc/1/exe
cat /proc/1/comm
{sys.executable} -c '
from tests.real.dockerd import IMAGE, Docker
from tests.real.systemd_machine import SOCKET
docker = Docker(SOCKET)
docker.wait_until_ready()
docker.import_image()
print("container", docker.run(IMAGE, "sleep", "1000"))
'
echo /sys/fs/cgroup/system.slice/docker-*.scope
systemctl is-active docker.service
"""


def cgroups_named(name: str) -> list[Path]:
    return [place for mount in leftovers.cgroup_mounts() for place in mount.rglob(f"*{name}*")]


def test_a_missing_runtime_skips_the_test_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("CGWATCH_REQUIRE_REAL", raising=False)
    require(None)
    with pytest.raises(pytest.skip.Exception, match="needs the Debian package x"):
        require("needs the Debian package x")


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("CGWATCH_REQUIRE_REAL", "1")])
def test_a_missing_runtime_is_a_failure_where_real_kernels_are_required(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(pytest.fail.Exception, match="this test needs the Debian package x"):
        require("needs the Debian package x")


@pytest.mark.real
def test_a_docker_container_shows_in_every_hierarchy_of_the_cgroup_tree(docker: Dockerd) -> None:
    container = docker.run("--memory=32m", IMAGE, "sleep", "1000")
    places = cgroups_named(container)
    assert len(places) == len(leftovers.cgroup_mounts())
    pid = docker.docker("inspect", "--format={{.State.Pid}}", container)
    assert {(place / "cgroup.procs").read_text().strip() for place in places} == {pid}
    docker.docker("rm", "--force", container)
    assert cgroups_named(container) == []


@pytest.mark.real
def test_a_container_outlives_a_daemon_that_is_killed_or_restarted(docker: Dockerd) -> None:
    container = docker.run(IMAGE, "sleep", "1000")
    docker.kill()
    assert not docker.answers()
    assert cgroups_named(container)
    docker.restart()
    docker.restart()
    assert docker.docker("inspect", "--format={{.State.Running}} {{.RestartCount}}", container) == "true 0"
    docker.docker("rm", "--force", container)


@pytest.mark.real
def test_a_paused_daemon_does_not_answer_until_it_is_resumed(docker: Dockerd) -> None:
    docker.pause_daemon()
    assert not docker.answers()
    docker.resume_daemon()
    docker.wait_until_ready()


@pytest.mark.real
@pytest.mark.usefixtures("docker")
def test_a_private_daemon_leaves_nothing_behind_even_when_it_was_killed() -> None:
    with Dockerd(cgroup_parent="/cgwtest-harness") as daemon:
        container = daemon.run(IMAGE, "sleep", "1000")
        assert len(cgroups_named("cgwtest-harness")) == len(leftovers.cgroup_mounts())
        daemon.kill()
    assert leftovers.daemons_naming(str(daemon.directory)) == []
    assert str(daemon.directory) not in Path("/proc/self/mountinfo").read_text()
    assert cgroups_named("cgwtest-harness") == []
    assert cgroups_named(container) == []
    assert not daemon.directory.exists()


@pytest.mark.real
def test_a_refused_docker_command_says_what_docker_said(docker: Dockerd) -> None:
    with pytest.raises(RealKernelError, match=r"inspect nobody: .*No such object"):
        docker.docker("inspect", "nobody")


@pytest.mark.real
def test_a_capture_holds_the_container_its_ancestors_and_its_processes(
    docker: Dockerd, tmp_path: Path
) -> None:
    container = docker.run(IMAGE, "sleep", "1000")
    pid = docker.docker("inspect", "--format={{.State.Pid}}", container)
    capture(tmp_path, [f"/docker/{container}"])
    copies = {place.parent for place in (tmp_path / "cgroup").rglob("cgroup.procs")}
    assert {place.name for place in copies} >= {"docker", container}
    (pids,) = {(place / "cgroup.procs").read_text() for place in copies if place.name == container}
    assert pids == f"{pid}\n"
    assert (tmp_path / "proc" / pid / "ns/net").readlink() == Path(f"/proc/{pid}/ns/net").readlink()
    assert "cgroup" in (tmp_path / "proc/self/mountinfo").read_text()
    docker.docker("rm", "--force", container)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_user_mode_linux_has_cgroup_v2_and_counts_an_oom_kill(uml: Callable[..., Finished]) -> None:
    finished = uml(["sh", "-c", OOM])
    assert finished.status == 0, finished.output
    assert "tail: 137" in finished.output
    assert "oom_kill 1" in finished.output.splitlines()


@pytest.mark.real
@pytest.mark.timeout(600)
def test_docker_runs_inside_user_mode_linux(uml: Callable[..., Finished]) -> None:
    assert not inside_uml()
    name = test_a_docker_container_shows_in_every_hierarchy_of_the_cgroup_tree.__name__
    finished = uml([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::{name}"])
    assert finished.status == 0, finished.output
    assert "1 passed" in finished.output


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_exit_status_and_the_deadline_of_a_command_in_user_mode_linux_come_out(
    uml: Callable[..., Finished],
) -> None:
    assert uml(["sh", "-c", "echo said; exit 3"]).status == 3
    with pytest.raises(RealKernelError, match=r"killed after 6 s"):
        uml(["sleep", "1000"], deadline_seconds=6)


@pytest.mark.real
@pytest.mark.timeout(600)
def test_the_systemd_machine_puts_a_container_into_a_scope(systemd_machine: Callable[..., Finished]) -> None:
    finished = systemd_machine(["sh", "-c", SCOPE])
    assert finished.status == 0, finished.output
    assert "systemd" in finished.output.splitlines()
    (container,) = (line.split()[1] for line in finished.output.splitlines() if line.startswith("container "))
    assert f"/sys/fs/cgroup/system.slice/docker-{container}.scope" in finished.output.splitlines()
    assert "active" in finished.output.splitlines()
