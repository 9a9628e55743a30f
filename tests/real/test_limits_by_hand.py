"""The verbs that change limits, as people type them, on real cgroups: with an agent, and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cgwatch.cli import cli
from tests.conftest import V1Cgroups
from tests.real.agent_process import AgentProcess
from tests.real.dockerd import IMAGE, Dockerd
from tests.real.needs import require
from tests.real.qemu import qemu_available, run_in_qemu

MIB = 1 << 20
NO_DOCKER = "unix:///nonexistent/docker.sock"
NO_LIMIT = 9223372036854771712
"""What v1 shows where there is no limit: 2^63 - 1, rounded down to a page."""

pytestmark = pytest.mark.real


class Hand:
    """Somebody who types verbs; ``docker`` is the daemon that names come from."""

    def __init__(self, directory: str, docker: str = NO_DOCKER) -> None:
        self.state_dir = f"{directory}/state"
        self.environment = {
            "CGWATCH_STATE_DIR": self.state_dir,
            "CGWATCH_LIMITS_LOCK": f"{directory}/lock",
            "CGWATCH_LIMITS_VERIFY_AFTER": "100ms",
            "CGWATCH_DISCOVERY_DOCKER_SOCKET": docker,
        }

    def type(self, *arguments: str, **environment: str) -> Result:
        """Run one verb in this process."""
        runner = CliRunner(env={**self.environment, **environment})
        return runner.invoke(cli, arguments, prog_name="cgwatch")

    def limits(self, name: str) -> Mapping[str, Any]:
        """Return what ``cgwatch limits`` says, by key."""
        result = self.type("limits", name, "--format", "json")
        assert result.exit_code == 0, result.output
        return {each["key"]: each for each in json.loads(result.stdout)["limits"]}

    def changes(self) -> list[dict[str, Any]]:
        """Return the audit log, the oldest first."""
        found: list[dict[str, Any]] = json.loads(self.type("changes", "--format", "json").stdout)
        return found[::-1]


@pytest.fixture
def directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        yield folder


@pytest.fixture(params=["with an agent", "without an agent"])
def hand(request: pytest.FixtureRequest, directory: str, v1_cgroups: V1Cgroups) -> Iterator[Hand]:
    """Somebody at a machine with a running agent, and at one without."""
    assert v1_cgroups  # it skips where there are no such cgroups
    hand = Hand(directory)
    if request.param == "without an agent":
        yield hand
        return
    with AgentProcess(NO_DOCKER, environment=hand.environment, state_dir=hand.state_dir):
        yield hand


def number(path: Path) -> int:
    return int(path.read_text())


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def everything(cgroups: V1Cgroups) -> dict[str, bytes]:
    """Read every file of our cgroups, in all hierarchies, that can be written and is not merely counted."""
    found = {}
    for root in Path("/sys/fs/cgroup").glob(f"*/{cgroups.name}"):
        for path in root.rglob("*"):
            readable_and_writable = 0o600
            mode = path.stat().st_mode & readable_and_writable
            if path.is_file() and mode == readable_and_writable and "usage" not in path.name:
                try:
                    found[str(path)] = path.read_bytes()
                except OSError as error:
                    found[str(path)] = os.strerror(error.errno or 0).encode()
    assert any(path.endswith("pids.max") for path in found)
    return found


def test_a_limit_is_set_shown_reset_and_remembered(hand: Hand, v1_cgroups: V1Cgroups) -> None:
    file = v1_cgroups.make() / "memory.limit_in_bytes"
    name = v1_cgroups.name

    result = hand.type("set-limit", name, "--memory", "64m", "--reason", "a try")

    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # the table says it all
    assert number(file) == 64 * MIB
    line = next(line for line in result.stdout.splitlines() if line.startswith("memory.max"))
    assert line.split() == ["memory.max", "max", "64MiB", "64MiB", "cgroupfs", "applied"]
    said = hand.limits(name)["memory.max"]
    assert (said["configured"], said["effective"], said["baseline"]) == (64 * MIB, 64 * MIB, "max")
    assert (said["actor"]["name"], said["reason"], said["expires_seconds"]) == ("root", "a try", None)

    assert hand.type("reset-limit", name).exit_code == 0
    assert number(file) == NO_LIMIT
    said = hand.limits(name)["memory.max"]
    assert (said["configured"], said["baseline"], said["override"]) == ("max", None, None)
    assert [
        (each["change"]["key"], each["outcome"]["read_back"], each["outcome"]["result"])
        for each in hand.changes()
    ] == [("memory.max", 64 * MIB, "applied"), ("memory.max", "max", "applied")]


def test_what_a_cgroup_above_allows_is_said_with_exit_code_1(hand: Hand, v1_cgroups: V1Cgroups) -> None:
    parent = v1_cgroups.make()
    (parent / "memory.limit_in_bytes").write_text(str(32 * MIB))
    v1_cgroups.make("below")

    result = hand.type("set-limit", f"{v1_cgroups.name}/below", "--memory", "64m")

    assert result.exit_code == 1, result.output
    assert "not effective" in result.stdout
    assert f"/{v1_cgroups.name}" in result.stdout
    assert "32MiB" in result.stdout


def test_a_limit_below_what_is_used_is_refused_with_the_numbers_and_nothing_changes(
    hand: Hand, v1_cgroups: V1Cgroups
) -> None:
    cgroup = v1_cgroups.make()
    hog = "import sys; data = bytearray(b'x' * (40 << 20)); print('full', flush=True); sys.stdin.read()"
    process = v1_cgroups.start(cgroup, command=("python3", "-c", hog))
    assert process.stdout is not None
    assert process.stdout.readline() == b"full\n"

    result = hand.type("set-limit", v1_cgroups.name, "--memory", "16m")

    assert result.exit_code == 1, result.output
    assert "refused" in result.stdout
    assert number(cgroup / "memory.limit_in_bytes") == NO_LIMIT
    assert process.poll() is None


def test_a_dry_run_shows_the_steps_and_changes_not_one_file(hand: Hand, v1_cgroups: V1Cgroups) -> None:
    for controller in ("memory", "cpu", "pids", "cpuset", "freezer", "blkio"):
        v1_cgroups.make("below", controller)
    before = everything(v1_cgroups)

    flags = ("--memory", "64m", "--pids-limit", "50", "--cpus", "0.5")
    result = hand.type("set-limit", f"{v1_cgroups.name}/below", *flags, "--dry-run")

    assert result.exit_code == 0, result.output
    assert "memory.limit_in_bytes" in result.stdout
    assert "cpu.cfs_quota_us" in result.stdout
    assert everything(v1_cgroups) == before
    assert hand.type("changes").exit_code in (1, 3)  # there is not even a row


def test_an_unknown_and_an_ambiguous_name_change_nothing(hand: Hand, v1_cgroups: V1Cgroups) -> None:
    v1_cgroups.make("one", "pids")
    v1_cgroups.make("two", "pids")
    before = everything(v1_cgroups)

    unknown = hand.type("set-limit", f"{v1_cgroups.name}-not", "--pids-limit", "5")
    assert unknown.exit_code == 3, unknown.output
    assert v1_cgroups.name in unknown.stderr
    several = hand.type("set-limit", f"/{v1_cgroups.name}/*", "--pids-limit", "5")
    assert several.exit_code == 3
    assert "can mean any of the 2 above" in several.stderr
    assert everything(v1_cgroups) == before

    every = hand.type("set-limit", f"/{v1_cgroups.name}/*", "--all", "--pids-limit", "5")
    assert every.exit_code == 0, every.output
    assert [number(v1_cgroups.path(each, "pids") / "pids.max") for each in ("one", "two")] == [5, 5]


def test_a_frozen_cgroup_stands_still_until_it_is_thawed(hand: Hand, v1_cgroups: V1Cgroups) -> None:
    v1_cgroups.make("", "pids")
    freezer = v1_cgroups.make("", "freezer")
    process = v1_cgroups.start(freezer)
    assert process.stdin is not None
    assert process.stdout is not None

    assert hand.type("freeze", v1_cgroups.name).exit_code == 0
    try:
        assert (freezer / "freezer.state").read_text() == "FROZEN\n"
    finally:
        thawed = hand.type("thaw", v1_cgroups.name)
        (freezer / "freezer.state").write_text("THAWED")
    assert thawed.exit_code == 0, thawed.output
    process.stdin.write(b"awake\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"awake\n"


def test_a_newer_cgroup_than_the_agents_last_tick_can_be_named(directory: str, v1_cgroups: V1Cgroups) -> None:
    hand = Hand(directory)
    with AgentProcess(NO_DOCKER, interval="1h", environment=hand.environment, state_dir=hand.state_dir):
        file = v1_cgroups.make("", "pids") / "pids.max"
        result = hand.type("set-limit", v1_cgroups.name, "--pids-limit", "7")
    assert result.exit_code == 0, result.output
    assert number(file) == 7


def test_the_agent_brings_back_what_was_there_when_the_time_is_over(
    directory: str, v1_cgroups: V1Cgroups
) -> None:
    file = v1_cgroups.make("", "pids") / "pids.max"
    hand = Hand(directory)
    with AgentProcess(NO_DOCKER, environment=hand.environment, state_dir=hand.state_dir):
        result = hand.type("set-limit", v1_cgroups.name, "--pids-limit", "9", "--for", "2s")
        assert result.exit_code == 0, result.output
        assert "then it is as before" in result.stdout
        assert file.read_text() == "9\n"
        eventually(lambda: file.read_text() == "max\n")
        eventually(lambda: len(hand.changes()) == 2)
        assert [each["actor"]["kind"] for each in hand.changes()] == ["command", "expiry"]


def test_where_only_reading_is_allowed_nothing_is_written(directory: str, v1_cgroups: V1Cgroups) -> None:
    v1_cgroups.make("", "pids")
    hand = Hand(directory)
    before = everything(v1_cgroups)

    for verb in (("set-limit", v1_cgroups.name, "--pids-limit", "5"), ("freeze", v1_cgroups.name)):
        result = hand.type(*verb, CGWATCH_READ_ONLY="true")
        assert result.exit_code == 1
        assert "read_only" in result.output
    assert everything(v1_cgroups) == before
    planned = hand.type(
        "set-limit", v1_cgroups.name, "--pids-limit", "5", "--dry-run", CGWATCH_READ_ONLY="true"
    )
    assert planned.exit_code == 0, planned.output

    read_only = {**hand.environment, "CGWATCH_READ_ONLY": "true"}
    with AgentProcess(NO_DOCKER, environment=read_only, state_dir=hand.state_dir):
        result = hand.type("set-limit", v1_cgroups.name, "--pids-limit", "5")
        assert result.exit_code == 1
        assert "read_only" in result.output
        assert hand.type("limits", v1_cgroups.name).exit_code == 0
    assert everything(v1_cgroups) == before


A_FRIEND = """
import encodings.idna, os, sys  # an interpreter of root's cannot import anything more later on
from cgwatch.change import Actor, ActorKind, Request
from cgwatch.control import client
from cgwatch.limits.resolve import resolve
os.setgroups([54321])
os.setgid(65534)
os.setuid(65534)
state_dir, name = sys.argv[1:]
(found,) = resolve(name, client.fetch_candidates(state_dir))
report = client.apply(state_dir, Request(found.target, {"pids.max": 8}, Actor(ActorKind.AGENT, "root", 0)))
print(*(outcome.result for outcome in report.outcomes))
"""


def test_a_member_of_the_configured_group_changes_limits_under_his_own_name(
    directory: str, v1_cgroups: V1Cgroups
) -> None:
    file = v1_cgroups.make("", "pids") / "pids.max"
    Path(directory).chmod(0o755)
    hand = Hand(directory)
    environment = {**hand.environment, "CGWATCH_CONTROL_GROUP": "54321"}
    with AgentProcess(NO_DOCKER, environment=environment, state_dir=hand.state_dir):
        done = subprocess.run(
            [sys.executable, "-c", A_FRIEND, hand.state_dir, f"/{v1_cgroups.name}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "applied\n", done.stderr
        assert file.read_text() == "8\n"
        actor = hand.changes()[-1]["actor"]
    assert actor == {"kind": "command", "name": "nobody", "user_id": 65534}


@pytest.mark.parametrize("has_agent", [True, False])
def test_a_container_of_docker_is_limited_by_its_name_and_docker_knows_of_it(
    docker: Dockerd, directory: str, *, has_agent: bool
) -> None:
    name = f"cgwtest-by-hand-{os.getpid()}"
    container_id = docker.run("--name", name, "--network=none", "--memory=64m", IMAGE, "/bin/sleep", "600")
    hand = Hand(directory, docker.url)
    file = Path(f"/sys/fs/cgroup/memory/docker/{container_id}/memory.limit_in_bytes")
    try:
        if has_agent:
            with AgentProcess(docker.url, environment=hand.environment, state_dir=hand.state_dir):
                _limited_and_reset(docker, hand, name, container_id, file)
        else:
            _limited_and_reset(docker, hand, name, container_id, file)
    finally:
        docker.docker("rm", "--force", name)


def _limited_and_reset(docker: Dockerd, hand: Hand, name: str, container_id: str, file: Path) -> None:
    def stored() -> int:
        return int(docker.docker("inspect", "--format", "{{.HostConfig.Memory}}", name))

    result = hand.type("set-limit", name, "--memory", "128m")
    assert result.exit_code == 0, result.output
    assert (number(file), stored()) == (128 * MIB, 128 * MIB)
    assert " docker " in result.stdout
    said = hand.limits(container_id[:12])["memory.max"]
    assert (said["configured"], said["runtime"], said["baseline"]) == (128 * MIB, 128 * MIB, 64 * MIB)

    result = hand.type("reset-limit", container_id[:12], "memory.max")
    assert result.exit_code == 0, result.output
    assert (number(file), stored()) == (64 * MIB, 64 * MIB)


def test_a_cgroup_of_v2_is_frozen_where_that_is_the_hierarchy_that_is_looked_at(
    directory: str, v1_cgroups: V1Cgroups
) -> None:
    unified = v1_cgroups.path("", "unified")
    if not (unified.parent / "cgroup.controllers").exists():
        pytest.skip("needs a unified hierarchy beside those of v1")
    v1_cgroups.start(v1_cgroups.make("", "unified"))
    hand = Hand(directory)
    roots = {"CGWATCH_ROOTS_CGROUP": str(unified.parent)}

    frozen = hand.type("freeze", v1_cgroups.name, **roots)
    try:
        assert frozen.exit_code == 0, frozen.output
        assert "frozen 1" in (unified / "cgroup.events").read_text()
        shown = hand.type("limits", v1_cgroups.name, **roots).stdout.splitlines()
        assert any(line.split()[:2] == ["cgroup.freeze", "1"] for line in shown)
    finally:
        thawed = hand.type("reset-limit", v1_cgroups.name, **roots)
        (unified / "cgroup.freeze").write_text("0")
    assert thawed.exit_code == 0, thawed.output
    assert hand.changes()[-1]["outcome"]["read_back"] == 0


TYPED_ON_V2 = f"""
cgroup=/sys/fs/cgroup/made
mkdir $cgroup
export CGWATCH_STATE_DIR=/run/state CGWATCH_LIMITS_LOCK=/run/lock-of-limits CGWATCH_LIMITS_VERIFY_AFTER=100ms
export CGWATCH_DISCOVERY_DOCKER_ENABLED=false
show() {{ cat $cgroup/memory.max $cgroup/memory.high $cgroup/cpu.max $cgroup/pids.max | tr '\\n' ' '; echo; }}
cgwatch() {{ {sys.executable} -m cgwatch "$@"; echo "status $?"; }}
cgwatch set-limit made --memory 64m --set memory.high=32MiB --cpus 0.5 --pids-limit 20
show
cgwatch freeze made
cat $cgroup/cgroup.freeze
cgwatch thaw made
cat $cgroup/cgroup.freeze
cgwatch limits made
cgwatch reset-limit made
show
"""


@pytest.mark.timeout(600)
def test_the_same_verbs_write_the_files_of_cgroup_v2() -> None:
    require(qemu_available())
    finished = run_in_qemu(["sh", "-c", TYPED_ON_V2], deadline_seconds=500)

    lines = finished.output.splitlines()
    assert [line for line in lines if line.startswith("status")] == ["status 0"] * 5, finished.output
    shown = [line for line in lines if line.endswith("100000 20 ") or line.startswith("max max max")]
    assert shown == [f"{64 * MIB} {32 * MIB} 50000 100000 20 ", "max max max 100000 max "]
    assert [line for line in lines if line in {"0", "1"}] == ["1", "0"]
    assert ["memory.high", "32MiB", "32MiB", "max"] in [line.split()[:4] for line in lines], finished.output
