"""``cgwatch oom``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import click
import msgspec

from cgwatch.cli import Exit
from cgwatch.cli.oom_text import builtins, comma_separated, explanation, record, table
from cgwatch.cli.options import settings_options
from cgwatch.cli.stored import opened, since_when
from cgwatch.oom.case import moment_of
from cgwatch.oom.evidence import decode
from cgwatch.oom.explain import explain as explained
from cgwatch.oom.kill import OomKill
from cgwatch.settings import Settings
from cgwatch.storage import Storage, StoredKill
from cgwatch.units import shortened

_POLL_SECONDS = 1.0
_UNSETTLED_SECONDS = 120.0
"""A kill that was found longer ago is settled: whoever watches has nothing to wait for."""
_WIDEST = 100
_PIPE_WIDTH = 100


def _filters(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the flags that choose kills."""
    container = click.option(
        "--container", metavar="NAME", help="Of one container: its name, its path, or how its id begins."
    )
    return container(verb)


def _format(*choices: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--format", "output", type=click.Choice(choices), default=choices[0], show_default=True
    )


@click.group()
def oom() -> None:
    """Show the OOM kills of this node, and explain them.

    They are read from the database in the state directory, whether or not an agent runs.
    """


@oom.command(name="list")
@click.option("--since", metavar="TIME", help='From when on: "1h", "7d", or a time such as 2026-11-22T10:00.')
@_filters
@_format("table", "json", "csv")
@settings_options
def list_(settings: Settings, *, since: str | None, container: str | None, output: str) -> None:
    """List kills, the newest first."""
    since_seconds = since_when(since, time.time()) if since is not None else 0.0
    with opened(settings, "OOM kills") as storage:
        kills = [stored.kill for stored in storage.kills(since_seconds=since_seconds, container=container)]
    if output == "json":
        click.echo(json.dumps([builtins(kill) for kill in kills], indent=2))
    elif output == "csv":
        click.echo(comma_separated(kills), nl=False)
    elif kills:
        click.echo("\n".join(table(kills, _terminal_columns())))
    if not kills:
        _nothing("no OOM kill is stored" + (" that matches" if since or container else ""))


@oom.command()
@click.argument("number", type=click.IntRange(min=1), required=False)
@_filters
@_format("table", "json")
@settings_options
def show(settings: Settings, *, number: int | None, container: str | None, output: str) -> None:
    """Show all that is stored of one kill.

    Without NUMBER it is of the last one.
    """
    with opened(settings, "OOM kills") as storage:
        stored = _find(storage, number, container)
    evidence = decode(stored.forensics)
    if output == "json":
        said = builtins(stored.kill) | {"evidence": msgspec.to_builtins(evidence)}
        click.echo(json.dumps(said, indent=2))
    else:
        click.echo("\n".join(record(stored.kill, evidence)))


@oom.command()
@click.argument("number", type=click.IntRange(min=1), required=False)
@_filters
@_format("table", "json")
@settings_options
def explain(settings: Settings, *, number: int | None, container: str | None, output: str) -> None:
    """Say why a kill happened, and what to do.

    Without NUMBER it is of the last one.
    """
    with opened(settings, "OOM kills") as storage:
        stored = _find(storage, number, container)
        earlier = storage.earlier(stored.kill)
    said = explained(stored.kill, decode(stored.forensics), earlier)
    if output == "json":
        click.echo(json.dumps(msgspec.to_builtins(said), indent=2))
    else:
        width = min(_terminal_columns() or _PIPE_WIDTH, _WIDEST)
        click.echo("\n".join(explanation(said, moment_of(stored.kill), width)))


@oom.command()
@_filters
@_format("table", "json", "csv")
@settings_options
def watch(settings: Settings, *, container: str | None, output: str) -> None:
    """Follow new kills until interrupted; in JSON each is one line.

    A kill is shown as soon as it is known whose it is, or when nobody can tell any more.
    """
    began_seconds = time.time()
    with opened(settings, "OOM kills") as storage:

        def found() -> list[OomKill]:
            since_seconds = began_seconds - _UNSETTLED_SECONDS
            stored = storage.kills(since_seconds=since_seconds, container=container)
            return [each.kill for each in reversed(stored) if each.kill.attributed or each.kill.settled]

        shown = {kill.number for kill in found()}
        click.echo("cgwatch: watching for OOM kills", err=True)
        titles = True
        while True:
            kills = [kill for kill in found() if kill.number not in shown]
            if kills:
                _follow(kills, output, titles=titles)
                titles = False
            shown.update(kill.number for kill in kills)
            time.sleep(_POLL_SECONDS)


def _follow(kills: Sequence[OomKill], output: str, *, titles: bool) -> None:
    if output == "json":
        for kill in kills:
            click.echo(json.dumps(builtins(kill)))
    elif output == "csv":
        click.echo(comma_separated(kills, titles=titles), nl=False)
    else:
        lines = list(table(kills, _terminal_columns()))
        click.echo("\n".join(lines if titles else lines[1:]))


def _find(storage: Storage, number: int | None, container: str | None) -> StoredKill:
    """Return a kill, or the last one; of this container if one is named."""
    kills = storage.kills(container=container, limit=1 if number is None else -1)
    found = next((stored for stored in kills if number in (None, stored.kill.number)), None)
    if found is None:
        which = "" if number is None else f" {number}"
        whose = "" if container is None else f" of {shortened(container)}"
        hint = "; cgwatch oom list shows which are" if which or whose else ""
        _nothing(f"no OOM kill{which}{whose} is stored{hint}")
    return found


def _nothing(message: str) -> NoReturn:
    click.echo(f"cgwatch: {message}", err=True)
    click.get_current_context().exit(Exit.NOTHING)


def _terminal_columns() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
