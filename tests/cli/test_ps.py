from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cli import cli, usage_table
from cgwatch.control import client
from cgwatch.errors import AgentUnreachableError
from cgwatch.model import Kind, Runtime
from cgwatch.usage import Listing, Usage
from tests.discovery.fake_docker import FakeDocker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TREE = Path(__file__).parents[1] / "trees" / "docker_v2"
TITLES = ["NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS", "THROTTLED"]
HEADER = "NAME  CPU %  MEM USAGE / LIMIT  MEM %  NET I/O  BLOCK I/O  PIDS  THROTTLED"


def row(name: str = "web", **numbers: Any) -> Usage:
    unknown: dict[str, Any] = dict.fromkeys(Usage.__struct_fields__)
    whose = {"name": name, "cgroup": f"/docker/{name}", "kind": Kind.CONTAINER, "runtime": Runtime.DOCKER}
    return Usage(**(unknown | whose | numbers))


WEB = row(
    "web",
    container_id="0123456789ab" + "c" * 52,
    image="nginx:1",
    cpu_ratio=1.5,
    memory_used_bytes=24 << 20,
    memory_limit_bytes=64 << 20,
    memory_ceiling_bytes=64 << 20,
    memory_ratio=0.375,
    network_receive_bytes_total=1_234_567,
    network_transmit_bytes_total=999_900,
    network_receive_bytes_per_second=1500.0,
    network_transmit_bytes_per_second=0.0,
    block_read_bytes_total=0,
    block_written_bytes_total=10_485_760,
    block_read_bytes_per_second=0.0,
    block_written_bytes_per_second=2048.0,
    pids=12,
    throttled_ratio=0.25,
)
POD = row("pod1", kind=Kind.POD, runtime=Runtime.KUBERNETES, cgroup="/kubepods/pod1")


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let an agent answer with these rows."""

    def answers(*rows: Usage, interval_seconds: float | None = 5.0) -> None:
        monkeypatch.setattr(client, "fetch_rows", lambda _: Listing(interval_seconds, rows))

    return answers


@pytest.fixture
def docker() -> Iterator[FakeDocker]:
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        daemon = FakeDocker(Path(folder, "docker.sock"))
        daemon.start()
        yield daemon
        daemon.stop()


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(cli, ["ps", *arguments], prog_name="cgwatch")


def here(*arguments: str, **environ: str) -> Result:
    """Take samples of a captured tree, where no agent runs and no Docker but the test's own."""
    roots = ("--cgroup-root", str(TREE / "cgroup"), "--proc-root", str(TREE / "proc"))
    environ = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"} | environ
    return run("--state-dir", "/nonexistent", "-i", "100ms", *roots, *arguments, **environ)


def said_by_docker() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((TREE / "docker.json").read_text())
    return found


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


def test_a_container_is_a_line_as_docker_stats_writes_it(agent: Callable[..., None]) -> None:
    agent(WEB)

    result = run()

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "NAME    CPU %  MEM USAGE / LIMIT   MEM %       NET I/O    BLOCK I/O  PIDS  THROTTLED\n"
        "web   150.00%      24MiB / 64MiB  37.50%  1.23MB / 1MB  0B / 10.5MB    12     25.00%\n"
    )


def test_what_the_kernel_does_not_say_is_two_dashes(agent: Callable[..., None]) -> None:
    agent(row("a"), row("b", network_receive_bytes_total=5))

    lines = run().stdout.splitlines()

    assert [cell.strip() for cell in cells(lines[1])] == ["a", *["--"] * 7]
    assert "5B / --" in lines[2]


def test_numbers_end_and_names_begin_in_one_column(agent: Callable[..., None]) -> None:
    agent(WEB, row("a-longer-name", pids=5, cpu_ratio=0.0, throttled_ratio=0.0))

    header, *lines = run().stdout.splitlines()

    assert [line.index(line.split()[0]) for line in lines] == [0, 0]
    assert {len(header), *map(len, lines)} == {len(header)}


def test_containers_alone_are_shown_unless_all_are_asked_for(agent: Callable[..., None]) -> None:
    agent(WEB, POD)

    assert [line.split()[0] for line in run().stdout.splitlines()] == ["NAME", "web"]
    assert [line.split()[0] for line in run("--all").stdout.splitlines()] == ["NAME", "pod1", "web"]


