"""``cgwatch changes``."""

from __future__ import annotations

import json
import logging
import time

import click

from cgwatch.cli import Exit
from cgwatch.cli.changes_table import comma_separated, table
from cgwatch.cli.columns import terminal_columns
from cgwatch.cli.options import settings_options
from cgwatch.cli.stored import opened, since_when
from cgwatch.control import client
from cgwatch.errors import AgentRefusedError, AgentUnreachableError
from cgwatch.limits.record import Entry, Records
from cgwatch.limits.wire import builtins
from cgwatch.settings import Settings

LOG = logging.getLogger(__name__)

_USUAL = 100


@click.command()
@click.option("--since", metavar="TIME", help='From when on: "1h", "7d", or a time such as 2026-11-22T10:00.')
@click.option("--container", metavar="NAME", help="Of one: its name, its path, or how its id begins.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=_USUAL, show_default=True, help="As many at most."
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="json and csv have every value as it is, bytes and microseconds; max is no limit.",
)
@settings_options
def changes(settings: Settings, *, since: str | None, container: str | None, limit: int, output: str) -> None:
    """Show which limits were changed, by whom and why, the newest first."""
    since_seconds = since_when(since, time.time()) if since is not None else 0.0
    entries = _fetched(settings, since_seconds, container, limit)
    if output == "json":
        click.echo(json.dumps(builtins(entries), indent=2))
    elif output == "csv":
        click.echo(comma_separated(entries), nl=False)
    elif entries:
        click.echo("\n".join(table(entries, time.time(), terminal_columns())))
    if not entries:
        which = " that matches" if since or container else ""
        click.echo(f"cgwatch: no change of a limit is stored{which}", err=True)
        click.get_current_context().exit(Exit.NOTHING)


def _fetched(settings: Settings, since_seconds: float, container: str | None, limit: int) -> list[Entry]:
    """Ask the agent, which may read its database where this user may not; else look there."""
    query = {"since": repr(since_seconds), "limit": str(limit)}
    if container is not None:
        query["container"] = container
    try:
        return client.fetch(settings.state_dir, "/changes", query, list[Entry])
    except (AgentUnreachableError, AgentRefusedError) as error:
        LOG.debug("%s", error)
    with opened(settings, "changes of limits") as storage:
        return Records(storage).changes(since_seconds=since_seconds, container=container, limit=limit)
