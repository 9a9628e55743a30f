"""One key of the configuration: its names, its type, and how a person writes its value.

The keys themselves are in :mod:`cgwatch.settings`; this module knows none of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, inspect, structs

from cgwatch import templates
from cgwatch.errors import ConfigError, UnitError
from cgwatch.units import (
    DURATION_PATTERN,
    exact_size,
    format_duration,
    parse_duration,
    parse_size,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Notation(Struct, frozen=True):
    """How a value is written where its type alone does not tell."""

    words: str
    """What an error calls it: ``a duration``."""
    pattern: str
    """A regular expression for JSON Schema; ``read`` decides."""
    examples: tuple[str, ...]
    read: Callable[[str], object]
    """Text to value; raises ``UnitError``."""
    write: Callable[[Any], str] = str


def _matching(words: str, pattern: str, *examples: str) -> Notation:
    """Make the notation of a text that stays a text and has to look like ``pattern``."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise UnitError(f"{shortened(text)} is not {words}; write it like {' or '.join(examples)}")
        return text

    return Notation(words, pattern, examples, read)


_ADDRESS_PATTERN = r"^(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?\]|[A-Za-z0-9_.-]*):([0-9]{1,5})$"
_MAX_PORT = 65535


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port``, ``[::1]:port`` or ``:port`` into host (without brackets) and port.

    An empty host means every interface; port 0 means one that the kernel picks. Raises ``UnitError``.
    """
    found = re.fullmatch(_ADDRESS_PATTERN, text)
    if found is None:
        raise UnitError(f"{shortened(text)} is not an address; write it like 127.0.0.1:9753 or [::1]:9753")
    port = int(found[3])
    if port > _MAX_PORT:
        raise UnitError(f"{shortened(text)} has a port above {_MAX_PORT}; choose a lower one")
    return found[1].strip("[]"), port


def _address(text: str) -> str:
    parse_address(text)
    return text


DURATION = Notation("a duration", DURATION_PATTERN, ("5s", "1m30s"), parse_duration, format_duration)
ADDRESS = Notation("an address", _ADDRESS_PATTERN, ("127.0.0.1:9753", "[::1]:9753", ":9753"), _address)
PATH = _matching("a path", r"^[^\u0000]+$", "/var/lib/cgwatch")
GROUP = _matching("the name or the number of a group", r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$", "docker", "999")
DOCKER_SOCKET = _matching(
    "a socket that cgwatch can use",
    r"^(unix:///[^\u0000]+|(tcp|https?)://[^\u0000/]+.*)$",
    "unix:///var/run/docker.sock",
    "tcp://127.0.0.1:2375",
)


SIZE = Notation("a size", r"^[0-9]+(\.[0-9]+)? ?[A-Za-z]*$", ("1MiB", "1048576B"), parse_size, exact_size)
MATCHER = _matching(
    "a criterion",
    r"^(cgroup|kind|runtime|name|image|label\.[^=]+)=.*$",
    "cgroup=/system.slice/*",
    "label.team=core*",
)
RESERVED_LABELS: Final = frozenset(
    """
    id name image pod namespace container cpu device direction failure_type interface le level major
    minor node node_id operation pagesize quantile scope state status target_node_id tcp_state thread_id
    core_id page_size type udp_state ulimit window boot_id machine_id system_uuid
    """.split()
)
"""Label names that series have already."""
_RENAME = _matching(
    "a container's label and its name on the page",
    r"^[^=]+=(?!__)[a-zA-Z_][a-zA-Z0-9_]*$",
    "com.docker.compose.service=service",
)


def _rename(text: str) -> object:
    name = str(_RENAME.read(text)).partition("=")[2]
    if name in RESERVED_LABELS:
        raise UnitError(f"{shortened(text)} gives a name that series have already; choose another")
    return text


LABEL_RENAME = structs.replace(_RENAME, read=_rename)
LABEL = _matching("a label and its value", r"^(?!__)[a-zA-Z_][a-zA-Z0-9_]*=.+$", "cluster=blue")
TEMPLATE = Notation("a text with placeholders", r"^(.|\n)*$", ("OOM kill of $name",), templates.check)
_URL = _matching(
    "a URL that cgwatch can use",
    r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?(/[!-~]*)?$",
    "https://alerts.example.org/cgwatch",
    "http://127.0.0.1:9093",
)


def _url(text: str) -> object:
    url = _URL.read(text)
    port = urlsplit(text).netloc.rpartition("]")[2].partition(":")[2]
    if port and not 0 < int(port) <= _MAX_PORT:
        raise UnitError(f"{shortened(text)} has no port from 1 to {_MAX_PORT}; choose one")
    return url


URL = structs.replace(_URL, read=_url)


class Key(Struct, frozen=True):
    """One key; ``path`` is dotted, as in ``sampling.interval``."""

    path: str
    kind: Any
    """The annotated type, as ``msgspec.convert`` takes it."""
    default: object
    description: str
    notation: Notation | None
    flag: str
    """Of the command line, with its dashes."""

    @property
    def environment(self) -> str:
        """Name of the environment's variable."""
        return "CGWATCH_" + self.path.replace(".", "_").upper()

    @property
    def many(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.type, inspect.VarTupleType)

    @property
    def nullable(self) -> bool:
        """Whether null is a value."""
        return isinstance(self.type, inspect.UnionType) and self.type.includes_none

    @property
    def choices(self) -> tuple[str, ...]:
        """Every value there is, for a key that takes one of a few words."""
        # Not of msgspec's description of the type, which sorts them.
        return get_args(get_args(self.kind)[0]) if isinstance(self.type, inspect.LiteralType) else ()

    @property
    def type(self) -> inspect.Type:
        """The type as msgspec describes it, without the ``Meta`` around it."""
        information = inspect.type_info(self.kind)
        return information.type if isinstance(information, inspect.Metadata) else information

    @property
    def expected(self) -> str:
        """What an error asks for: ``a duration from 100ms to 1h``."""
        return f"one of {', '.join(self.choices)}" if self.choices else _expected(self.type, self.notation)

    def read(self, text: str, place: str) -> object:
        """Turn text of the environment or the command line into the value; lists are separated by commas.

        Raises ``ConfigError`` with ``place``.
        """
        if self.nullable and not text:
            return None
        if self.many:
            return self.read_list([part.strip() for part in text.split(",") if part.strip()], place)
        if self.notation is None:
            return self.checked(text, shortened(text), place, lax=True)
        try:
            value = self.notation.read(text)
        except UnitError as error:
            raise ConfigError(place, str(error)) from error
        return self.checked(value, shortened(text), place)

    def read_list(self, texts: list[str], place: str) -> object:
        """Turn the items of a list into the value. Raises ``ConfigError`` with ``place``."""
        read = self.notation.read if self.notation else str
        for text in texts:
            try:
                read(text)
            except UnitError as error:
                raise ConfigError(place, str(error)) from error
        return self.checked(texts, "this list", place, lax=True)

    def checked(self, value: object, shown: str, place: str, *, lax: bool = False) -> object:
        """Return ``value`` as the key's type; ``lax`` takes ``"5"`` for 5 and ``"true"`` for true.

        Raises ``ConfigError`` that calls the value what ``shown`` says.
        """
        try:
            checked: object = msgspec.convert(value, self.kind, strict=not lax)
        except msgspec.ValidationError as error:
            raise ConfigError(place, f"{shown} is not {self.expected}") from error
        return checked

    def written(self, value: object) -> object:
        """Return ``value`` as it stands in YAML or JSON: ``5s`` for 5.0, a list for a tuple."""
        if isinstance(value, tuple):
            return list(value)
        return self.notation.write(value) if self.notation is not None and value is not None else value

    def schema(self) -> dict[str, object]:
        """JSON Schema of the value as it stands in the file."""
        schema: dict[str, object] = msgspec.json.schema(self.kind)
        if self.notation is not None and self.many:
            items = {"pattern": self.notation.pattern, "examples": list(self.notation.examples)}
            schema["items"] = {"type": "string", "minLength": 1, **items}
        elif self.notation is not None:
            schema = {
                "description": self.description,
                "type": ["string", "null"] if self.nullable else "string",
                "pattern": self.notation.pattern,
                "examples": list(self.notation.examples),
            }
        return schema | {"default": self.written(self.default)}


