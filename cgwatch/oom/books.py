"""The ledger's books while they are open: a working copy of the state that keeps its numbers in balance.

Each kill is one entry. It lies at a *level*: the lowest counter that has counted it. ``create`` adds an
entry, and no more of them than the node's counter bears out; ``move`` takes an entry down to a counter that
has counted it as well. Nothing else changes how many there are, so no kill is lost and none is counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import structs

from cgwatch.discovery.recognise import recognise
from cgwatch.model import Kind
from cgwatch.oom.kill import Holder, OomKill, Source
from cgwatch.oom.observation import KernelKill, Reading
from cgwatch.oom.state import (
    DEATHS,
    DIES_WITHIN_SECONDS,
    OPEN_KILLS,
    SOON_SECONDS,
    WINDOW_SECONDS,
    Closed,
    Death,
    Level,
    OpenKill,
    PendingLine,
    State,
    Tracked,
    is_within,
    lineage,
)
from cgwatch.oom.verdict import cause_of, limit_of, scope_of

NODE = Level()


class Books:
    """A copy of ``state`` to work on; ``close`` gives the new one and the kills that are new or changed."""

    def __init__(self, state: State, reading: Reading | None = None) -> None:
        self.state = state
        self.seconds = state.seconds if reading is None else reading.seconds
        self.monotonic_seconds = state.monotonic_seconds if reading is None else reading.monotonic_seconds
        self.cgroups = dict(state.cgroups)
        self.gone = dict(state.gone)
        self.open = {entry.kill.number: entry for entry in state.open}
        self.lines = list(state.lines)
        self.deaths = list(state.deaths)
        self.closed = list(state.closed)
        self.node = state.node
        counted_node = None if reading is None else reading.node
        self.budget = math.inf if state.node is None or counted_node is None else counted_node - state.node
        self.reading = state.reading
        self._next_number = state.next_number
        self._attributed = state.attributed
        self._unattributed = state.unattributed
        self._changed: dict[int, OomKill] = {}

    def close(self) -> tuple[State, tuple[OomKill, ...]]:
        """Return the state with all that was done, and the kills in the order of their numbers."""
        state = structs.replace(
            self.state,
            next_number=self._next_number,
            attributed=self._attributed,
            unattributed=self._unattributed,
            reading=self.reading,
            node=self.node,
            cgroups=self.cgroups,
            gone=self.gone,
            open=tuple(self.open.values()),
            lines=tuple(self.lines),
            deaths=tuple(self.deaths),
            closed=tuple(self.closed[-DEATHS:]),
        )
        return state, tuple(self._changed[number] for number in sorted(self._changed))

    # -- the entries ---------------------------------------------------------------------------------------

    def create(self, level: Level, count: int, line: KernelKill | None, source: Source) -> OpenKill:
        """Add an entry of ``count`` kills at a level; ``line`` is its line in the log."""
        state = self.state
        down_since = state.down_since_seconds
        kill = OomKill(
            number=self._next_number,
            boot_id=state.boot_id,
            found_seconds=self.seconds,
            after_seconds=state.complete_seconds if state.node is None else state.seconds,
            count=count,
            sources=(source,),
            while_down=down_since is not None and (line is None or line.seconds < state.resumed_seconds),
        )
        self._next_number += 1
        self._unattributed += count
        self.budget -= count
        if self.node is not None:
            self.node += count
        entry = OpenKill(kill, NODE, self.reading, self.monotonic_seconds)
        self.open[kill.number] = entry
        if line is not None:
            entry = self.attach(entry, line)
        entry = self._lower(entry, level)
        while len(self.open) > OPEN_KILLS:
            self.settle(next(iter(self.open.values())))
        self._changed[kill.number] = entry.kill
        return entry

    def above(self, level: Level, *, exact: bool) -> OpenKill | None:
        """Return the entry further up that is best taken for one of this counter's kills.

        ``exact``: of those whose place is known, the last one killed, as a cgroup of the same path may have
        been there before; else of the others, the nearest.
        """
        return min(
            (
                entry
                for entry in self.open.values()
                if entry.kill.exact is exact and self._can_fall(entry, level)
            ),
            key=lambda entry: (
                -entry.level.rank,
                -(entry.kill.log_sequence or 0) if exact else entry.kill.victim is not None,
                entry.kill.number,
            ),
            default=None,
        )

    def move(self, entry: OpenKill, level: Level, wanted: int, source: Source) -> int:
        """Move an entry down to a counter that has counted it, too; return how many kills it was."""
        entry = self.take_apart(entry, wanted)
        line = entry.line
        if line is not None and not entry.kill.exact and not _fits(line, level.path):
            entry = self._without_line(entry, line)
        # It may be another kill than the one that was found first, and a new one.
        entry = structs.replace(entry, reading=self.reading, monotonic_seconds=self.monotonic_seconds)
        self._lower(entry, level)
        self.tell(entry.kill.number, source)
        return entry.kill.count

    def _without_line(self, entry: OpenKill, line: KernelKill) -> OpenKill:
        """Take back a line that was given to an entry for want of a better one."""
        self.lines.append(PendingLine(line, settled=True))
        return self.unsaid(entry)

    def unsaid(self, entry: OpenKill) -> OpenKill:
        """Return an entry without what its line says, which may be said of another kill."""
        sources = tuple(source for source in entry.kill.sources if source is not Source.LOG)
        kill = structs.replace(
            entry.kill, victim=None, log_sequence=None, killed_seconds=None, sources=sources
        )
        return self._put(structs.replace(entry, kill=kill, line=None))

    def take_apart(self, entry: OpenKill, wanted: int) -> OpenKill:
        """Return an entry of at most ``wanted`` kills, taken out of this one if it has more."""
        if entry.kill.count <= wanted:
            return entry
        left = entry.kill.count - wanted
        part = structs.replace(
            entry, kill=structs.replace(entry.kill, number=self._next_number, count=wanted)
        )
        self._next_number += 1
        self.open[part.kill.number] = part
        self._put(structs.replace(entry, kill=structs.replace(entry.kill, count=left)))
        self._changed[part.kill.number] = part.kill
        return part

    def attach(self, entry: OpenKill, line: KernelKill, *, names_place: bool = True) -> OpenKill:
        """Give an entry its line of the log, and the place that the line names."""
        entry = self.take_apart(entry, 1)
        kill = structs.replace(
            entry.kill,
            victim=line.victim,
            log_sequence=line.sequence,
            killed_seconds=line.seconds,
            sources=_with(entry.kill.sources, Source.LOG),
        )
        place = line.path or line.group_path
        if names_place and not kill.exact and place is not None and is_within(place, kill.path or "/"):
            kill = structs.replace(kill, path=place, exact=line.path is not None)
        return self._put(structs.replace(entry, kill=kill, line=line))

    def name(self, entry: OpenKill, death: Death) -> None:
        """Let the runtime say whose an entry is."""
        entry = self.take_apart(entry, 1)
        holder = death.died.holder
        kill = structs.replace(
            entry.kill,
            path=holder.path or entry.kill.path,
            holder=holder,
            attributed=True,
            sources=_with(entry.kill.sources, Source.RUNTIME),
        )
        self._put(structs.replace(entry, kill=kill))

    def tell(self, number: int, source: Source) -> None:
        """Note that one more source knows of a kill."""
        entry = self.open[number]
        if source not in entry.kill.sources:
            sources = _with(entry.kill.sources, source)
            self._put(structs.replace(entry, kill=structs.replace(entry.kill, sources=sources)))

    def settle(self, entry: OpenKill) -> None:
        """Take an entry out of the open ones: this is the last that is said of it."""
        kill = structs.replace(entry.kill, settled=True)
        container = self._container(kill)
        if not kill.attributed and container is not None:
            # What it was inside the container nobody can tell any more: it is the container's.
            kill = structs.replace(kill, attributed=True, holder=container)
        kill = self._put(structs.replace(entry, kill=kill)).kill
        del self.open[kill.number]
        if kill.holder is not None and kill.holder.owner.container_id is not None:
            container_id = kill.holder.owner.container_id
            self.closed.append(Closed(container_id, *_times(kill)))

    def settle_old(self) -> None:
        """Settle what no evidence can change any more, or has waited for it long enough."""
        for entry in list(self.open.values()):
            age = self.monotonic_seconds - entry.monotonic_seconds
            has_line = entry.line is not None and _fits(entry.line, entry.kill.path or "/")
            is_told = entry.kill.exact and (has_line or not self.state.reads_log)
            if not self.can_be_pulled(entry) and age >= (SOON_SECONDS if is_told else WINDOW_SECONDS):
                self.settle(entry)

    def refresh(self) -> None:
        """Look at all open entries again in the light of what came since."""
        for entry in list(self.open.values()):
            self._put(entry)

    # -- who may be where ----------------------------------------------------------------------------------

    def known(self, path: str) -> Tracked | None:
        """Return a cgroup that is there, or was a moment ago."""
        if path in self.cgroups:
            return self.cgroups[path]
        return self.gone[path].tracked if path in self.gone else None

    def can_be_pulled(self, entry: OpenKill) -> bool:
        """Tell whether a counter further down may not have been read since the entry was found."""
        return entry.reading >= self.state.complete_reading

    def is_covered(self, path: str) -> bool:
        """Tell whether a counter counts what happens at a path, whether or not that is still there."""
        if self.node is not None:
            return True
        return any(
            above in self.cgroups and self.cgroups[above].within is not None for above in lineage(path)
        )

    def _can_fall(self, entry: OpenKill, to: Level) -> bool:
        """Tell whether an entry lies above a counter, and can be one of its kills."""
        level, kill = entry.level, entry.kill
        is_named_by_runtime = kill.attributed and not kill.exact
        if level.own or not to.path or is_named_by_runtime:
            return False
        # A counter is read a little earlier than those below it, so what is below may be late here once more.
        is_due = kill.exact and not to.own and self.cgroups[to.path].first_seconds <= kill.found_seconds
        if not is_due and not self.can_be_pulled(entry):
            return False
        if level.path:
            is_above = is_within(to.path, level.path) and (to.own or to.path != level.path)
            tracked = self.cgroups.get(level.path)
            if not is_above or tracked is None or tracked.holder.inode != level.inode:
                return False
        if kill.path is None:
            return True
        if kill.exact:
            return kill.path == to.path if to.own else is_within(kill.path, to.path)
        return is_within(to.path, kill.path) or (not to.own and is_within(kill.path, to.path))

    def _lower(self, entry: OpenKill, to: Level) -> OpenKill:
        """Put an entry at a level below its own, and count it at every counter on the way."""
        kill, n = entry.kill, entry.kill.count
        for path in lineage(to.path) if to.path else ():
            tracked = self.cgroups.get(path)
            if tracked is None:
                continue
            if to.own and path == to.path and tracked.own is not None:
                tracked = structs.replace(tracked, own=tracked.own + n)
            rank = Level(path).rank
            if tracked.within is not None and entry.level.rank < rank <= to.rank:
                tracked = structs.replace(tracked, within=tracked.within + n)
            self.cgroups[path] = tracked
        if to.own:
            kill = structs.replace(kill, path=to.path, exact=True, inode=to.inode)
        elif to.path and not kill.exact and (kill.path is None or is_within(to.path, kill.path)):
            kill = structs.replace(kill, path=to.path)
        return self._put(structs.replace(entry, kill=kill, level=to))

    # -- what is said of a kill ----------------------------------------------------------------------------

    def _put(self, entry: OpenKill) -> OpenKill:
        """Store an entry, with all that follows from its evidence."""
        before = self.open[entry.kill.number].kill
        kill = entry.kill
        holder = self._container(kill) or (self._holder(kill.path, kill) if kill.path else None)
        if (
            kill.attributed
            and kill.holder is not None
            and (holder is None or holder.path != kill.holder.path)
        ):
            holder = self._named(kill.holder)  # whose it is never changes, but a name may come late
        kill = structs.replace(kill, holder=holder, attributed=kill.attributed or kill.exact)
        death = self._death(kill)
        if death is not None:
            sources = _with(kill.sources, Source.RUNTIME) if death.died.oom else kill.sources
            exit_code = death.died.exit_code if death.died.exit_code is not None else kill.exit_code
            kill = structs.replace(kill, exit_code=exit_code, sources=sources)
        limit_path, is_global = limit_of(kill, entry.line, self.known, entry.reading)
        kill = structs.replace(
            kill,
            limit_path=limit_path,
            cause=cause_of(kill, limit_path, self.state.writes, is_global=is_global),
            scope=scope_of(kill, entry.line, self.known, death, entry.reading),
        )
        entry = structs.replace(entry, kill=kill)
        self.open[kill.number] = entry
        if kill.attributed and not before.attributed:
            self._attributed += kill.count
            self._unattributed -= kill.count
        if kill != before:
            self._changed[kill.number] = kill
        return entry

    def _container(self, kill: OomKill) -> Holder | None:
        """Return the innermost container around a kill's path."""
        for path in lineage(kill.path) if kill.path else ():
            holder = self._holder(path, kill)
            if holder.owner.kind is Kind.CONTAINER:
                return holder
        return None

    def _holder(self, path: str, kill: OomKill) -> Holder:
        """Return whose a cgroup was at the time of a kill."""
        present, gone = self.cgroups.get(path), self.gone.get(path)
        for tracked in (present, gone.tracked if gone else None):
            if tracked is None:
                continue
            inode = tracked.holder.inode if kill.path == path else None
            if inode == kill.inode or (kill.inode is None and tracked.first_seconds <= kill.found_seconds):
                return self._named(tracked.holder)
        known = present or (gone.tracked if gone else None)
        holder = structs.replace(known.holder, inode=None) if known else Holder(path, None, recognise(path))
        return self._named(holder)

    def _named(self, holder: Holder) -> Holder:
        if holder.name is None and holder.owner.container_id is not None:
            for death in self.deaths:
                said = death.died.holder
                if death.died.container_id == holder.owner.container_id and said.name is not None:
                    return structs.replace(
                        holder, name=said.name, image=said.image, in_kubernetes=said.in_kubernetes
                    )
        return holder

    def _death(self, kill: OomKill) -> Death | None:
        """Return the death of the container that a kill can have been the reason of."""
        container_id = kill.holder.owner.container_id if kill.holder else None
        if container_id is None:
            return None
        return next(
            (
                death
                for death in self.deaths
                if death.died.container_id == container_id and overlaps(kill, death.died.seconds)
            ),
            None,
        )


def overlaps(kill: OomKill, seconds: float) -> bool:
    """Tell whether a moment can be that of a kill."""
    first, last = _times(kill)
    return first - SOON_SECONDS <= seconds <= last + DIES_WITHIN_SECONDS


def _times(kill: OomKill) -> tuple[float, float]:
    """Return the first and the last moment at which a kill can have been."""
    if kill.killed_seconds is not None:
        return kill.killed_seconds, kill.killed_seconds
    return kill.after_seconds, kill.found_seconds


def distance(kill: OomKill, seconds: float) -> float:
    """Return how far a moment lies outside the time in which a kill was found; 0 is inside."""
    return max(kill.after_seconds - seconds, seconds - kill.found_seconds, 0.0)


def _fits(line: KernelKill, path: str) -> bool:
    """Tell whether a line may be about a kill at a path or below it."""
    if line.path is not None:
        return is_within(line.path, path)
    return line.group_path is not None and is_within(path, line.group_path)


def _with(sources: Iterable[Source], source: Source) -> tuple[Source, ...]:
    return tuple(sorted({*sources, source}))
