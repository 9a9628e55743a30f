"""Pages of the text format, put together: every series of some containers with its values over time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

COMPARED = ("container_", "machine_", "cadvisor_")
"""How the names of the families begin that are compared; the exporters' own are their own matter."""
_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_WHOSE = re.compile(r"id|name|image|container_(label|env)_.*")

Labels = frozenset[tuple[str, str]]


class Series(Struct, frozen=True):
    """A series: its family, whose it is ("" for the machine's), and its labels beyond those."""

    family: str
    whose: str
    """The container's name, or the cgroup's path."""
    labels: Labels


class Observed(Struct, frozen=True):
    """What one exporter said of the containers looked at."""

    types: dict[str, str]
    points: dict[Series, dict[float, float]]
    """Values by the moment they were sampled, in seconds since the epoch."""
    timeless: set[Series]
    """Series without a time of their own: they hold at the moment of the scrape, as settings do."""
    identities: dict[str, set[Labels]]
    """The labels that say whose a series is, as they stand at the series of each container."""

    def of(self, family: str) -> dict[Series, dict[float, float]]:
        """Give the series of one family."""
        return {series: points for series, points in self.points.items() if series.family == family}

    def samples(self) -> float:
        """Give how often a container was sampled, on average."""
        times = [len(points) for series, points in self.of("container_cpu_user_seconds_total").items()]
        return sum(times) / max(1, len(times))

    def families(self) -> set[str]:
        """Give the names of all families with a series."""
        return {series.family for series in self.points}


def nothing_yet() -> Observed:
    """Give an observation without a page."""
    return Observed({}, {}, set(), {})


def add_page(seen: Observed, text: str, moment_seconds: float, names: Mapping[str, str]) -> None:
    """Add what a page says of the machine, and of these cgroups: path -> what to call it.

    ``moment_seconds`` is when it was sampled, for the series that do not say so.
    """
    types = {name: kind for name, kind in _TYPE.findall(text) if name.startswith(COMPARED)}
    seen.types.update(types)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The library gives every counter its _total, as OpenMetrics wants it.
            name = sample.name if sample.name in types else sample.name.removesuffix("_total")
            cgroup = sample.labels.get("id", "")
            if name not in types or (cgroup and cgroup not in names):
                continue
            whose = names[cgroup] if cgroup else ""
            said = frozenset(item for item in sample.labels.items() if item[1])
            identity = frozenset(item for item in said if cgroup and _WHOSE.fullmatch(item[0]))
            series = Series(name, whose, said - identity)
            if cgroup:
                seen.identities.setdefault(whose, set()).add(identity)
            if sample.timestamp is None:
                seen.timeless.add(series)
            moment = moment_seconds if sample.timestamp is None else float(sample.timestamp)
            seen.points.setdefault(series, {})[moment] = sample.value
