"""A page read back by prometheus_client, and the same series by a plain walk over the snapshot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from cgwatch.metrics.families.base import Part
from cgwatch.metrics.negotiation import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from cgwatch.metrics.families.base import Family, Number
    from cgwatch.model import Container, Sample, Snapshot

Series: TypeAlias = tuple[str, frozenset[tuple[str, str]]]

# prometheus_client's parser gives every counter this suffix; Prometheus does not.
_ON_THE_PAGE = {f"{name}_total": name for name in ("container_memory_failcnt", "container_hugetlb_failcnt")}

_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"', re.DOTALL)
_NUMBERED = re.compile("\ufffd(.{4})")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def series_of(page: str, form: Format) -> dict[Series, float]:
    """Return the value of each series; a page that is not in its format, or has one twice, raises."""
    found: dict[Series, float] = {}
    parse = parse_text if form is Format.TEXT else parse_openmetrics
    for family in parse(page):
        for sample in family.samples:
            series = _ON_THE_PAGE.get(sample.name, sample.name), frozenset(sample.labels.items())
            if series in found:
                raise AssertionError(f"twice on the page: {series}")
            found[series] = float(sample.value)
    return found


def restored(value: str) -> str:
    """Undo what ``escape`` does to text that is no UTF-8."""
    return _NUMBERED.sub(lambda match: chr(int(match[1], 16)), value)


def types_of(page: str) -> dict[str, str]:
    """Return the type of each family, by the name that its TYPE line has."""
    return dict(_TYPE.findall(page))


def walk(
    snapshot: Snapshot, families: Iterable[Family], labels_of: Callable[[Container], Mapping[str, str]]
) -> dict[Series, float]:
    """Return what a page has to say: each row of the catalogue for each container, one by one."""
    return {
        (family.name, frozenset({**labels, **_decoded(more)}.items())): float(value)
        for family in families
        for labels, more, value in _rows(family, snapshot, labels_of)
        if value is not None
    }


def _rows(
    family: Family, snapshot: Snapshot, labels_of: Callable[[Container], Mapping[str, str]]
) -> Iterator[tuple[Mapping[str, str], str, Number | None]]:
    if family.part is Part.SNAPSHOT:
        for more, value in family.rows(None, snapshot) if family.rows else ():
            yield {}, more, value
        return
    for sample in (*snapshot.samples, *snapshot.stopped):
        part = _part(sample, family.part)
        if part is None:
            continue
        labels = labels_of(sample.container)
        if family.value is not None:
            yield labels, "", family.value(part)
        for more, value in family.rows(part, snapshot) if family.rows else ():
            yield labels, more, value


def _part(sample: Sample, part: Part) -> Any:
    if part is Part.SAMPLE:
        return sample if sample.container.cgroup.inode else None
    found: Any = sample
    for name in part.split("."):
        found = getattr(found, name, None)
    return found


def _decoded(labels: str) -> dict[str, str]:
    return {
        name: _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value)
        for name, value in _LABEL.findall(labels)
    }
