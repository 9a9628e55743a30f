"""``cgwatch limits``."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from cgwatch.cgroup import hierarchy
from cgwatch.change import Target
from cgwatch.cli.acting import candidates_of, own_candidates
from cgwatch.cli.columns import terminal_columns
from cgwatch.cli.limit_list import list_option
from cgwatch.cli.limit_verbs import format_option
from cgwatch.cli.limits_table import table
from cgwatch.cli.options import settings_options
from cgwatch.cli.resolving import chosen, complete
from cgwatch.control import client
from cgwatch.errors import AgentRefusedError, AgentUnreachableError
from cgwatch.limits.record import Records
from cgwatch.limits.resolve import Candidate, resolve
from cgwatch.limits.view import View
from cgwatch.limits.viewer import Viewer
from cgwatch.limits.wire import builtins
from cgwatch.proc.machine import read_boot_id
from cgwatch.settings import Settings
from cgwatch.storage import DATABASE, Storage, StorageError

LOG = logging.getLogger(__name__)


@click.command()
@click.argument("name", shell_complete=complete)
@format_option
@list_option
@settings_options
def limits(settings: Settings, *, name: str, output: str) -> None:
    """Show the limits of a container, pod, systemd unit or other cgroup.

    CONFIGURED is what its files say, EFFECTIVE the least of its own and of all above (OF says whose), RUNTIME
    what its runtime believes. BASELINE is what it was before cgwatch changed it, and is again when the time
    that is LEFT is over. VIA is the way that set-limit takes.
    """
    among, by_agent = _candidates(settings, name)
    (each,) = chosen([name], among)
    view = _fetched(settings, each.target) if by_agent else None
    if view is None:
        view = _own(settings, each.target)
    if output == "json":
        click.echo(json.dumps(builtins(view), indent=2))
    else:
        click.echo("\n".join(table(view, time.time(), terminal_columns())))


def _candidates(settings: Settings, name: str) -> tuple[tuple[Candidate, ...], bool]:
    """Ask the agent; who only looks may also look without it."""
    try:
        among, by_agent = candidates_of(settings)
    except AgentUnreachableError as error:
        LOG.warning("%s", error)
        return own_candidates(settings), False
    return (among, by_agent) if resolve(name, among) else (own_candidates(settings), by_agent)


def _fetched(settings: Settings, target: Target) -> View | None:
    try:
        return client.fetch(settings.state_dir, "/limits", {"path": target.path}, View)
    except (AgentRefusedError, AgentUnreachableError) as error:
        LOG.debug("%s", error)
        return None


def _own(settings: Settings, target: Target) -> View:
    with _records(settings) as records:
        return Viewer(
            hierarchy.find(settings.roots.proc, settings.roots.cgroup),
            records,
            settings,
            read_boot_id(settings.roots.proc),
        ).view(target)


@contextmanager
def _records(settings: Settings) -> Iterator[Records | None]:
    """Give the record; ``None`` where none is kept, or this user may not read it."""
    try:
        storage = Storage.open_reader(os.path.join(settings.state_dir, DATABASE))
    except StorageError as error:
        LOG.debug("%s", error)
        yield None
        return
    with storage:
        yield Records(storage)
