"""YAML file, environment and flags to frozen ``Settings``; a later source overrides an earlier one.

Every error is a ``ConfigError`` whose place is where to correct it: ``cgwatch.yaml:12: $.sampling.interval``,
the variable ``CGWATCH_SAMPLING_INTERVAL``, or the flag ``--interval``.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from msgspec import Struct

from cgwatch.errors import ConfigError
from cgwatch.keys import Key, parse_address
from cgwatch.placed_yaml import MAX_BYTES, Placed, read_yaml
from cgwatch.settings import KEYS, Settings, assemble, schema
from cgwatch.units import quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Setting", "Settings", "load", "parse_address", "render", "resolve", "schema", "settings_of"]

FILE_VARIABLE = "CGWATCH_CONFIG"
"""Names the file where ``--config`` does not."""

# Kubernetes (and docker's old links) set these in a pod whose namespace has a Service called cgwatch.
_SERVICE_LINK = re.compile(
    r"CGWATCH_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


_DEFAULT = "default"
_DOCKER_SOCKET = "discovery.docker.socket"


class Setting(Struct, frozen=True):
    """One effective value and where it came from."""

    key: Key
    value: object
    origin: str
    """``default``, ``cgwatch.yaml:12``, ``CGWATCH_LISTEN`` or ``--listen``."""


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object], uid: int) -> Settings:
    """Return the settings that a file, the environment and flags make together.

    ``path`` ``None`` means the file that ``CGWATCH_CONFIG`` names, or no file. ``flags`` maps a dotted path
    (``sampling.interval``) to text as typed or to the value itself; ``None`` is a flag that was not given.
    ``uid`` is the effective user's. Raises ``ConfigError`` for the first thing that is wrong.
    """
    return settings_of(resolve(path, environ, flags, uid))


def settings_of(resolved: Iterable[Setting]) -> Settings:
    """Make ``Settings`` of what :func:`resolve` found."""
    return assemble({setting.key.path: setting.value for setting in resolved})


def resolve(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object], uid: int
) -> tuple[Setting, ...]:
    """Return every key with its effective value and origin; arguments and errors as for :func:`load`."""
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    sources = (
        _defaults(environ, uid),
        _from_file(path) if path else (),
        _from_environment(environ),
        _from_flags(flags),
    )
    found = {setting.key.path: setting for source in sources for setting in source}
    docker = found[_DOCKER_SOCKET]
    if docker.origin == _DEFAULT and environ.get("DOCKER_HOST"):
        found[_DOCKER_SOCKET] = _of_text(docker.key, environ["DOCKER_HOST"], "DOCKER_HOST")
    return tuple(found[path] for path in KEYS)


def default_state_dir(uid: int, environ: Mapping[str, str]) -> str:
    """Return where state is kept unless a source says otherwise; ``uid`` is the effective user's.

    Root has the system's place. Others have what the XDG base directory specification gives them, as far as
    their environment has a home; a relative ``XDG_STATE_HOME`` is ignored, as it demands.
    """
    if uid != 0 and environ.get("XDG_STATE_HOME", "").startswith("/"):
        return f"{environ['XDG_STATE_HOME'].rstrip('/')}/cgwatch"
    if uid != 0 and environ.get("HOME", "").startswith("/"):
        return f"{environ['HOME'].rstrip('/')}/.local/state/cgwatch"
    return str(KEYS["state_dir"].default)


def render(resolved: Iterable[Setting]) -> str:
    """Write effective settings as a configuration file, with the origin of each value behind it."""
    lines: list[str] = []
    sections: list[str] = []
    for setting in resolved:
        *above, name = setting.key.path.split(".")
        for depth, section in enumerate(above):
            if sections[: depth + 1] != above[: depth + 1]:
                lines.append(f"{'  ' * depth}{section}:")
        sections = above
        lines.append(f"{'  ' * len(above)}{name}: {_flow(setting)}  # {quoted(setting.origin)[1:-1]}")
    return "\n".join(lines) + "\n"


def _flow(setting: Setting) -> str:
    value = setting.key.written(setting.value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("...\n").rstrip("\n")


def _defaults(environ: Mapping[str, str], uid: int) -> Iterator[Setting]:
    for key in KEYS.values():
        value = default_state_dir(uid, environ) if key.path == "state_dir" else key.default
        yield Setting(key, value, _DEFAULT)


def _from_file(path: Path) -> Iterator[Setting]:
    document = read_yaml(_read(path), str(path))
    return _of_section(document, "", str(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error


def _of_section(section: Placed, prefix: str, file: str) -> Iterator[Setting]:
    if section.value is None:  # a section whose keys are all commented out
        return
    where = f"$.{prefix}".rstrip(".")
    if not isinstance(section.value, dict):
        raise ConfigError(f"{file}:{section.line}: {where}", "is a section; write its keys below it")
    names = dict.fromkeys(
        known.removeprefix(prefix).split(".")[0] for known in KEYS if known.startswith(prefix)
    )
    for name, placed in section.value.items():
        path = prefix + name
        if name not in names:
            closest, all_names = _closest(name, names), ", ".join(names)
            raise ConfigError(
                f"{file}:{placed.line}: {where}",
                f"{shortened(name)} is not known here; did you mean {closest}? Known are {all_names}",
            )
        if path in KEYS:
            yield Setting(KEYS[path], _of_placed(KEYS[path], placed, file), f"{file}:{placed.line}")
        else:
            yield from _of_section(placed, f"{path}.", file)


def _of_placed(key: Key, placed: Placed, file: str) -> object:
    place = f"{file}:{placed.line}: $.{key.path}"
    if isinstance(placed.value, dict):
        raise ConfigError(place, f"a mapping is not {key.expected}")
    if isinstance(placed.value, list):
        if not key.many:
            raise ConfigError(place, f"a list is not {key.expected}")
        return key.checked(_texts(placed.value, key, file), "this list", place)
    if placed.value is None and not key.nullable:
        raise ConfigError(place, f"has no value; write {key.expected}, or take the key out")
    # A path may look like a number, and a duration without a unit is told to take one.
    if key.notation and isinstance(placed.value, str | int | float) and not isinstance(placed.value, bool):
        return key.read(placed.text, place)
    return key.checked(placed.value, shortened(placed.text), place)


def _texts(items: list[Placed], key: Key, file: str) -> list[str]:
    for index, item in enumerate(items):
        place = f"{file}:{item.line}: $.{key.path}[{index}]"
        if not item.text:
            raise ConfigError(place, "is no text, or an empty one; write one or take the item out")
        if not isinstance(item.value, str):
            raise ConfigError(place, f"{item.text} is not text; put it in quotes")
        key.read_list([item.text], place)
    return [item.text for item in items]


def _from_environment(environ: Mapping[str, str]) -> Iterator[Setting]:
    keys = {key.environment: key for key in KEYS.values()}
    for name in sorted(environ):
        if name in keys:
            yield _of_text(keys[name], environ[name], name)
        elif name.startswith("CGWATCH_") and name != FILE_VARIABLE and not _SERVICE_LINK.fullmatch(name):
            closest = _closest(name, (*keys, FILE_VARIABLE))
            raise ConfigError(name, f"no variable of cgwatch has this name; did you mean {closest}?")


def _from_flags(flags: Mapping[str, object]) -> Iterator[Setting]:
    for path, value in flags.items():
        if value is None:
            continue
        if path not in KEYS:
            raise ConfigError(path, "is no key of the configuration")
        key = KEYS[path]
        if isinstance(value, str):
            yield _of_text(key, value, key.flag)
        else:
            yield Setting(key, key.checked(value, shortened(str(value)), key.flag), key.flag)


def _of_text(key: Key, text: str, place: str) -> Setting:
    return Setting(key, key.read(text, place), place)


def _closest(name: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
