"""Which line of the log, and which word of the runtime, belongs to which kill. Pure.

Exact before near, near before far. A line never makes a kill where the node's counter can be read: it names
one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import structs

from cgwatch.oom.books import NODE, Books, distance, overlaps
from cgwatch.oom.kill import Source
from cgwatch.oom.observation import KernelKill
from cgwatch.oom.state import (
    DIES_WITHIN_SECONDS,
    SOON_SECONDS,
    WINDOW_SECONDS,
    Death,
    Level,
    OpenKill,
    PendingLine,
    State,
    depth,
    is_within,
)

_KILLED = 137
"""128 + SIGKILL."""


def on_arrival(books: Books, line: KernelKill) -> bool:
    """Give a new line to a kill that its cgroup has already shown, if there is one."""
    return _give(
        books,
        line,
        (
            entry
            for entry in _open_to(books, line)
            if _is_named(entry, line) and distance(entry.kill, line.seconds) <= SOON_SECONDS
        ),
    )


def line_for(books: Books, level: Level) -> KernelKill | None:
    """Return the line that names the place where a counter has just shown a kill: the last one of a cgroup.

    A counter further up says less of where it was. There a line is left to what was found before, if it may
    name that, and the first one is taken.
    """
    older = () if level.own else [entry for entry in books.open.values() if _waits_for_a_line(entry)]
    for fits in (_names_it, _names_its_group):
        found = [
            pending.line
            for pending in books.lines
            if not pending.settled
            and fits(pending.line, level)
            and not any(_may_name(pending.line, entry) for entry in older)
        ]
        if found:
            return found[-1 if level.own else 0]
    return None


def use(books: Books, line: KernelKill) -> None:
    """Take a line off the list of those that wait."""
    books.lines = [pending for pending in books.lines if pending.line is not line]


def _waits_for_a_line(entry: OpenKill) -> bool:
    return entry.line is None or _is_doubtful(entry, entry.line)


def _may_name(line: KernelKill, entry: OpenKill) -> bool:
    path, place = line.path or "/", entry.kill.path or "/"
    return path == place if entry.kill.exact else is_within(path, place)


def _names_it(line: KernelKill, level: Level) -> bool:
    if line.path is None:
        return False
    return line.path == level.path if level.own else is_within(line.path, level.path or "/")


def _names_its_group(line: KernelKill, level: Level) -> bool:
    return line.path is None and level.own and line.group_path == level.path


def name_exactly(books: Books) -> None:
    """Give the lines that wait to the kills that their cgroups have shown in this reading."""
    books.lines = [pending for pending in books.lines if not on_arrival(books, pending.line)]


def is_of_settled_kill(state: State, line: KernelKill, seconds: float) -> bool:
    """Tell whether a line comes so late that its kill was found, waited for it and is settled."""
    return line.seconds < min(state.complete_seconds, seconds - WINDOW_SECONDS)


def drop_old(books: Books) -> int:
    """Take off the list what is of kills that are settled by now; return how many lines that is."""
    kept = [
        pending for pending in books.lines if not is_of_settled_kill(books.state, pending.line, books.seconds)
    ]
    dropped, books.lines = len(books.lines) - len(kept), kept
    return dropped


def after_reading(books: Books) -> None:
    """Match what is left after a complete reading."""
    # All kills of these lines have been counted: what no counter took names an entry that has no line.
    # Those that name a place go first, as one that does not can give way to them.
    waiting, books.lines = sorted(books.lines, key=lambda pending: pending.line.path is None), []
    for pending in waiting:
        if not _name_by_line(books, pending.line):
            books.lines.append(structs.replace(pending, settled=True))
    books.lines.sort(key=lambda pending: pending.line.sequence)
    _name_by_runtime(books)


def _name_by_line(books: Books, line: KernelKill) -> bool:
    candidates = list(_open_to(books, line, counted=True))
    if _give(books, line, (entry for entry in candidates if _is_named(entry, line))):
        return True
    place = line.path or line.group_path
    if place is not None:
        inside = [entry for entry in candidates if line.path is None and _is_exact_within(entry, place)]
        # The counters of a group that is there would have shown the kill; but a line that names the cgroup
        # itself may mean an earlier one of this path.
        is_shown = line.path is None and place in books.cgroups
        if _give(books, line, inside) or (not is_shown and _give(books, line, _above(candidates, place))):
            return True
    # The path may be another than the one we see: a cgroup namespace, a thread in another cgroup.
    near = [entry for entry in candidates if distance(entry.kill, line.seconds) <= SOON_SECONDS]
    if not near and not books.is_covered(place or "/"):
        books.create(NODE, 1, line, Source.LOG)
        return True
    if len({entry.kill.path for entry in near}) == 1:
        return _give(books, line, near, names_place=False)
    return False


def _open_to(books: Books, line: KernelKill, *, counted: bool = False) -> Iterator[OpenKill]:
    """Return the entries that have no line, or one that names no place and gives way to one that does.

    ``counted``: the kill of the line is certainly among the entries. As long as it may not be, only what has
    no certain place gives way.
    """
    for entry in books.open.values():
        if entry.line is None:
            yield entry
        elif line.path is not None and _is_doubtful(entry, entry.line) and (counted or not entry.kill.exact):
            is_better = entry.line.path is None or _is_named(entry, line)
            if is_better:
                yield entry


def _is_doubtful(entry: OpenKill, line: KernelKill) -> bool:
    """Tell whether an entry has its line only because it was near."""
    return line.path is None or not (entry.kill.exact and line.path == entry.kill.path)


def _is_named(entry: OpenKill, line: KernelKill) -> bool:
    has_place = entry.kill.exact or entry.kill.attributed
    return has_place and line.path is not None and entry.kill.path == line.path


def _is_exact_within(entry: OpenKill, place: str) -> bool:
    return entry.kill.exact and entry.kill.path is not None and is_within(entry.kill.path, place)


def _above(entries: Iterable[OpenKill], place: str) -> Iterable[OpenKill]:
    """Return the entries without a certain place that may be at ``place``, the nearest only."""
    found = [
        entry
        for entry in entries
        if not entry.kill.attributed and (entry.kill.path is None or is_within(place, entry.kill.path))
    ]
    nearest = max((_depth(entry) for entry in found), default=0)
    return [entry for entry in found if _depth(entry) == nearest]


def _depth(entry: OpenKill) -> int:
    return -1 if entry.kill.path is None else depth(entry.kill.path)


def _give(books: Books, line: KernelKill, entries: Iterable[OpenKill], *, names_place: bool = True) -> bool:
    """Give a line to the entry that was found nearest to its time, the oldest first."""
    best = min(
        entries,
        key=lambda entry: (
            entry.line is not None,
            distance(entry.kill, line.seconds),
            entry.kill.number,
        ),
        default=None,
    )
    if best is None:
        return False
    if best.line is not None:
        books.lines.append(PendingLine(best.line, settled=True))
    books.attach(best, line, names_place=names_place)
    return True


def _name_by_runtime(books: Books) -> None:
    for index, death in enumerate(books.deaths):
        if death.used or death.reading >= books.state.complete_reading:
            continue
        if _is_told_of(books, death):
            books.deaths[index] = structs.replace(death, used=True)
            continue
        if _is_alive(books, death):
            continue
        entries = [entry for entry in _nameless(books) if _can_be(entry, death)]
        if not entries and death.died.oom and not _is_covered(books, death):
            entries = [books.create(NODE, 1, None, Source.RUNTIME)]
        if not entries or not (death.died.oom or _is_the_only_one(books, death, entries[0])):
            continue
        entry = min(entries, key=lambda entry: (-_depth(entry), entry.kill.number))
        _name(books, entry, index, keeps_line=len(entries) == 1)
    for entries, indices in _sets(books):
        for entry, index in zip(entries, indices, strict=True):
            _name(books, entry, index, keeps_line=False)


def _name(books: Books, entry: OpenKill, index: int, *, keeps_line: bool) -> None:
    """Let a death name an entry, whose line may be of another kill if several were to choose from."""
    death = books.deaths[index]
    books.name(entry if keeps_line else books.unsaid(entry), death)
    books.deaths[index] = structs.replace(death, used=True)


def _sets(books: Books) -> Iterator[tuple[list[OpenKill], list[int]]]:
    """Give kills and as many deaths by SIGKILL that can be them, all of them and nothing else.

    Which is whose does not matter then: each container has one. It takes that every one of these deaths can
    be every one of these kills, that no container died twice, and time for a better source to tell.
    """
    waiting = {entry.kill.number: entry for entry in books.open.values() if _has_no_place(entry)}
    ready = {entry.kill.number for entry in _nameless(books)}
    unexplained = {
        index: death
        for index, death in enumerate(books.deaths)
        if not death.used and death.died.exit_code == _KILLED and not _is_alive(books, death)
    }
    while waiting:
        entries, deaths = _connected(waiting, unexplained)
        by_container = {death.died.container_id for death in deaths.values()}
        is_certain = (
            sum(entry.kill.count for entry in entries) == len(by_container) == len(deaths)
            and all(_can_be(entry, death) for entry in entries for death in deaths.values())
            and all(death.reading < books.state.complete_reading for death in deaths.values())
            and all(entry.kill.number in ready and _has_waited(books, entry) for entry in entries)
        )
        if is_certain:
            parted = [
                books.take_apart(books.open[entry.kill.number], 1)
                for entry in entries
                for _ in range(entry.kill.count)
            ]
            yield parted, list(deaths)


def _connected(
    waiting: dict[int, OpenKill], deaths: dict[int, Death]
) -> tuple[list[OpenKill], dict[int, Death]]:
    """Take one kill off those that wait, with all deaths that can be it, all kills that these can be, ..."""
    first = waiting.pop(next(iter(waiting)))
    entries, found = [first], dict[int, Death]()
    for entry in entries:
        for index, death in deaths.items():
            if index in found or not _can_be(entry, death):
                continue
            found[index] = death
            entries += [waiting.pop(number) for number in list(waiting) if _can_be(waiting[number], death)]
    return entries, found


def _nameless(books: Books) -> list[OpenKill]:
    """Return the entries that neither a counter nor the log could name, and had the time to."""
    return [
        entry
        for entry in books.open.values()
        if _has_no_place(entry) and entry.reading < books.state.complete_reading
    ]


def _has_no_place(entry: OpenKill) -> bool:
    """Tell whether it is not known where a kill was; its line may tell who, but not where."""
    line = entry.line
    says_where = line is not None and (line.path is not None or line.group_path is not None)
    return not says_where and not entry.kill.attributed


def _has_waited(books: Books, entry: OpenKill) -> bool:
    return books.monotonic_seconds - entry.monotonic_seconds >= WINDOW_SECONDS / 2


def _can_be(entry: OpenKill, death: Death) -> bool:
    path, place = death.died.holder.path, entry.kill.path
    is_near = place is None or path is None or is_within(path, place)
    return is_near and overlaps(entry.kill, death.died.seconds)


def _is_told_of(books: Books, death: Death) -> bool:
    for closed in books.closed:
        is_near = closed.after_seconds - SOON_SECONDS <= death.died.seconds
        is_near = is_near and death.died.seconds <= closed.until_seconds + DIES_WITHIN_SECONDS
        if is_near and closed.container_id == death.died.container_id:
            return True
    return any(
        entry.kill.attributed
        and entry.kill.holder is not None
        and entry.kill.holder.owner.container_id == death.died.container_id
        and overlaps(entry.kill, death.died.seconds)
        for entry in books.open.values()
    )


def _is_alive(books: Books, death: Death) -> bool:
    path = death.died.holder.path
    return path is not None and path in books.cgroups


def _is_covered(books: Books, death: Death) -> bool:
    return books.is_covered(death.died.holder.path or "/")


def _is_the_only_one(books: Books, death: Death, entry: OpenKill) -> bool:
    """Tell whether a container that was just killed is the only one that a kill can have been in.

    A mere exit status of 137 is any SIGKILL, so it names a kill only where nothing else does, and late.
    """
    if death.died.exit_code != _KILLED or not _has_waited(books, entry):
        return False
    others = [
        other
        for other in books.deaths
        if other is not death and other.died.exit_code == _KILLED and _can_be(entry, other)
    ]
    return not others
