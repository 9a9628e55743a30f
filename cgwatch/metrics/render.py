"""A snapshot as a page of the exposition formats.

prometheus_client writes the same page ten times slower, since it keeps labels as dictionaries and encodes
them for each line; and it renames counters without ``_total``. Here the labels of a container are encoded
once in its life, and a family is written in one pass over the containers that have its part.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from cgwatch.metrics.families.base import Family, Part, Type
from cgwatch.metrics.labels import CadvisorScheme, Scheme
from cgwatch.metrics.negotiation import Format
from cgwatch.model import Container, Kind, Sample, Snapshot


class Renderer:
    """Writes pages. Keeps the encoded labels of the containers between them; not thread-safe."""

    def __init__(
        self,
        families: tuple[Family, ...],
        *,
        scheme: Scheme | None = None,
        timestamps: bool = False,
    ) -> None:
        """``scheme`` chooses the labels of containers, without it cAdvisor's with no container labels."""
        self._families = families
        self._scheme: Scheme = scheme or CadvisorScheme()
        self._timestamps = timestamps
        self._blocks: dict[int, tuple[Container, str]] = {}
        self._survey: Hashable = None

    def render(self, snapshot: Snapshot, form: Format, names: frozenset[str] = frozenset()) -> str:
        """Return the page without its end marker; ``names`` are the families wanted, empty for all."""
        return "".join(self.families(snapshot, form, names))

    def families(
        self, snapshot: Snapshot, form: Format, names: frozenset[str] = frozenset()
    ) -> Iterator[str]:
        """Yield the text of one family after the other: a whole page may be megabytes."""
        samples = [sample for sample in snapshot.samples if not _is_left_out(sample.container)]
        blocks = self._encode([sample.container for sample in samples])
        stamp = self._stamp(snapshot, form)
        columns = _columns(samples, blocks)
        for family in self._families:
            if names and not _is_wanted(family, form, names):
                continue
            lines = _lines(family, columns, snapshot, stamp)
            if lines:
                yield _header(family, form) + "".join(lines)

    def _stamp(self, snapshot: Snapshot, form: Format) -> str:
        """The time of the sample, behind each value: milliseconds in the text format, else seconds."""
        if not self._timestamps:
            return ""
        milliseconds = int(snapshot.time_seconds * 1000)
        return f" {milliseconds}" if form is Format.TEXT else f" {milliseconds / 1000}"

    def _encode(self, containers: list[Container]) -> list[str]:
        """Return the encoded labels of each container."""
        known = self._blocks
        if any(id(container) not in known for container in containers) or len(known) != len(containers):
            survey = self._scheme.survey(containers)
            if survey != self._survey:
                self._survey, known = survey, {}
            self._blocks = {
                id(container): known.get(id(container)) or (container, self._scheme.encode(container, survey))
                for container in containers
            }
        return [self._blocks[id(container)][1] for container in containers]


def _is_left_out(container: Container) -> bool:
    """systemd makes a cgroup for each mount; nothing runs in it."""
    unit = container.owner.unit
    return container.owner.kind is Kind.UNIT and unit is not None and unit.endswith(".mount")


Column = tuple[list[str], list[object]]
"""Labels of the containers that have a part, and the parts."""


def _columns(samples: list[Sample], blocks: list[str]) -> dict[Part, Column]:
    columns: dict[Part, Column] = {Part.SAMPLE: (blocks, list(samples))}
    for part in Part:
        if part in (Part.SAMPLE, Part.SNAPSHOT):
            continue
        name, _, inner = part.partition(".")
        values = [getattr(sample, name, None) for sample in samples]
        if inner:
            values = [getattr(value, inner, None) for value in values]
        columns[part] = (
            [block for block, value in zip(blocks, values, strict=True) if value is not None],
            [value for value in values if value is not None],
        )
    return columns


def _lines(family: Family, columns: Mapping[Part, Column], snapshot: Snapshot, stamp: str) -> list[str]:
    name = family.name
    if family.part is Part.SNAPSHOT:
        rows = family.rows(None, snapshot) if family.rows else ()
        return [
            f"{name}{{{more}}} {value}{stamp}\n" if more else f"{name} {value}{stamp}\n"
            for more, value in rows
            if value is not None
        ]
    blocks, parts = columns[family.part]
    if family.value is not None:
        return [
            f"{name}{{{block}}} {value}{stamp}\n"
            for block, value in zip(blocks, map(family.value, parts), strict=True)
            if value is not None
        ]
    if family.rows is None:
        return []
    make_rows = family.rows
    return [
        f"{name}{{{block},{more}}} {value}{stamp}\n" if more else f"{name}{{{block}}} {value}{stamp}\n"
        for block, part in zip(blocks, parts, strict=True)
        for more, value in make_rows(part, snapshot)
        if value is not None
    ]


def _header(family: Family, form: Format) -> str:
    name, kind = family.name, str(family.type)
    if form is Format.OPENMETRICS and family.type is Type.COUNTER:
        # There a counter's samples end in _total, and its name is what comes before. A counter that does not
        # keeps its name, which queries know, and loses its type, which none of them needs.
        kind = kind if name.endswith("_total") else "unknown"
        name = name.removesuffix("_total")
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _is_wanted(family: Family, form: Format, names: frozenset[str]) -> bool:
    """``name[]`` names a family or a sample; for OpenMetrics' counters these differ."""
    if family.name in names:
        return True
    return (
        form is Format.OPENMETRICS
        and family.type is Type.COUNTER
        and family.name.removesuffix("_total") in names
    )
