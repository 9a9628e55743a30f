"""Whom to tell of what, and how: the section ``notify`` of the settings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from cgwatch.keys import DURATION, LABEL, PATH, TEMPLATE, URL


class OomNotices(Struct, frozen=True, forbid_unknown_fields=True):
    """When to tell of an OOM kill."""

    after_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="How long a kill waits for its evidence before it is told, at most.",
            extra={"notation": DURATION},
        ),
    ] = field(name="after", default=5.0)


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """How often one container may be spoken of; what is held back is counted, and told at the end."""

    messages: Annotated[int, Meta(ge=1, le=10_000, description="So many messages in each interval.")] = 1
    interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86400,
            description="The interval.",
            extra={"notation": DURATION},
        ),
    ] = field(name="interval", default=300.0)


class Queue(Struct, frozen=True, forbid_unknown_fields=True):
    """What waits for a receiver that does not answer; it is kept in the state directory."""

    messages: Annotated[
        int,
        Meta(
            ge=1, le=100_000, description="So many for each receiver; the oldest goes first, and is counted."
        ),
    ] = 1000
    keep_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=30 * 86400,
            description="How long a message is tried. A kill that was found longer ago is not told.",
            extra={"notation": DURATION},
        ),
    ] = field(name="keep", default=86400.0)


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """Pauses between attempts: each twice as long as the one before, by chance up to half of it shorter."""

    first_seconds: Annotated[
        float,
        Meta(ge=0.01, le=3600, description="The first pause.", extra={"notation": DURATION}),
    ] = field(name="first", default=1.0)
    longest_seconds: Annotated[
        float,
        Meta(
            ge=0.01,
            le=86400,
            description="The longest, also where a receiver asks for more (Retry-After).",
            extra={"notation": DURATION},
        ),
    ] = field(name="longest", default=300.0)


class Templates(Struct, frozen=True, forbid_unknown_fields=True):
    """The words of a message; $name, $node, $summary, $facts, $advice and others stand for what they say."""

    title: Annotated[str, Meta(description="One line.", extra={"notation": TEMPLATE})] = (
        "OOM kill of $name on $node"
    )
    text: Annotated[str, Meta(description="All else.", extra={"notation": TEMPLATE})] = (
        "$summary. $facts $advice"
    )


class LogChannel(Struct, frozen=True, forbid_unknown_fields=True):
    """Into cgwatch's own log, which has a line for each kill at once, but not why."""

    enabled: Annotated[bool, Meta(description="Write the messages to the log.")] = False


class Webhook(Struct, frozen=True, forbid_unknown_fields=True):
    """To any program over HTTP: JSON by POST, signed where there is a secret."""

    urls: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Each of them is told.", extra={"notation": URL}),
    ] = ()
    secret_file: Annotated[
        str | None,
        Meta(
            description="File with the secret that signs messages (HMAC-SHA256); null: they are not signed.",
            extra={"notation": PATH},
        ),
    ] = None


class Alertmanager(Struct, frozen=True, forbid_unknown_fields=True):
    """To Alertmanager, by its API v2: an alert fires for each container, and is resolved."""

    urls: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Every member of the cluster, without /api/v2: each is told.", extra={"notation": URL}
        ),
    ] = ()
    labels: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Further labels of every alert, as NAME=VALUE.", extra={"notation": LABEL}),
    ] = ("severity=warning",)
    resolve_after_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=30 * 86400,
            description="How long an alert fires after the last kill.",
            extra={"notation": DURATION},
        ),
    ] = field(name="resolve_after", default=900.0)


class Notify(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to tell of OOM kills; `cgwatch notify test` tries it out."""

    node: Annotated[
        str | None, Meta(description="What this node is called in messages; null: its host name.")
    ] = None
    timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="How long one attempt may take, from beginning to end.",
            extra={"notation": DURATION},
        ),
    ] = field(name="timeout", default=10.0)
    oom: OomNotices = OomNotices()
    rate_limit: RateLimit = RateLimit()
    queue: Queue = Queue()
    retry: Retry = Retry()
    templates: Templates = Templates()
    log: LogChannel = LogChannel()
    webhook: Webhook = Webhook()
    alertmanager: Alertmanager = Alertmanager()