def test_without_containers_there_is_the_header_and_a_hint_on_standard_error(
    agent: Callable[..., None],
) -> None:
    agent(POD)

    result = run()

    assert (result.exit_code, result.stdout) == (0, f"{HEADER}\n")
    assert result.stderr == "cgwatch: no container runs here; --all shows pods, units and other cgroups\n"


def test_without_containers_json_and_csv_are_empty_and_nothing_else_is_said(
    agent: Callable[..., None],
) -> None:
    agent()

    assert (run("--format", "json").output, run("--format", "csv").output.count("\n")) == ("[]\n", 1)


@pytest.mark.parametrize(
    ("sort", "field"),
    [
        ("cpu", "cpu_ratio"),
        ("memory", "memory_used_bytes"),
        ("net", "network_transmit_bytes_total"),
        ("io", "block_read_bytes_total"),
        ("pids", "pids"),
        ("throttled", "throttled_ratio"),
    ],
)
def test_sorting_shows_the_largest_first_then_by_name_and_the_unknown_last(
    agent: Callable[..., None], sort: str, field: str
) -> None:
    agent(
        row("d"),
        row("c", **{field: 0}),
        row("b", **{field: 3}),
        row("a", **{field: 3}),
        row("e", **{field: 7}),
    )

    assert [line.split()[0] for line in run("--sort", sort).stdout.splitlines()[1:]] == list("eabcd")
    assert [line.split()[0] for line in run().stdout.splitlines()[1:]] == list("abcde")


def test_json_has_every_number_with_its_unit_in_its_name(agent: Callable[..., None]) -> None:
    agent(WEB)

    (found,) = json.loads(run("--format", "json").stdout)

    assert list(found) == list(Usage.__struct_fields__)
    assert found["memory_used_bytes"] == 24 << 20
    assert found["network_receive_bytes_per_second"] == 1500.0
    assert found["kind"] == "container"


def test_csv_has_a_header_and_raw_numbers_and_nothing_for_what_is_unknown(
    agent: Callable[..., None],
) -> None:
    agent(WEB, row("b"))

    unknown, known = csv.DictReader(io.StringIO(run("--format", "csv").stdout))

    assert list(known) == list(Usage.__struct_fields__)
    assert (known["cpu_ratio"], known["block_written_bytes_total"]) == ("1.5", "10485760")
    assert (unknown["name"], unknown["cpu_ratio"], unknown["image"]) == ("b", "", "")


def test_wide_adds_rates_and_whose_cgroup_it_is(agent: Callable[..., None]) -> None:
    agent(WEB)

    header, line = (list(map(str.strip, cells(line))) for line in run("--format", "wide").stdout.splitlines())

    shown = dict(zip(header, line, strict=True))
    assert set(TITLES) < set(shown)
    assert (shown["NET I/O PER S"], shown["BLOCK I/O PER S"]) == ("1.5kB / 0B", "0B / 2.05kB")
    assert (shown["CONTAINER ID"], shown["IMAGE"], shown["CGROUP"]) == (
        "0123456789ab",
        "nginx:1",
        "/docker/web",
    )


HOSTILE = [
    "line\nend\r\x0b\x85\u2028",
    "\x1b[2J\x9b31mescape",
    "\u202eright to left\u2066",
    "\u05d0\u0627rtl",
    "wide漢字🎉",
    "e\u0301\u200d\u200b",
    "tab\tnul\x00del\x7f",
    "x" * 65536,
    "",
]