def keys_of(section: type[Struct], prefix: str = "") -> Iterator[Key]:
    """Every key of a section and of the sections in it, in the order of their fields."""
    for field in structs.fields(section):
        path = prefix + field.encode_name
        if is_section(field.type):
            yield from keys_of(field.type, f"{path}.")
            continue
        information = inspect.type_info(field.type)
        if not isinstance(information, inspect.Metadata):
            raise TypeError(f"{section.__name__}.{field.name} needs a Meta with a description")
        extra = information.extra or {}
        yield Key(
            path=path,
            kind=field.type,
            default=field.default,
            description=(information.extra_json_schema or {})["description"],
            notation=extra.get("notation"),
            flag=extra.get("flag", "--" + path.replace(".", "-").replace("_", "-").lower()),
        )


def is_section(kind: object) -> bool:
    """Whether a field's type is a section, not a key."""
    return isinstance(kind, type) and issubclass(kind, Struct)


def _expected(kind: inspect.Type, notation: Notation | None) -> str:
    words = notation.words if notation else "text"
    match kind:
        case inspect.UnionType():
            words = " or ".join(_expected(one, notation) for one in kind.types)
        case inspect.FloatType() if notation:
            words = f"{words} from {notation.write(kind.ge)} to {notation.write(kind.le)}"
        case inspect.IntType() if notation:
            words = f"{words} from {notation.write(kind.ge)} to {notation.write(kind.le)}"
        case inspect.IntType():
            words = f"a whole number from {kind.ge} to {kind.le}"
        case inspect.LiteralType():
            words = " or ".join(map(str, kind.values))
        case inspect.VarTupleType():
            words = f"a list, each item {words}" if notation else "a list of texts"
        case inspect.BoolType():
            words = "true or false"
        case inspect.NoneType():
            words = "null"
    return words
