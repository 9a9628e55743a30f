"""The command line: one module for each verb, imported when the verb is called.

A verb is one row of ``VERBS``. It raises what goes wrong as an error of :mod:`cgwatch.errors`; how that ends
the process is said once, in ``Exit`` and ``exit_of``.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from enum import IntEnum
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import click
from click.exceptions import Exit as ClickExit
from click.shell_completion import CompletionItem
from msgspec import Struct

from cgwatch import __version__
from cgwatch.errors import (
    AgentUnreachableError,
    CgwatchError,
    ConfigError,
    LimitValueError,
    NameMeaningError,
    NoCgroupsError,
    UnitError,
    UnknownLimitError,
)
from cgwatch.units import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Exit(IntEnum):
    """How the process ends; scripts may rely on the numbers."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member of the row ``code, meaning``."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done"
    FAILURE = 1, "failed while running; or a limit is not what was asked for"
    USAGE = 2, "wrong usage or configuration"
    NOTHING = 3, "nothing found, or several things where one was meant; or no cgroups"
    UNREACHABLE = 4, "no agent answers"
    INTERRUPTED = 130, "interrupted (SIGINT)"
    BROKEN_PIPE = 141, "the reader of the output is gone"


def exit_of(error: CgwatchError) -> Exit:
    """How an error that nobody handled ends the process."""
    match error:
        case ConfigError() | UnitError() | UnknownLimitError() | LimitValueError():
            return Exit.USAGE
        case NoCgroupsError() | NameMeaningError():
            return Exit.NOTHING
        case AgentUnreachableError():
            return Exit.UNREACHABLE
        case _:
            return Exit.FAILURE


class Verb(Struct, frozen=True):
    """One row of the table of verbs."""

    target: str
    """``module:command``."""
    summary: str
    """What ``--help`` says, so that it need not import the verb."""


VERBS = MappingProxyType(
    {
        "run": Verb("cgwatch.cli.run:run", "Run the agent: sample, and serve metrics."),
        "ps": Verb("cgwatch.cli.ps:ps", "Show containers and what they use."),
        "metrics": Verb("cgwatch.cli.metrics:metrics", "Print the metrics page, or the list of metrics."),
        "oom": Verb("cgwatch.cli.oom:oom", "Show the OOM kills of this node, and explain them."),
        "notify": Verb("cgwatch.cli.notify:notify", "Try out how people are told of OOM kills."),
        "limits": Verb("cgwatch.cli.limits:limits", "Show the limits of a container, and whose they are."),
        "set-limit": Verb("cgwatch.cli.set_limit:set_limit", "Change limits of containers, for a while."),
        "reset-limit": Verb("cgwatch.cli.reset_limit:reset_limit", "Bring limits back to what they were."),
        "freeze": Verb("cgwatch.cli.freeze:freeze", "Let a container stand still."),
        "thaw": Verb("cgwatch.cli.freeze:thaw", "Let a frozen container go on."),
        "changes": Verb("cgwatch.cli.changes:changes", "Show which limits were changed, by whom and why."),
        "doctor": Verb("cgwatch.cli.doctor:doctor", "Check what this node offers to cgwatch."),
        "config": Verb("cgwatch.cli.config:config", "Check the configuration."),
        "policy": Verb("cgwatch.cli.policy:policy", "Check policies: limits that rewrite themselves."),
        "completion": Verb("cgwatch.cli.completion:completion", "Print the script for a shell's completion."),
        "version": Verb(
            "cgwatch.cli.version:version", "Print the versions of cgwatch and of what it runs on."
        ),
    }
)


@contextmanager
def _ending() -> Iterator[None]:
    """Turn whatever ends a verb early into its exit code and at most one line on standard error."""
    try:
        yield
    except CgwatchError as error:
        click.echo(f"cgwatch: {' '.join(str(error).splitlines())}", err=True)
        raise ClickExit(exit_of(error)) from error
    except KeyboardInterrupt as interrupt:
        raise ClickExit(Exit.INTERRUPTED) from interrupt
    except BrokenPipeError as error:
        # What is still buffered would fail once more when the interpreter flushes it.
        with suppress(io.UnsupportedOperation):  # a test's output has no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, sys.stdout.fileno())
            finally:
                os.close(nowhere)
        raise ClickExit(Exit.BROKEN_PIPE) from error
    except OSError as error:  # the output's disk is full, say
        click.echo(f"cgwatch: {error}", err=True)
        raise ClickExit(Exit.FAILURE) from error


class LazyGroup(click.Group):
    """A group that knows its verbs by name, and imports one when it is called."""

    def __init__(self, verbs: Mapping[str, Verb], description: str, epilog: str = "") -> None:
        super().__init__(help=description, epilog=epilog)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import the verb."""
        if cmd_name not in self._verbs:
            return None
        module, _, command = self._verbs[cmd_name].target.partition(":")
        found: click.Command = getattr(import_module(module), command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb in the arguments, or say which one it may have been."""
        if args[0] not in self._verbs and not ctx.resilient_parsing:
            closest = get_close_matches(args[0], self._verbs, n=1, cutoff=0)[0]
            ctx.fail(f"There is no verb {quoted(args[0])}; did you mean {closest}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.summary) for name, verb in self._verbs.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a verb's name without importing any, or one of the group's own flags."""
        names = [
            CompletionItem(name, help=verb.summary)
            for name, verb in self._verbs.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> click.Context:
        """Parse the arguments; ``--help`` ends here."""
        with _ending():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb."""
        with _ending():
            return super().invoke(ctx)


cli = click.version_option(__version__, message="cgwatch %(version)s")(
    LazyGroup(
        VERBS,
        "Watch the containers of this node: their cgroups, as Prometheus metrics.",
        "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {code.meaning}" for code in Exit),
    )
)


def main() -> None:
    """Entry point of the command ``cgwatch``."""
    cli(prog_name="cgwatch")
