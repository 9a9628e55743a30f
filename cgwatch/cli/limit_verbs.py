"""What the verbs that change limits have in common: flags, the way to the cgroups, the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeAlias, TypeVar

import click

from cgwatch.change import VERIFIED, Report
from cgwatch.cli import Exit
from cgwatch.cli.acting import Hands, acting, candidates_of, own_candidates
from cgwatch.cli.columns import terminal_columns
from cgwatch.cli.limit_text import report_lines
from cgwatch.cli.resolving import chosen, complete
from cgwatch.cli.usage_table import printable
from cgwatch.errors import CgwatchError, ConfigError, UnitError
from cgwatch.limits.resolve import Candidate, resolve
from cgwatch.limits.wire import builtins
from cgwatch.settings import Settings
from cgwatch.units import parse_duration

P = ParamSpec("P")
R = TypeVar("R")
Work: TypeAlias = Callable[[Hands, Candidate], Report]

_LONGEST_REASON = 1000
_SHORTEST_SECONDS = 1.0


def names_argument(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb the names of what it acts on, and ``--all``."""
    everything = click.option(
        "--all", "everything", is_flag=True, help="A NAME may mean several, such as those of a glob."
    )
    return click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete)(
        everything(verb)
    )


def time_and_reason(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb ``--for`` and ``--reason``."""
    return click.option(
        "--for",
        "for_seconds",
        metavar="TIME",
        help="How long, such as 10m; then it is as before. Without it: until reset-limit.",
        callback=_seconds,
    )(reason_option(verb))


def _seconds(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = parse_duration(value)
    except UnitError as error:
        raise ConfigError("--for", str(error)) from error
    if seconds < _SHORTEST_SECONDS:
        raise ConfigError("--for", "a limit holds for one second at least")
    return seconds


def reason_option(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb ``--reason``."""
    return click.option("--reason", default="", metavar="TEXT", help="For cgwatch changes.", callback=_brief)(
        verb
    )


def _brief(_: click.Context, __: click.Parameter, value: str) -> str:
    if len(value) > _LONGEST_REASON:
        raise ConfigError("--reason", f"has more than {_LONGEST_REASON} characters; be brief")
    return value


def format_option(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb ``--format``: a table, or every number as it is."""
    return click.option(
        "--format", "output", type=click.Choice(["table", "json"]), default="table", show_default=True
    )(verb)


def carried_out(
    settings: Settings,
    names: Sequence[str],
    output: str,
    work: Work,
    *,
    everything: bool = False,
) -> None:
    """Do ``work`` to whatever the names mean, say what became of it, and end the process as it went.

    What fails with one of them does not keep the others from it.
    """
    among, by_agent = candidates_of(settings)
    if by_agent and not all(resolve(name, among) for name in names):
        # It may have begun since the agent's last tick, or Docker have told the agent no name so far.
        own = {(each.path, each.inode): each for each in own_candidates(settings)}
        told = {(each.path, each.inode): each for each in among}
        among = tuple(
            (own | {key: each for key, each in told.items() if each.name or key not in own}).values()
        )
    targets = chosen(names, among, everything=everything)
    reports: list[Report] = []
    failed = False
    with acting(settings, by_agent=by_agent) as hands:
        for each in targets:
            try:
                report = work(hands, each)
            except CgwatchError as error:
                click.echo(f"cgwatch: {printable(each.shown)}: {' '.join(str(error).splitlines())}", err=True)
                failed = True
                continue
            if output == "table":
                gap = "\n" if reports else ""
                click.echo(gap + "\n".join(report_lines(report, terminal_columns())))
            reports.append(report)
    if output == "json":
        click.echo(json.dumps(builtins(reports), indent=2))
    if not by_agent and any(each.expires_seconds and not each.request.dry_run for each in reports):
        click.echo("cgwatch: no agent runs; the next one, or the next command, undoes it then", err=True)
    if failed or not all(map(is_verified, reports)):
        click.get_current_context().exit(Exit.FAILURE)


def is_verified(report: Report) -> bool:
    """Whether every limit is what was asked for."""
    return all(outcome.result in VERIFIED for outcome in report.outcomes)
