"""An OOM kill as a message. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import structs

from cgwatch import templates
from cgwatch.notify.message import OOM_KILL, Held, Message, storable
from cgwatch.notify_settings import Templates
from cgwatch.oom.case import moment_of, name_of
from cgwatch.oom.evidence import Evidence
from cgwatch.oom.kill import OomKill
from cgwatch.oom.tally import series_of


def message_of(
    kill: OomKill,
    evidence: Evidence | None,
    earlier: Sequence[OomKill] = (),
    *,
    node: str,
    wording: Templates,
    held: Held | None = None,
) -> Message:
    """Say what happened, why, and what to do; ``earlier``: kills of the same holder, the newest first."""
    # Half a megabyte, which an agent takes when there is the first kill to tell of.
    from cgwatch.oom.explain import explain  # noqa: PLC0415 - as above

    said = explain(kill, evidence, earlier)
    facts = tuple(storable(fact.text) for fact in said.facts)
    advice = tuple(storable(each.text) for each in said.advice)
    holder = kill.holder
    values = {
        "kind": OOM_KILL,
        "number": str(kill.number),
        "node": node,
        "name": container_of(kill) or "an unknown process",
        "runtime": str(holder.owner.runtime) if holder else "",
        "image": storable(holder.image or "") if holder else "",
        "cause": str(kill.cause),
        "scope": str(kill.scope),
        "command": storable(kill.victim.command) if kill.victim else "",
        "summary": storable(said.summary),
        "facts": " ".join(facts),
        "advice": " ".join(advice),
    }
    text = templates.fill(wording.text, values)
    if held is not None:
        text = f"{text} ({words_of(held)})".strip()
    return Message(
        kind=OOM_KILL,
        key=key_of(kill),
        node=node,
        title=" ".join(templates.fill(wording.title, values).split()),
        text=text,
        seconds=moment_of(kill),
        container=container_of(kill),
        labels=labels_of(kill),
        number=kill.number,
        kills=kill.count,
        scope=str(kill.scope),
        summary=values["summary"],
        facts=facts,
        advice=advice,
        held=held,
    )


def key_of(kill: OomKill) -> str:
    """Return what names a kill for good: after a database was lost numbers begin anew, but not the time."""
    return f"{OOM_KILL}-{kill.boot_id}-{kill.number}-{kill.found_seconds:.3f}"


def container_of(kill: OomKill) -> str:
    """Return whom a kill is spoken of as, and by whose rate it is limited; empty where nobody knows."""
    return storable(name_of(kill)) if kill.holder or kill.path else ""


def labels_of(kill: OomKill) -> dict[str, str]:
    """Return the labels that say whose a kill is and why it happened, without the empty ones.

    ``scope`` is no label: a container whose child and main process are killed is in one trouble, not in two.
    """
    labels = structs.asdict(series_of(kill))
    del labels["scope"]
    return {name: storable(str(value)) for name, value in labels.items() if value}


def words_of(held: Held) -> str:
    """Say what was held back."""
    since = datetime.fromtimestamp(held.since_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"and {held.count} more since {since}"