@pytest.mark.parametrize("output", ["table", "wide", "csv"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_one_line_of_printable_characters(
    agent: Callable[..., None], name: str, output: str
) -> None:
    agent(WEB, row(name, image=name, container_id=name, cgroup=name))

    text = run("--format", output).stdout

    assert len(text.split("\n")) == 4
    assert all(" " <= character <= "~" for character in text.replace("\n", ""))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_in_json_is_the_name_and_no_character_of_a_terminal(
    agent: Callable[..., None], name: str
) -> None:
    agent(row(name))

    text = run("--format", "json").stdout

    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text)[0]["name"] == name


def test_a_name_of_64_kib_takes_no_more_room_than_the_longest_file_name(agent: Callable[..., None]) -> None:
    agent(row("x" * 65536))

    assert len(run().stdout.splitlines()[1].split()[0]) == 255


@given(st.text("abc", min_size=1), st.integers(4, 40))
def test_a_cut_name_is_as_long_as_it_may_be_and_keeps_both_ends(name: str, length: int) -> None:
    cut = usage_table.cut(name, length)  # the columns that a terminal leaves are many

    assert len(cut) == min(len(name), length)
    head, _, tail = cut.partition("..")
    assert name.startswith(head)
    assert name.endswith(tail)
    assert abs(len(head) - len(tail)) <= 1 or cut == name


# At a terminal.


def at_terminal(columns: int, *rows: Usage) -> list[str]:
    """Give the lines of ``cgwatch ps`` with these rows, as a process writes them to a terminal."""
    code = (
        "import sys, msgspec\n"
        "from cgwatch.control import client\n"
        "from cgwatch.cli import cli\n"
        "from cgwatch.usage import Listing\n"
        "client.fetch_rows = lambda _: msgspec.json.decode(sys.argv[1], type=Listing)\n"
        "cli(['ps'], prog_name='cgwatch')\n"
    )
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-c", code, msgspec.json.encode(Listing(5.0, rows)).decode()]
    with subprocess.Popen(command, stdin=end, stdout=end, stderr=end, env=environ):
        os.close(end)
        written = b""
        while chunk := _read(terminal):
            written += chunk
    os.close(terminal)
    return written.decode().splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the last process at the terminal has ended
        return b""


LONG = "shop-frontend-of-the-northern-region-1"


def test_on_a_wide_terminal_nothing_is_cut() -> None:
    header, *lines = at_terminal(160, WEB, row(LONG))

    assert cells(header)[2].strip() == "MEM USAGE / LIMIT"
    assert lines[0].startswith(LONG)


def test_on_a_terminal_with_less_room_the_middle_of_long_names_is_cut() -> None:
    header, *lines = at_terminal(110, WEB, row(LONG))

    assert "MEM USAGE / LIMIT" in header
    assert {len(line) for line in (header, *lines)} == {110}
    assert lines[0].split()[0] == "shop-frontend-..thern-region-1"


def test_on_80_columns_every_column_is_there_in_fewer_digits() -> None:
    big = row(
        "busiest",
        cpu_ratio=15.999,
        memory_used_bytes=int(999.9 * 2**20),
        memory_ceiling_bytes=int(23.54 * 2**30),
        memory_ratio=1.0,
        network_receive_bytes_total=1_230_000_000,
        network_transmit_bytes_total=456_000_000,
        block_read_bytes_total=1_230_000_000,
        block_written_bytes_total=4_560_000_000,
        pids=1000,
        throttled_ratio=1.0,
    )

    header, *lines = at_terminal(80, WEB, row(LONG), big)

    assert [cell.strip() for cell in cells(header)] == [
        *("NAME", "CPU %", "MEM/LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS", "THR %")
    ]
    assert {len(line) for line in (header, *lines)} == {80}
    assert lines[0].split() == [
        *("busiest", "1599.9%", "999.9M/23.54G", "100.0%", "1.23G/456M", "1.23G/4.56G", "1000", "100.0%")
    ]
    assert lines[2].split() == ["web", "150.0%", "24M/64M", "37.5%", "1.23M/1M", "0/10.5M", "12", "25.0%"]


def test_a_pipe_gets_whole_names(agent: Callable[..., None]) -> None:
    agent(WEB, row("y" * 200))

    assert run(COLUMNS="80").stdout.splitlines()[2].startswith("y" * 200 + " ")


# Where the rows come from.


def test_without_an_agent_two_samples_are_taken_here() -> None:
    result = here("--format", "json")

    assert (result.exit_code, result.stderr) == (0, "")
    shown = {each["container_id"]: each for each in json.loads(result.stdout)}
    assert shown.keys() == {said["Id"] for said in said_by_docker()}
    assert {each["name"] for each in shown.values()} == {identity[:12] for identity in shown}
    limits = {said["Id"]: said["HostConfig"]["Memory"] or None for said in said_by_docker()}
    assert {identity: each["memory_limit_bytes"] for identity, each in shown.items()} == limits
    assert {each["cpu_ratio"] for each in shown.values()} == {0.0}


def test_an_agent_that_answers_is_asked_unless_the_user_wants_none(agent: Callable[..., None]) -> None:
    agent(WEB)

    assert "web " in here().stdout
    assert "web " not in here("--no-agent").stdout


def test_an_agent_that_has_only_just_started_has_no_rates_so_samples_are_taken_here(
    agent: Callable[..., None],
) -> None:
    agent(WEB, interval_seconds=None)

    assert "web " not in here().stdout
    assert len(here().stdout.splitlines()) == 1 + len(said_by_docker())


def test_an_agent_that_does_not_answer_on_its_socket_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_: str) -> Listing:
        raise AgentUnreachableError(
            "no agent answers on /there (Connection refused)"
        ) from ConnectionRefusedError()

    monkeypatch.setattr(client, "fetch_rows", fetch)

    result = here()

    assert "no agent answers on /there (Connection refused)" in result.stderr
    assert len(result.stdout.splitlines()) == 1 + len(said_by_docker())


