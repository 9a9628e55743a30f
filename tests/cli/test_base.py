from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner, Result

from cgwatch import __version__, errors
from cgwatch.cli import VERBS, Exit, LazyGroup, Verb, cli, exit_of
from cgwatch.cli.options import setting_option, settings_options

if TYPE_CHECKING:
    from pathlib import Path

    from cgwatch.settings import Settings

VERBS_FOR_TESTS = """
import signal
import sys
import click
from cgwatch.cli import LazyGroup, Verb
from cgwatch.errors import NoCgroupsError

@click.command()
def wait():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    click.echo("ready")
    signal.pause()

@click.command()
def chatter():
    for _ in range(100_000):
        click.echo("x" * 100)

@click.command()
def nothing():
    raise NoCgroupsError("there are no cgroups\\nat all")

if __name__ == "__main__":
    names = ("wait", "chatter", "nothing")
    LazyGroup({name: Verb(f"verbs:{name}", "For a test.") for name in names}, "Test.")()
"""


@pytest.fixture
def verbs(tmp_path: Path) -> list[str]:
    """Command line of a program whose verbs end in the ways that only a process shows."""
    (tmp_path / "verbs.py").write_text(VERBS_FOR_TESTS)
    return [sys.executable, str(tmp_path / "verbs.py")]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="cgwatch")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


def test_help_lists_the_verbs_and_the_exit_codes() -> None:
    result = run("--help")

    assert result.exit_code == 0
    for name, verb in VERBS.items():
        assert f"  {name} " in result.output
        assert verb.summary in result.output
    for code in Exit:
        assert f"{code:>3}  {code.meaning}\n" in result.output


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_of_the_table_is_a_command(name: str) -> None:
    module, _, command = VERBS[name].target.partition(":")

    found = getattr(import_module(module), command)

    assert isinstance(found, click.Command)
    assert found.name == name


def test_help_and_completion_of_names_import_no_verb() -> None:
    for variables in (
        {},
        {"_CGWATCH_COMPLETE": "bash_complete", "COMP_WORDS": "cgwatch v", "COMP_CWORD": "1"},
    ):
        done = python(
            f"import os, sys; os.environ.update({variables!r})\n"
            "from cgwatch.cli import cli\n"
            "try: cli(['--help'], prog_name='cgwatch')\n"
            "except SystemExit: print([name for name in sys.modules if name.startswith('cgwatch.cli.')])"
        )

        assert done.stdout.splitlines()[-1] == "[]"
        assert "version" in done.stdout


def test_the_version_is_told_without_importing_the_server() -> None:
    done = python(
        "import sys\n"
        "from cgwatch.cli import cli\n"
        "cli(['version'], standalone_mode=False)\n"
        "print({'uvicorn', 'starlette', 'docker', 'yaml', 'prometheus_client'} & set(sys.modules))"
    )

    assert done.stderr == ""
    assert done.stdout.startswith(f"cgwatch {__version__}\npython 3.")
    assert done.stdout.endswith("\nset()\n")


def test_the_version_is_the_same_in_every_form() -> None:
    versions = json.loads(run("version", "--format", "json").stdout)

    assert list(versions) == ["cgwatch", "python", "kernel", "platform"]
    assert versions["cgwatch"] == __version__
    assert versions["kernel"] == os.uname().release
    assert run("--version").stdout == f"cgwatch {__version__}\n"


def test_a_mistyped_verb_is_told_the_closest_one() -> None:
    result = run("confg")

    assert result.exit_code == 2
    assert 'There is no verb "confg"; did you mean config?' in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_asks_cgwatch_itself(shell: str) -> None:
    result = run("completion", shell)

    assert result.exit_code == 0
    assert f"_CGWATCH_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("cgwatch ver", "plain,version"),
        ("cgwatch --ver", "plain,--version"),
        ("cgwatch config ch", "plain,check"),
        ("cgwatch config check --log-level d", "plain,debug"),
        ("cgwatch completion z", "plain,zsh"),
    ],
)
def test_completion_knows_verbs_flags_and_values(words: str, completed: str) -> None:
    environ = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}

    done = subprocess.run(
        [sys.executable, "-c", "from cgwatch.cli import main; main()"],
        env=os.environ | environ | {"_CGWATCH_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.splitlines() == [completed]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CgwatchError("x"), 1),
        (errors.ListenError("x"), 1),
        (errors.AccessDeniedError("/x", "x"), 1),
        (errors.ConfigError("$", "x"), 2),
        (errors.UnitError("x"), 2),
        (errors.NoCgroupsError("x"), 3),
        (errors.AgentUnreachableError("x"), 4),
    ],
)
def test_every_error_has_its_exit_code(error: errors.CgwatchError, code: int) -> None:
    assert exit_of(error) == code


def test_python_m_cgwatch_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cgwatch", "--version"], capture_output=True, text=True, timeout=30, check=True
    )

    assert done.stdout == f"cgwatch {__version__}\n"


def test_an_error_is_one_line_on_standard_error_and_an_exit_code(verbs: list[str]) -> None:
    done = subprocess.run([*verbs, "nothing"], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "cgwatch: there are no cgroups at all\n"


def test_an_interrupt_ends_with_130_and_says_nothing(verbs: list[str]) -> None:
    with subprocess.Popen(
        [*verbs, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

    assert (process.returncode, said) == (130, "")


@pytest.mark.parametrize("arguments", [["chatter"], ["--help"]])
def test_a_reader_that_went_away_ends_it_quietly_with_141(verbs: list[str], arguments: list[str]) -> None:
    # With buffers, as in most places: what is left in them must not fail once more at the end.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*verbs, *arguments],
            env=environ,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")


@click.command()
@setting_option("listen")
@setting_option("sampling.interval")
@setting_option("read_only")
@click.argument("word")
@settings_options
def probe(settings: Settings, word: str) -> None:
    logging.getLogger("cgwatch.probe").info("running", extra={"word": word})
    click.echo(f"{settings.listen} {settings.sampling.interval_seconds} {settings.read_only} {word}")


def probed(*arguments: str, **environ: str) -> Result:
    group = LazyGroup({"probe": Verb(f"{__name__}:probe", "For a test.")}, "Test.")
    return CliRunner(env=environ).invoke(group, ["probe", *arguments])


def test_a_verb_gets_the_settings_that_all_sources_make() -> None:
    result = probed(
        "w", "--interval", "10s", "--read-only", CGWATCH_LISTEN=":1", CGWATCH_SAMPLING_INTERVAL="1s"
    )

    assert result.exit_code == 0
    assert result.stdout == ":1 10.0 True w\n"


def test_a_switch_overrides_the_environment_both_ways() -> None:
    assert probed("w", "--no-read-only", CGWATCH_READ_ONLY="true").stdout == "127.0.0.1:9753 5.0 False w\n"


def test_a_verb_logs_to_standard_error_as_the_settings_say() -> None:
    assert '"word": "w"' in probed("w", "--log-format", "json").stderr
    assert " word=w\n" in probed("w").stderr
    assert probed("w", "--log-level", "error").stderr == ""


def test_a_wrong_setting_ends_before_the_verb_runs() -> None:
    result = probed("w", "--interval", "5")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == 'cgwatch: --interval: "5" has no unit; give a unit, such as 5s\n'


def test_help_shows_what_a_flag_means() -> None:
    assert "--interval TEXT" in probed("--help").stdout
    assert "--read-only / --no-read-only" in probed("--help").stdout
