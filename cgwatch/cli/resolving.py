"""From names as they are typed to cgroups that are acted on: never several by accident."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from cgwatch import config
from cgwatch.cli.columns import UNKNOWN, Column, aligned, terminal_columns
from cgwatch.cli.usage_table import printable
from cgwatch.errors import CgwatchError, NameMeaningError
from cgwatch.limits.resolve import Candidate, is_glob, names_of, resolve, similar
from cgwatch.units import shortened

_SHORT_ID = 12
_MOST_SHOWN = 20
_COLUMNS = (
    Column("NAME", least=8),
    Column("KIND"),
    Column("CONTAINER ID", optional=True),
    Column("CGROUP", least=20),
)


def chosen(names: Sequence[str], among: Sequence[Candidate], *, everything: bool = False) -> list[Candidate]:
    """Return what the names mean, each once, in the order of the names.

    ``everything``: a name may mean several. Raises ``NameMeaningError``, after what was possible has been
    listed on standard error.
    """
    found: dict[str, Candidate] = {}
    for name in names:
        found |= {each.path: each for each in _meant(name, among, everything=everything)}
    return list(found.values())


def _meant(name: str, among: Sequence[Candidate], *, everything: bool) -> tuple[Candidate, ...]:
    matches = resolve(name, among)
    running = tuple(each for each in matches if each.inode)
    if matches and not running:
        raise NameMeaningError(f"{shortened(name)} does not run, so it has no cgroup; start it first")
    if not running:
        near = similar(name, among)
        _list(near)
        advice = "above is what is called like it" if near else "cgwatch ps --all shows what there is"
        raise NameMeaningError(f"no container, pod, unit or cgroup is called {shortened(name)}; {advice}")
    if len(running) > 1 and not everything:
        _list(running)
        way = "--all means all of them" if is_glob(name) else "give a longer one or a path, or --all for all"
        raise NameMeaningError(f"{shortened(name)} can mean any of the {len(running)} above; {way}")
    return running


def _list(among: Sequence[Candidate]) -> None:
    if not among:
        return
    rows = [_row(each) for each in among[:_MOST_SHOWN]]
    click.echo("\n".join(aligned(_COLUMNS, rows, terminal_columns(sys.stderr))), err=True)
    if len(among) > _MOST_SHOWN:
        click.echo(f"... and {len(among) - _MOST_SHOWN} more", err=True)


def _row(each: Candidate) -> tuple[str, ...]:
    return (
        printable(each.shown),
        each.owner.kind,
        printable(each.owner.container_id or UNKNOWN)[:_SHORT_ID],
        printable(each.path),
    )


def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a name by what there is; nothing where that cannot be found out."""
    from cgwatch.cli.acting import candidates_of  # noqa: PLC0415 - for a shell that asks, and no verb

    try:
        among = candidates_of(config.load(None, os.environ, {}, os.geteuid()))[0]
    except (CgwatchError, OSError):
        return []
    found: dict[str, str] = {}
    for each in among:
        if each.owner.parent_container_id is None and each.inode:
            found |= {name: str(each.owner.kind) for name in names_of(each) if name not in found}
    # A shell would take anything else apart.
    return [
        CompletionItem(name, help=kind)
        for name, kind in sorted(found.items())
        if name.startswith(incomplete) and printable(name) == name and " " not in name
    ]
