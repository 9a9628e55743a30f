"""What a runtime says of its containers, whether they run or not.

A container keeps its series, with the same labels, from its creation to its removal: while it does not run
its ``id`` is the path of the cgroup that it had, or that the runtime is going to make. Each state is a series
of its own, so that none begins or ends when the state changes. With the container its series go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from cgwatch.metrics.families.base import Family, Number, Part, Row, Type
from cgwatch.metrics.text import label
from cgwatch.model import Description, Snapshot

_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
"""Docker's; another runtime's word is one series more."""
_HEALTH = ("starting", "healthy", "unhealthy")
_NOT_DESCRIBED = "for what no runtime's API describes"


@lru_cache(maxsize=64)
def _one_of(name: str, words: tuple[str, ...], said: str | None) -> tuple[Row, ...]:
    """Give a series for each word: 1 for what is said."""
    if not said:
        return ()
    known = words if said in words else (*words, said)
    return tuple((label(name, word), int(word == said)) for word in known)


def _states(said: Description, _snapshot: Snapshot) -> Iterable[Row]:
    return _one_of("state", _STATES, said.state)


def _health(said: Description, _snapshot: Snapshot) -> Iterable[Row]:
    return _one_of("status", _HEALTH, said.health)


def _said(
    name: str,
    kind: Type,
    help_text: str,
    source: str,
    value: Callable[[Description], Number | None],
    absent: str = "",
) -> Family:
    return Family(
        name,
        kind,
        help_text,
        "state",
        Part.DESCRIPTION,
        source,
        value=value,
        absent=f"{_NOT_DESCRIBED}; {absent}" if absent else _NOT_DESCRIBED,
    )


FAMILIES = (
    Family(
        "container_state",
        Type.GAUGE,
        "State of the container: 1 for the one that it is in, 0 for all others.",
        "state",
        Part.DESCRIPTION,
        "the runtime's API",
        rows=_states,
        labels=("state",),
        absent=_NOT_DESCRIBED,
    ),
    _said(
        "container_restarts_total",
        Type.COUNTER,
        "Starts by the restart policy; begins anew when a person starts or restarts the container.",
        "the runtime's API: RestartCount",
        lambda said: said.restart_count,
    ),
    _said(
        "container_exit_code",
        Type.GAUGE,
        "Exit code of the last run that ended.",
        "the runtime's API: State.ExitCode and the events die",
        lambda said: said.exit_code,
        "until a run has ended that cgwatch saw, or that was the last",
    ),
    _said(
        "container_finished_time_seconds",
        Type.GAUGE,
        "When the last run that ended did so, in seconds since the epoch.",
        "the runtime's API: State.FinishedAt",
        lambda said: said.finished_seconds,
        "until a run has ended",
    ),
    _said(
        "container_oom_killed",
        Type.GAUGE,
        "Whether the runtime says that the container ran out of memory in its last run (1) or not (0).",
        "the runtime's API: State.OOMKilled",
        lambda said: int(said.oom_killed),
    ),
    Family(
        "container_health_status",
        Type.GAUGE,
        "Result of the health check: 1 for the one that holds, 0 for all others.",
        "state",
        Part.DESCRIPTION,
        "the runtime's API",
        rows=_health,
        labels=("status",),
        absent=f"{_NOT_DESCRIBED}; without a health check",
    ),
    Family(
        "cgwatch_stopped_containers_left_out",
        Type.GAUGE,
        "Containers that do not run and are not shown, the oldest, as there are too many.",
        "state",
        Part.SNAPSHOT,
        "the runtime's API lists more than 1000",
        rows=lambda _part, snapshot: [("", snapshot.stopped_left_out)],
    ),
)