def test_docker_names_what_is_sampled_here(docker: FakeDocker) -> None:
    docker.list_answer = [
        {"Id": said["Id"], "Names": [f"/other/alias{said['Name'][1:]}", said["Name"]], "Image": "img:1"}
        for said in said_by_docker()
    ]

    result = here("--format", "json", DOCKER_HOST=docker.url)

    assert result.stderr == ""
    assert {each["container_id"]: each["name"] for each in json.loads(result.stdout)} == {
        said["Id"]: said["Name"][1:] for said in said_by_docker()
    }
    assert {each["image"] for each in json.loads(result.stdout)} == {"img:1"}


@pytest.mark.parametrize("answer", [500, "nonsense", [{"Names": 5}], [{"Id": "x", "Names": [None]}]])
def test_a_docker_that_answers_badly_costs_the_names_alone(docker: FakeDocker, answer: object) -> None:
    docker.list_answer = answer

    result = here(DOCKER_HOST=docker.url)

    assert result.exit_code == 0
    assert "Docker does not tell names; containers have their ids" in result.stderr
    assert {line.split()[0] for line in result.stdout.splitlines()[1:]} == {
        said["Id"][:12] for said in said_by_docker()
    }


def test_a_docker_that_hangs_costs_its_timeout_and_the_names(docker: FakeDocker) -> None:
    docker.freeze()

    result = here(DOCKER_HOST=docker.url, CGWATCH_DISCOVERY_DOCKER_TIMEOUT="100ms")

    assert "Docker does not tell names" in result.stderr
    assert len(result.stdout.splitlines()) == 1 + len(said_by_docker())


def test_a_docker_that_is_switched_off_is_not_asked(docker: FakeDocker) -> None:
    assert here(DOCKER_HOST=docker.url, CGWATCH_DISCOVERY_DOCKER_ENABLED="false").exit_code == 0

    assert docker.requests() == []


def test_a_file_of_the_kernel_that_is_malformed_is_told_once_and_costs_its_own_numbers(
    tmp_path: Path,
) -> None:
    subprocess.run(["cp", "-a", str(TREE / "cgroup"), str(tmp_path)], check=True)
    broken = next(tmp_path.glob("cgroup/docker/*/pids.current"))
    broken.write_text("many\n")

    result = here("--cgroup-root", str(tmp_path / "cgroup"), "--format", "json")

    assert result.stderr.count(str(broken)) == 1
    assert [each["pids"] for each in json.loads(result.stdout)].count(None) == 1
    assert all(each["memory_used_bytes"] for each in json.loads(result.stdout))


@pytest.mark.parametrize("interval", ["5", "0s", "2h"])
def test_an_interval_that_cannot_be_is_wrong_usage(interval: str) -> None:
    result = here("-i", interval)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "--interval" in result.stderr


def test_without_cgroups_it_ends_as_every_verb_does() -> None:
    result = here("--cgroup-root", "/nonexistent")

    assert (result.exit_code, result.stdout) == (3, "")
