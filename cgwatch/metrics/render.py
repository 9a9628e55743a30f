"""A snapshot as a page of the exposition formats.

prometheus_client writes the same page ten times slower, since it keeps labels as dictionaries and encodes
them for each line; and it renames counters without ``_total``. Here the labels of a container are encoded
once in its life. While most containers are idle, what each of them says is kept and not written again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from cgwatch.metrics.columns import Columns
from cgwatch.metrics.families.base import Family, Part, Type
from cgwatch.metrics.fragments import Fragments, are_same, fields_of, writers_of
from cgwatch.metrics.labels import CadvisorScheme, LabelCensus, Scheme, Survey
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.selection import Selection
from cgwatch.model import Container, Kind, Sample, Snapshot

T = TypeVar("T")

_QUIET, _BUSY = 0.9, 0.7
"""From which share of unchanged containers on fragments are kept, and below which no more."""
_ROOM = 0.8
"""Below which share of the bounds a page need not be counted container by container."""


class Bounds(Struct, frozen=True):
    """How much of a page the cgroups may take together; what the node itself says comes on top."""

    series: float = math.inf
    page_bytes: float = math.inf

    def has_room(self, series: float, page_bytes: float) -> bool:
        """Whether that much is within the bounds."""
        return series <= self.series and page_bytes <= self.page_bytes


class Census(Struct, frozen=True):
    """What the cgroups take of the last whole page, and how many had no room on it."""

    series: int = 0
    page_bytes: int = 0
    cgroups_left_out: int = 0


class _NoRoomError(Exception):
    """The page passes its bounds."""


class Renderer:
    """Writes pages. Keeps what it can between them; not thread-safe."""

    def __init__(
        self,
        families: tuple[Family, ...],
        *,
        scheme: Scheme | None = None,
        timestamps: bool = False,
        selection: Selection | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """``scheme`` chooses the labels of containers, without it cAdvisor's with no container labels."""
        self._families = families
        self._scheme: Scheme = scheme or CadvisorScheme()
        self._timestamps = timestamps
        self._selection = selection or Selection()
        self._bounds = bounds or Bounds()
        self._writers = writers_of(families, is_kept=not timestamps)
        self._places = {
            family.name: (number, index)
            for number, writer in enumerate(self._writers)
            for index, family in enumerate(writer.families)
        }
        self._blocks: dict[int, tuple[Container, str]] = {}
        self._survey = Survey()
        self._context: object = None
        self._fields: dict[int, tuple[Any, ...]] = {}
        self._fragments: dict[int, Fragments] = {}
        self._is_quiet = False
        self._is_tight = False
        self.census = Census()

    @property
    def label_census(self) -> LabelCensus:
        """What could not be shown of the containers' labels."""
        return self._scheme.census

    def render(self, snapshot: Snapshot, form: Format, names: frozenset[str] = frozenset()) -> str:
        """Return the page without its end marker; ``names`` are the families wanted, empty for all."""
        return self.write(snapshot, form, b"".join, names).decode()

    def write(
        self,
        snapshot: Snapshot,
        form: Format,
        take: Callable[[Iterator[bytes]], T],
        names: frozenset[str] = frozenset(),
    ) -> T:
        """Write a page, and return what ``take`` makes of its pieces; ``names`` as for ``render``.

        There is a piece for each family, and none is written before it is taken: a whole page may be
        megabytes. ``take`` is called a second time where it turns out on the way that a page passes its
        bounds.
        """
        everyone = (*snapshot.samples, *snapshot.stopped)
        self._encode(everyone)
        samples = [sample for sample in everyone if self._blocks[id(sample.container)][1]]
        blocks = [self._blocks[id(sample.container)][1] for sample in samples]
        families = [family for family in self._families if not names or _is_wanted(family, form, names)]
        if not self._is_quiet and not self._is_tight:
            columns = Columns(snapshot, samples, blocks, self._stamp(snapshot, form))
            try:
                taken = take(self._direct(families, columns, form, snapshot))
            except _NoRoomError:
                self._is_tight = True
            else:
                if not names:
                    self._is_quiet = not self._timestamps and self._unchanged(samples) >= _QUIET
                return taken
        return take(self._by_fragments(families, samples, blocks, form, snapshot))

    def _direct(
        self, families: Iterable[Family], columns: Columns, form: Format, snapshot: Snapshot
    ) -> Iterator[bytes]:
        """Write the families one after the other; raises ``_NoRoomError`` where that passes the bounds."""
        stamp = self._stamp(snapshot, form)
        series = size = 0
        for family in families:
            if family.part is Part.SNAPSHOT:
                yield from _piece(family, form, _of_the_node(family, snapshot, stamp))
                continue
            lines = columns.lines(family)
            text = "".join(lines)
            series += len(lines)
            size += len(text) if text.isascii() else len(text.encode())
            if not self._bounds.has_room(series, size):
                raise _NoRoomError
            yield from _piece(family, form, text)
        self.census = Census(series, size)

    def _by_fragments(
        self,
        families: Iterable[Family],
        samples: Sequence[Sample],
        blocks: Sequence[str],
        form: Format,
        snapshot: Snapshot,
    ) -> Iterator[bytes]:
        """Write what has changed; where there is no room for all, leave out the least important cgroups."""
        stamp = self._stamp(snapshot, form)
        written = self._write(samples, blocks, snapshot, stamp)
        for family in families:
            if family.part is Part.SNAPSHOT:
                text = _of_the_node(family, snapshot, stamp)
            else:
                number, index = self._places[family.name]
                text = "".join([texts[index] for each in written if (texts := each.texts[number])])
            yield from _piece(family, form, text)
        if not self._is_quiet and not self._is_tight:
            self._fragments = {}  # the next page is written directly

    def _write(
        self, samples: Sequence[Sample], blocks: Sequence[str], snapshot: Snapshot, stamp: str
    ) -> list[Fragments]:
        """Return what each container says, in the order of the samples."""
        # What rows may depend on besides their part.
        context = (snapshot.devices, snapshot.machine, snapshot.formulas)
        known = self._fragments if context == self._context else {}
        self._context = context
        kept: dict[int, Fragments] = {}
        bounds = self._bounds
        series = size = left_out = unchanged = 0
        for sample, block in sorted(zip(samples, blocks, strict=True), key=_rank):
            key = id(sample.container)
            fragments = known.get(key)
            if fragments is None or fragments.block is not block:
                fragments = Fragments(sample.container, block, len(self._writers))
            kept[key] = fragments
            # By what it was the last time, or by its labels alone: nothing is written of what will have no
            # room, for it might be very much.
            if bounds.has_room(series + fragments.series, size + fragments.size_bytes):
                unchanged += fragments.update(sample, self._writers, snapshot, stamp)
                if bounds.has_room(series + fragments.series, size + fragments.size_bytes):
                    series += fragments.series
                    size += fragments.size_bytes
                    continue
            fragments.forget()
            left_out += 1
        self._fragments = kept
        self._is_quiet = self._is_quiet and unchanged >= _BUSY * len(samples)
        self._is_tight = left_out > 0 or not bounds.has_room(series / _ROOM, size / _ROOM)
        self.census = Census(series, size, left_out)
        return [kept[id(sample.container)] for sample in samples]

    def _unchanged(self, samples: Sequence[Sample]) -> float:
        """Return the share of the containers whose samples are of the same parts as on the last page."""
        before = self._fields
        self._fields = {id(sample.container): fields_of(sample) for sample in samples}
        same = sum(are_same(before.get(key, ()), now) for key, now in self._fields.items())
        return same / max(1, len(samples))

    def _stamp(self, snapshot: Snapshot, form: Format) -> str:
        """The time of the sample, behind each value: milliseconds in the text format, else seconds."""
        if not self._timestamps:
            return ""
        milliseconds = int(snapshot.time_seconds * 1000)
        return f" {milliseconds}" if form is Format.TEXT else f" {milliseconds / 1000}"

    def _encode(self, samples: Sequence[Sample]) -> None:
        """Encode the labels of each container; of one that is not selected they are empty."""
        known = self._blocks
        if len(known) == len(samples) and all(id(sample.container) in known for sample in samples):
            return
        containers = [sample.container for sample in samples]
        taken = [container for container in containers if self._selection.takes(container)]
        survey = self._scheme.survey(taken)
        if survey != self._survey:
            self._survey, known = survey, {}
        self._blocks = {id(container): (container, "") for container in containers} | {
            id(container): known.get(id(container)) or (container, self._scheme.encode(container, survey))
            for container in taken
        }


_RANKS = {Kind.ROOT: 0, Kind.CONTAINER: 1, Kind.POD: 2, Kind.QOS: 3, Kind.UNIT: 4, Kind.PLAIN: 5}
"""Who comes first where there is no room for all."""


def _rank(pair: tuple[Sample, str]) -> int:
    return _RANKS[pair[0].container.owner.kind]


def _of_the_node(family: Family, snapshot: Snapshot, stamp: str) -> str:
    name = family.name
    rows = family.rows(None, snapshot) if family.rows else ()
    return "".join(
        [
            f"{name}{{{more}}} {value}{stamp}\n" if more else f"{name} {value}{stamp}\n"
            for more, value in rows
            if value is not None
        ]
    )


def _piece(family: Family, form: Format, text: str) -> Iterator[bytes]:
    if text:
        yield (_header(family, form) + text).encode()


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
