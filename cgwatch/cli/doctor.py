"""``cgwatch doctor``."""

from __future__ import annotations

import os
import resource
import shutil
import textwrap
from types import MappingProxyType

import click
import msgspec

from cgwatch import assembly
from cgwatch.cli import Exit
from cgwatch.cli.options import setting_option, settings_options
from cgwatch.doctor import Examination, Finding, Host, Level, examine
from cgwatch.doctor.finding import Limit, counted
from cgwatch.settings import Settings

_WORDS = MappingProxyType(
    {Level.ERROR: "FAIL", Level.WARNING: "WARN", Level.NOTE: "note", Level.OK: "ok"},
)
"""The worst first: the order on the screen."""

_INDENT = " " * 6
_WIDEST = 100


@click.command()
@click.option("--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--verbose", is_flag=True, help="Show what is well, too.")
@setting_option("listen")
@settings_options
def doctor(settings: Settings, *, output: str, verbose: bool) -> None:
    """Check what this node offers to cgwatch, and say what will be missing in the metrics.

    Nothing is changed. Run it as the agent is going to run: as the same user, in the same container.
    """
    host = Host(settings, os.geteuid(), Limit(*resource.getrlimit(resource.RLIMIT_NOFILE)))
    examination = examine(host, assembly.open_sampler)
    if output == "json":
        encoded = msgspec.json.format(msgspec.json.encode(examination.findings))
        click.echo(encoded.decode())
    else:
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        click.echo("\n".join(table(examination.findings, width, verbose=verbose)))
    click.get_current_context().exit(exit_code(examination))


def exit_code(examination: Examination) -> Exit:
    """Tell a script whether this node can be sampled; warnings do not count."""
    if not examination.has_cgroups:
        return Exit.NOTHING
    return Exit.FAILURE if any(f.level is Level.ERROR for f in examination.findings) else Exit.OK


def table(findings: tuple[Finding, ...], width: int, *, verbose: bool) -> list[str]:
    """Write the findings as lines of at most ``width`` columns where words allow, the worst first."""
    lines = []
    for level, word in _WORDS.items():
        if level is Level.OK and not verbose:
            continue
        for finding in findings:
            if finding.level is level:
                lines += _wrapped(f"{word:<{len(_INDENT)}}", f"{finding.subject}: {finding.found}", width)
                lines += _wrapped(_INDENT, finding.consequence, width)
                lines += _wrapped(f"{_INDENT}-> ", finding.advice, width)
    counts = {level: sum(finding.level is level for finding in findings) for level in _WORDS}
    words = [counted(counts[level], level) for level in _WORDS if level is not Level.OK]
    hint = "" if verbose or not counts[Level.OK] else " (--verbose shows them)"
    lines.append(f"{', '.join(words)}; {counts[Level.OK]} ok{hint}")
    return lines


def _wrapped(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
