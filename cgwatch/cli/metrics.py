"""``cgwatch metrics``."""

from __future__ import annotations

import json
import logging
import shutil
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import click
import msgspec
from click.shell_completion import CompletionItem
from msgspec import Struct

from cgwatch.cgroup.files import Descriptors
from cgwatch.cgroup.hierarchy import Layout
from cgwatch.cli import Exit
from cgwatch.cli.names import described_by_docker
from cgwatch.cli.options import settings_options
from cgwatch.errors import KernelFileError
from cgwatch.metrics.families import FAMILIES
from cgwatch.metrics.labels import LabelCensus
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.own import OwnMetrics
from cgwatch.metrics.render import Census
from cgwatch.model import Snapshot
from cgwatch.oom.keeper import Keeper
from cgwatch.oom.tally import Tally
from cgwatch.oom.userspace import UserspaceKills
from cgwatch.settings import Settings
from cgwatch.units import quoted

LOG = logging.getLogger(__name__)

AGENT = "agent"
"""Stands for a group where the metric is one of the agent about itself."""

_PAGES = tuple(str(form) for form in Format)
_LISTS = ("table", "json", "markdown")
_INDENT = " " * 4
_WIDEST = 120


class Listed(Struct, frozen=True):
    """One metric of the list."""

    name: str
    type: str
    group: str
    """The key in ``metrics.groups`` that switches it; empty: it is always there."""
    labels: tuple[str, ...] | None
    """Beyond the container's own; ``None``: not said (the agent's own metrics)."""
    source: str
    absent: str
    help: str


def listed() -> tuple[Listed, ...]:
    """Return every metric that an agent exposes, in the order of its page."""
    return (
        *(
            Listed(each.name, each.type, each.group, each.labels, each.source, each.absent, each.help)
            for each in FAMILIES
        ),
        *_own(),
    )


def _own() -> Iterator[Listed]:
    for metric in of_empty_node().registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield Listed(name, metric.type, AGENT, None, "cgwatch itself", "", metric.documentation)


def of_empty_node() -> OwnMetrics:
    """Return the metrics of an agent that has sampled nothing and seen no kill: every one of its names."""
    own = OwnMetrics()
    own.watch(Descriptors(0), lambda: Snapshot(0, 0.0, 0.0, 0.0, (), Layout.V2), 0.0)
    own.watch_page(lambda: (Census(), LabelCensus()))
    keeper = Keeper(
        proc_root="/proc",
        clock=time.time,
        monotonic=time.monotonic,
        tally=Tally(retain_seconds=0, most_series=0),
        observer=own,
        failed=own.failed,
    )
    keeper.begin("")
    own.watch_oom(keeper)
    own.watch_userspace(UserspaceKills())
    return own


def _complete(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(each.name, help=each.help) for each in listed() if each.name.startswith(incomplete)
    ]


@click.command()
@click.option(
    "--list", "lists", is_flag=True, help="List what metrics there are instead, and sample nothing."
)
@click.option(
    "--format",
    "output",
    type=click.Choice(_PAGES + _LISTS),
    help="The page's: text (the default) or openmetrics. The list's: table (the default), json or markdown.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete,
    help="This metric alone; may be given several times.",
)
@settings_options
def metrics(settings: Settings, *, lists: bool, output: str | None, names: tuple[str, ...]) -> None:
    """Print the metrics page, or the list of metrics.

    The page is made of one sample of our own, as an agent with the same configuration would show it. It has
    nothing of a running agent: neither that one's own metrics, nor all that Docker tells whoever watches it.
    """
    output = output or (_LISTS if lists else _PAGES)[0]
    if output not in (_LISTS if lists else _PAGES):
        raise click.UsageError(
            f"The format {output} is for {'the page, without --list' if lists else 'the list, with --list'}."
        )
    wanted = _wanted(names)
    if lists:
        click.echo("\n".join(_written(wanted or listed(), output)))
        return
    page = _page(settings, Format(output), frozenset(each.name for each in wanted))
    click.echo(page.encode(), nl=False)  # bytes: the formats are UTF-8 wherever they are read
    missing = [each for each in wanted if not _is_on(page, each.name)]
    for each in missing:
        click.echo(f"cgwatch: {each.name}: {_why_absent(settings, each)}", err=True)
    if wanted and missing == list(wanted):
        click.get_current_context().exit(Exit.NOTHING)


def _is_on(page: str, name: str) -> bool:
    return any(f"# TYPE {family} " in page for family in (name, name.removesuffix("_total")))


def _wanted(names: Iterable[str]) -> tuple[Listed, ...]:
    """Look the names up; a counter may go without its suffix, as OpenMetrics calls it."""
    known = {each.name: each for each in listed()}
    known |= {name.removesuffix("_total"): each for name, each in known.items()}
    for name in names:
        if name not in known:
            longer = [each for each in known if each.startswith(name)]
            closest = (longer or get_close_matches(name, known, n=1, cutoff=0))[0]
            raise click.BadParameter(
                f"There is no metric {quoted(name)}; did you mean {closest}? --list has them all.",
                param_hint="--name",
            )
    return tuple(dict.fromkeys(known[name] for name in names))


def _page(settings: Settings, form: Format, names: frozenset[str]) -> str:
    from cgwatch import assembly  # noqa: PLC0415 - with the HTTP server, which the list does not need

    failures: list[KernelFileError] = []
    sampler, _ = assembly.open_sampler(settings, failures.append)
    try:
        sampler.describe(described_by_docker(settings.discovery.docker))
        snapshot = sampler.sample(0)
    finally:
        sampler.close()
    for failure in failures:
        LOG.warning(
            "a kernel file could not be read", extra={"path": failure.path, "problem": failure.problem}
        )
    page = assembly.make_renderer(settings).render(snapshot, form, names)
    return page + ("# EOF\n" if form is Format.OPENMETRICS else "")


def _why_absent(settings: Settings, metric: Listed) -> str:
    if metric.group == AGENT:
        return "of a running agent alone; scrape one for it"
    if metric.group and metric.group not in settings.metrics.groups.enabled():
        return f"the group is off; see metrics.groups.{metric.group}"
    return f"no series here; it is absent {metric.absent}" if metric.absent else "no series here"


# The list, written.


def _written(rows: Sequence[Listed], output: str) -> Iterable[str]:
    if output == "json":
        return [json.dumps(msgspec.to_builtins(rows), indent=2)]
    return _markdown(rows) if output == "markdown" else _table(rows, shutil.get_terminal_size().columns)


def _table(rows: Sequence[Listed], terminal_columns: int) -> Iterator[str]:
    """Give one line for each metric, and below it what does not fit into a column."""
    columns = min(terminal_columns, _WIDEST)
    longest = max(len(each.name) for each in rows)
    for each in rows:
        yield f"{each.name:<{longest}}  {each.type:<9}  {each.group or 'always'}"
        yield from _wrapped("", each.help, columns)
        yield from _wrapped("labels: ", ", ".join(each.labels or ()), columns)
        yield from _wrapped("from:   ", each.source, columns)
        yield from _wrapped("absent: ", each.absent, columns)


def _wrapped(title: str, text: str, columns: int) -> list[str]:
    return textwrap.wrap(
        text,
        columns,
        initial_indent=_INDENT + title,
        subsequent_indent=_INDENT + " " * len(title),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _markdown(rows: Sequence[Listed]) -> Iterator[str]:
    yield "| metric | type | group | labels | what it says | source | absent |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for each in rows:
        labels = ", ".join(f"`{label}`" for label in each.labels or ())
        cells = (f"`{each.name}`", each.type, each.group, labels, each.help, each.source, each.absent)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
