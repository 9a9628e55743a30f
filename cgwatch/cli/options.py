"""Flags that set a key of the configuration, the same for every verb.

::

    @click.command()
    @setting_option("listen")      # further keys of this verb
    @settings_options              # --config, --log-level, ... and the settings they make
    def run(settings: Settings) -> None: ...
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from cgwatch import config, logs
from cgwatch.settings import KEYS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_SHARED = ("roots.cgroup", "roots.proc", "roots.sys", "state_dir", "log.level", "log.format")
_FILE = "cgwatch.file"
_FLAGS = "cgwatch.flags"


def setting_option(path: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a verb the flag of one key; :func:`settings_options` puts its value into the settings."""
    key = KEYS[path]

    def remember(context: click.Context, _option: click.Parameter, value: object) -> None:
        context.meta.setdefault(_FLAGS, {})[path] = value

    switch = isinstance(key.default, bool)
    return click.option(
        f"{key.flag}/--no-{key.flag.removeprefix('--')}" if switch else key.flag,
        type=click.Choice(key.choices) if key.choices else bool if switch else str,
        default=None,
        metavar=None if key.choices or switch else "TEXT",
        help=key.description,
        expose_value=False,
        callback=remember,
    )


def config_options(verb: Callable[P, R]) -> Callable[P, R]:
    """Give a verb the flags that all verbs share; :func:`resolved` reads them."""

    def remember(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
        context.meta[_FILE] = value

    for path in reversed(_SHARED):
        verb = setting_option(path)(verb)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        help=f"Configuration file; without it the one that {config.FILE_VARIABLE} names, if any.",
        expose_value=False,
        callback=remember,
    )(verb)


def resolved() -> tuple[config.Setting, ...]:
    """Return every key's value and origin, of the running verb's flags and this process's environment."""
    meta = click.get_current_context().meta
    return config.resolve(meta[_FILE], os.environ, meta[_FLAGS], os.geteuid())


def settings_options(verb: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Give a verb the shared flags, and as its first argument the ``Settings`` that all sources make.

    While the verb runs, logging goes to standard error as the settings say.
    """

    @config_options
    @functools.wraps(verb)
    def with_settings(*args: P.args, **kwargs: P.kwargs) -> R:
        settings = config.settings_of(resolved())
        with logs.configured(settings.log.level, settings.log.format, sys.stderr):
            return verb(settings, *args, **kwargs)

    return with_settings
