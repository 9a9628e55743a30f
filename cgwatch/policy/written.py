"""A policy file as it is written: the keys, for the check of its shape and for its JSON Schema. Pure.

What the values mean is said by ``conditions``, ``actions`` and ``language``, which make ``rules`` of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct, field, inspect

from cgwatch.errors import ConfigError
from cgwatch.policy.spot import Spot
from cgwatch.units import shortened

API_VERSION = "cgwatch/v1"

Text: TypeAlias = str | int | float
"""A value with its unit; that it may look like a number is told where it is read."""
Globs: TypeAlias = str | tuple[str, ...]
Mode: TypeAlias = Literal["observe", "dry-run", "enforce"]
Leaving: TypeAlias = Literal["restore", "keep"]
Amounts: TypeAlias = Text | tuple[Text, ...]


def _meta(description: str) -> Meta:
    return Meta(description=description)


class _Form(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """A mapping of the file."""


class Schedule(_Form, frozen=True):
    """When something is in force."""

    cron: Annotated[str, _meta("Minute, hour, day, month, weekday: when a window opens.")]
    for_: Annotated[Text | None, _meta("How long it stays open, such as 8h.")] = field(
        name="for", default=None
    )
    tz: Annotated[str, _meta("Time zone, such as Europe/Berlin.")] = "UTC"


class When(_Form, frozen=True):
    """A comparison, or a group of them."""

    metric: Annotated[str | None, _meta("What is looked at, such as memory.usage.ratio.")] = None
    above: Annotated[Text | None, _meta("With its unit: 90%, 512MiB, 10MiB/s, 5m; counts and CPUs bare.")] = (
        None
    )
    below: Annotated[Text | None, _meta("As above.")] = None
    window: Annotated[Text | None, _meta("Of a metric over time, such as 10m.")] = None
    for_: Annotated[Text | None, _meta("How long it has to hold, such as 30s.")] = field(
        name="for", default=None
    )
    all: Annotated[tuple[When, ...] | None, _meta("All of these.")] = None
    any: Annotated[tuple[When, ...] | None, _meta("At least one of these.")] = None
    not_: Annotated[When | None, _meta("Not this.")] = field(name="not", default=None)


class Do(_Form, frozen=True):
    """One action: exactly one of set, raise, lower, step, reclaim, freeze, throttle, notify."""

    set: Annotated[str | None, _meta("The limit that is set, such as pids.max or cpus.")] = None
    raise_: Annotated[str | None, _meta("The limit that is raised.")] = field(name="raise", default=None)
    lower: Annotated[str | None, _meta("The limit that is lowered.")] = None
    step: Annotated[str | None, _meta("The limit that goes toward a value.")] = None
    reclaim: Annotated[Text | None, _meta("Share of the memory's usage that is reclaimed, such as 5%.")] = (
        None
    )
    freeze: Annotated[Literal[True] | None, _meta("Stop all processes, until the rule ends.")] = None
    throttle: Annotated[str | None, _meta("Block device, as MAJOR:MINOR or /dev/NAME.")] = None
    notify: Annotated[str | None, _meta("What somebody is told.")] = None
    to: Annotated[Text | None, _meta("Of set: the value.")] = None
    toward: Annotated[Text | None, _meta("Of step: the value, or baseline.")] = None
    by: Annotated[Text | None, _meta("By how much: 20% of the present value, or an amount.")] = None
    floor: Annotated[
        Amounts | None, _meta("Never below: a value, 50% of baseline, 10% of host; of several all hold.")
    ] = None
    ceiling: Annotated[Amounts | None, _meta("Never above, as floor.")] = None
    max: Annotated[Text | None, _meta("Of reclaim: bytes at most.")] = None
    read: Annotated[Text | None, _meta("Of throttle: bytes read, such as 20MiB/s.")] = None
    write: Annotated[Text | None, _meta("Of throttle: bytes written.")] = None
    reads: Annotated[Text | None, _meta("Of throttle: reads, such as 500/s.")] = None
    writes: Annotated[Text | None, _meta("Of throttle: writes.")] = None


class Else(_Form, frozen=True):
    """What happens after a rule has ended."""

    step: Annotated[Text, _meta("Limits go back to the baseline by this share of themselves, each cooldown.")]


class Rule(_Form, frozen=True):
    """When, and what then."""

    name: str
    when: When
    do: Annotated[tuple[Do, ...], Meta(min_length=1)]
    clear: Annotated[When | None, _meta("When it ends; without: when `when` no longer holds.")] = None
    else_: Else | None = field(name="else", default=None)
    cooldown: Annotated[Text | None, _meta("Between two times that it acts on a container.")] = None
    ttl: Annotated[Text | None, _meta("How long it holds at most.")] = None
    schedule: Schedule | None = None
    mode: Mode | None = None
    priority: int | None = None


class Match(_Form, frozen=True):
    """Which containers: all that is said has to be true. Texts are globs; of a list one is enough."""

    runtime: Globs = ()
    kind: Annotated[Globs, _meta("container, unless it is said: unit, pod, qos, plain.")] = ()
    name: Globs = ()
    image: Globs = ()
    namespace: Globs = ()
    pod: Globs = ()
    cgroup: Annotated[Globs, _meta("The path, such as /system.slice/*.")] = ()
    unit: Annotated[Globs, _meta("The systemd unit, such as nginx.service.")] = ()
    labels: dict[str, str] = {}
    not_labels: Annotated[dict[str, str], _meta("No such label, or another value.")] = {}


class Policy(_Form, frozen=True):
    """What is wanted of some containers."""

    name: str
    match: Match
    limits: Annotated[
        dict[str, Text], _meta("What limits are to be at all times, by the kernel's name or cpus.")
    ] = {}
    rules: tuple[Rule, ...] = ()
    schedule: Schedule | None = None
    mode: Mode | None = None
    priority: Annotated[int, _meta("For each limit the highest wins.")] = 0
    cooldown: Text | None = None
    ttl: Text | None = None
    on_conflict: Literal["reassert", "yield"] | None = None
    on_exit: Leaving | None = None
    on_rule_removed: Leaving | None = None


class HostReserve(_Form, frozen=True):
    """What the node keeps for itself."""

    memory: Annotated[Text, _meta("10% of the node's memory, or 2GiB.")] = "0%"
    cpus: Annotated[Text, _meta("CPUs, such as 1.")] = 0


class BelowUsage(_Form, frozen=True):
    """What stays free below a limit that is lowered: the larger of the two."""

    margin: Text = "10%"
    min: Text = "32MiB"


class Guards(_Form, frozen=True):
    """Bounds of all that policies do."""

    host_reserve: HostReserve = HostReserve()
    never_lower_below_usage: BelowUsage = BelowUsage()
    max_changes_per_minute: Annotated[int, Meta(ge=1, le=10_000)] = 20
    protect: Annotated[tuple[str, ...], _meta("Globs of cgroups' paths and units' names.")] = ()


class Defaults(_Form, frozen=True):
    """What policies have that say nothing else."""

    cooldown: Text = "60s"
    ttl: Text | None = None
    on_conflict: Literal["reassert", "yield"] = "reassert"
    on_exit: Leaving = "restore"
    on_rule_removed: Leaving = "restore"


class Document(_Form, frozen=True):
    """Policies of cgwatch."""

    api_version: Literal["cgwatch/v1"]
    policies: tuple[Policy, ...] = ()
    mode: Annotated[Mode, _meta("How far rules go that say nothing else.")] = "dry-run"
    defaults: Defaults = Defaults()
    guards: Guards = Guards()


def policy_schema() -> dict[str, object]:
    """JSON Schema (2020-12) of a policy file, for editors."""
    (reference,), components = msgspec.json.schema_components((Document,), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Policies of cgwatch",
        **reference,
        "$defs": components,
    }


def document_of(spot: Spot) -> tuple[Document | None, tuple[ConfigError, ...]]:
    """Return the file in its shape; ``None`` and what is wrong, where it has not got it."""
    if unknown := tuple(_unknown_keys(spot, Document)):
        return None, unknown
    try:
        return msgspec.convert(spot.placed.plain(), Document), ()
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `")
        return None, (spot.along(path.rstrip("`")).error(_advice(problem)),)


def _advice(problem: str) -> str:
    words = problem.replace("`", '"')
    if "missing required field" in problem:
        name = problem.rpartition("field ")[2].strip("`")
        example = f": {API_VERSION}" if name == "apiVersion" else ""
        return f"has no {name}; write {name}{example}"
    if problem.startswith("Invalid enum value"):
        word = words.removeprefix("Invalid enum value ")
        return f"{word} is not known here; cgwatch policy schema has the words that are"
    if "got `null`" in problem:
        return "has no value; write one, or take the key out"
    if problem.startswith("Expected `str`"):
        return f"{words}; put it in quotes"
    return f"{words}; correct it"


def _unknown_keys(spot: Spot, form: type[Struct]) -> Iterator[ConfigError]:
    """Yield the keys that a form has not got, here and in all that is below."""
    known = {each.encode_name: each.type for each in _fields(form)}
    for name, entry in spot.entries():
        if name not in known:
            closest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            yield entry.error(
                f"{shortened(name)} is not known here; did you mean {closest}? Known are {', '.join(known)}"
            )
        elif inner := _form_in(known[name]):
            for item in entry.items():
                yield from _unknown_keys(item, inner)


def _fields(form: type[Struct]) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(form)
    assert isinstance(described, inspect.StructType)  # noqa: S101 - it is one
    return described.fields


def _form_in(kind: inspect.Type) -> Any:  # noqa: ANN401 - msgspec's word for a class
    match kind:
        case inspect.StructType(cls=form):
            return form
        case inspect.VarTupleType(item_type=inner) | inspect.Metadata(type=inner):
            return _form_in(inner)
        case inspect.UnionType(types=types):
            return next(filter(None, map(_form_in, types)), None)
        case _:
            return None
