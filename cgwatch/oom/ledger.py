"""The ledger: every OOM kill of the kernel once, whoever tells of it, in whatever order. Pure.

The counters are a tree. At the top is the node's own (``/proc/vmstat``), which counts everything; below it,
on v2, is a counter for each cgroup that counts all below it, also what is gone; at the bottom one that counts
the cgroup alone. (v1 has the top and the bottom only.) A kill is an entry at the lowest counter that has
counted it.

A reading is gone through from the bottom up. Where a counter has risen by more than the entries that it has,
the rest is taken, in this order, from

1. the entries that a counter further up already has and that may be here: moved down;
2. the lines of the log that name this place and that no counter has shown yet: a new entry, with its line;
3. nothing: a new entry. At the bottom that is the victim's own cgroup; in the middle, a kill somewhere
   below in what is gone by now; at the top, a kill anywhere, of which only the number is known.

No more entries are made than the node's counter bears out, so whatever the others say, the sum is right.
Lines that are left over name entries that have none; then the runtime may name what the log did not.
"""

from __future__ import annotations

import math

from msgspec import structs

from cgwatch.oom import matching
from cgwatch.oom.books import NODE, Books
from cgwatch.oom.kill import OomKill, Source
from cgwatch.oom.observation import (
    CgroupCounters,
    ContainerDied,
    KernelKill,
    LimitWrite,
    LogLost,
    LogPlace,
    Observation,
    Reading,
)
from cgwatch.oom.state import (
    DEATHS,
    DIES_WITHIN_SECONDS,
    GONE_CGROUPS,
    KEPT_APART,
    LIMIT_WRITES,
    PENDING_LINES,
    WINDOW_SECONDS,
    Death,
    Gone,
    Level,
    PendingLine,
    State,
    Tracked,
    depth,
)

Kills = tuple[OomKill, ...]
"""New ones, and new versions of those that were given before, by their numbers."""


def begin(
    saved: State | None, *, boot_id: str, seconds: float, reads_log: bool = True, next_number: int = 1
) -> tuple[State, Kills]:
    """Open the ledger, at a start of the agent.

    With a state that was saved in the same boot it goes on, and what happened meanwhile is found and marked.
    Otherwise the first complete reading is the base, and what the counters say by then is not the ledger's.
    Save the state after that reading, and with every kill. ``reads_log``: lines of the kernel's log are going
    to come, so a kill is not settled at once without one. ``next_number``: the first that is free where the
    kills are kept, in case there is no state that says so.
    """
    if saved is not None and saved.boot_id == boot_id:
        state = structs.replace(
            saved, down_since_seconds=saved.seconds, resumed_seconds=seconds, reads_log=reads_log
        )
        return state, ()
    kills: Kills = ()
    if saved is not None:
        books = Books(saved)
        for entry in list(books.open.values()):
            books.settle(entry)
        closed, kills = books.close()
        next_number = max(next_number, closed.next_number)
    return State(boot_id, seconds, reads_log=reads_log, next_number=next_number), kills


def observe(state: State, observation: Observation) -> tuple[State, Kills]:
    """Take one observation; never raises, and gives the same for the same."""
    match observation:
        case Reading():
            return _take_reading(state, observation)
        case KernelKill():
            return _take_line(state, observation)
        case LogLost(count):
            lost_lines = state.lost_lines + (count or 0)
            return structs.replace(state, lost_lines=lost_lines, log_gaps=state.log_gaps + 1), ()
        case LogPlace():
            return structs.replace(state, log_place=observation), ()
        case ContainerDied():
            return _take_death(state, observation)
        case LimitWrite():
            others = [
                write
                for write in state.writes
                if (write.path, write.from_seconds) != (observation.path, observation.from_seconds)
            ]
            return structs.replace(state, writes=(*others[-LIMIT_WRITES + 1 :], observation)), ()


# -- the log and the runtime -------------------------------------------------------------------------------


def _take_line(state: State, line: KernelKill) -> tuple[State, Kills]:
    if state.last_sequence is not None and line.sequence <= state.last_sequence:
        return state, ()
    state = structs.replace(state, last_sequence=line.sequence)
    if not state.has_base:
        return state, ()
    if matching.is_of_settled_kill(state, line, state.seconds):
        return structs.replace(state, unmatched_lines=state.unmatched_lines + 1), ()
    books = Books(state)
    if not matching.on_arrival(books, line):
        books.lines.append(PendingLine(line))
    state, kills = books.close()
    too_many = len(state.lines) - PENDING_LINES
    if too_many > 0:
        unmatched_lines = state.unmatched_lines + too_many
        state = structs.replace(state, lines=state.lines[too_many:], unmatched_lines=unmatched_lines)
    return state, kills


def _take_death(state: State, died: ContainerDied) -> tuple[State, Kills]:
    deaths = list(state.deaths)
    for index, death in enumerate(deaths):
        near = abs(death.died.seconds - died.seconds) <= DIES_WITHIN_SECONDS
        if near and death.died.container_id == died.container_id:
            # "oom" and "die" of the same end, in whatever order.
            exit_code = death.died.exit_code if died.exit_code is None else died.exit_code
            both = structs.replace(died, oom=died.oom or death.died.oom, exit_code=exit_code)
            deaths[index] = structs.replace(death, died=both)
            break
    else:
        deaths.append(Death(died, state.reading))
    state = structs.replace(state, deaths=tuple(deaths[-DEATHS:]))
    books = Books(state)
    books.refresh()
    return books.close()


# -- a reading ---------------------------------------------------------------------------------------------


def _take_reading(state: State, reading: Reading) -> tuple[State, Kills]:
    is_stale = reading.monotonic_seconds <= state.monotonic_seconds
    if is_stale or (state.node is not None and reading.node is None):
        return state, ()
    if not state.has_base:
        return (_base(state, reading) if reading.complete else state), ()
    if _is_quiet(state, reading):
        return _passed(state, reading), ()
    books = Books(state, reading)
    books.reading += 1
    changed = _follow(books, reading)
    unmatched_lines = matching.drop_old(books)
    contradicted = 0
    for counters in sorted(changed, key=_lowest_first):
        contradicted += _demand_of(books, counters, write_off=reading.complete)
    if books.node is not None and reading.node is not None:
        _demand(books, NODE, reading.node - books.node, Source.NODE)
    matching.name_exactly(books)
    if reading.complete:
        matching.after_reading(books)
        books.refresh()
        # What was found before this reading has had every counter read since.
        state = structs.replace(
            state,
            complete_reading=books.reading,
            complete_seconds=reading.seconds,
            down_since_seconds=None,
            contradicted=state.contradicted + contradicted,
        )
        books.state = state
        books.settle_old()
    next_state, kills = books.close()
    node = reading.node if next_state.node is None else next_state.node
    next_state = structs.replace(
        next_state,
        seconds=reading.seconds,
        monotonic_seconds=reading.monotonic_seconds,
        node=node,
        unmatched_lines=state.unmatched_lines + unmatched_lines,
    )
    return next_state, kills


def _lowest_first(counters: CgroupCounters) -> tuple[int, str]:
    path = counters.holder.path or "/"
    return -depth(path), path


def _is_quiet(state: State, reading: Reading) -> bool:
    """Tell whether a reading says nothing new: the common case, a comparison for each cgroup."""
    if reading.node != state.node or state.open or state.lines or state.deaths or state.closed:
        return False
    if reading.complete and len(reading.counters) != len(state.cgroups):
        return False
    cgroups = state.cgroups
    return all(
        _is_as_known(cgroups.get(counters.holder.path or "/"), counters) for counters in reading.counters
    )


def _is_as_known(tracked: Tracked | None, counters: CgroupCounters) -> bool:
    return (
        tracked is not None
        and tracked.own == counters.own
        and tracked.within == counters.within
        and tracked.oom == counters.oom
        and tracked.group_kills == counters.group_kills
        and tracked.init_pid == counters.init_pid
        and (tracked.holder is counters.holder or tracked.holder == counters.holder)
    )


def _passed(state: State, reading: Reading) -> State:
    number = state.reading + 1
    if not reading.complete:
        return structs.replace(
            state, seconds=reading.seconds, monotonic_seconds=reading.monotonic_seconds, reading=number
        )
    return structs.replace(
        state,
        seconds=reading.seconds,
        monotonic_seconds=reading.monotonic_seconds,
        reading=number,
        complete_reading=number,
        complete_seconds=reading.seconds,
        down_since_seconds=None,
    )


def _base(state: State, reading: Reading) -> State:
    cgroups = {
        counters.holder.path or "/": _tracked(counters, counters.own, counters.within, reading.seconds)
        for counters in reading.counters
    }
    return structs.replace(
        _passed(state, reading),
        has_base=True,
        began_seconds=reading.seconds,
        node=reading.node,
        cgroups=cgroups,
    )


def _tracked(counters: CgroupCounters, own: int | None, within: int | None, seconds: float) -> Tracked:
    return Tracked(
        counters.holder,
        own,
        within,
        seconds,
        oom=counters.oom,
        group_kills=counters.group_kills,
        init_pid=counters.init_pid,
    )


def _follow(books: Books, reading: Reading) -> list[CgroupCounters]:
    """Bring the list of cgroups up to date and forget what is too old; return what is not as it was."""
    present = set()
    changed = []
    for counters in reading.counters:
        path = counters.holder.path or "/"
        present.add(path)
        tracked = books.cgroups.get(path)
        if not reading.complete and (tracked is None or tracked.holder.inode != counters.holder.inode):
            continue  # those above it may not be known either: a complete reading will begin with all of them
        if not _is_as_known(tracked, counters):
            books.cgroups[path] = _followed(books, path, counters, reading.seconds)
            changed.append(counters)
    if not reading.complete:
        return changed
    for path in books.cgroups.keys() - present:
        _bury(books, path, reading.seconds)
    old = reading.seconds - 2 * WINDOW_SECONDS
    books.gone = {path: gone for path, gone in books.gone.items() if gone.seconds >= old}
    for path in list(books.gone)[: max(len(books.gone) - GONE_CGROUPS, 0)]:
        del books.gone[path]
    books.deaths = [death for death in books.deaths if death.died.seconds >= old]
    books.closed = [closed for closed in books.closed if closed.until_seconds >= old]
    writes = tuple(
        write for write in books.state.writes if write.to_seconds is None or write.to_seconds >= old
    )
    books.state = structs.replace(books.state, writes=writes)
    return changed


def _bury(books: Books, path: str, seconds: float) -> None:
    books.gone.pop(path, None)  # so that the order is that of the deaths
    books.gone[path] = Gone(books.cgroups.pop(path), seconds)


def _followed(books: Books, path: str, counters: CgroupCounters, seconds: float) -> Tracked:
    tracked = books.cgroups.get(path)
    inode = counters.holder.inode
    if tracked is not None and tracked.holder.inode != inode:
        _bury(books, path, seconds)
        tracked = None
    if tracked is None:
        gone = books.gone.get(path)
        if gone is None or gone.tracked.holder.inode != inode:
            # Made since the ledger began, so all its kills are the ledger's.
            new = _tracked(counters, 0, None if counters.within is None else 0, seconds)
            return structs.replace(
                new,
                own=None if counters.own is None else 0,
                oom_reading=books.reading if counters.oom else -1,
                group_reading=books.reading if counters.group_kills else -1,
            )
        del books.gone[path]  # it could not be seen for a while
        tracked = gone.tracked
    has_oom = counters.oom is not None and counters.oom > (tracked.oom or 0)
    has_group = counters.group_kills is not None and counters.group_kills > (tracked.group_kills or 0)
    return structs.replace(
        tracked,
        holder=counters.holder,
        # A counter that is read for the first time only now may hold kills from before the ledger.
        own=counters.own if tracked.own is None else tracked.own,
        within=counters.within if tracked.within is None else tracked.within,
        oom=tracked.oom if counters.oom is None else counters.oom,
        oom_reading=books.reading if has_oom else tracked.oom_reading,
        group_kills=tracked.group_kills if counters.group_kills is None else counters.group_kills,
        group_reading=books.reading if has_group else tracked.group_reading,
        init_pid=tracked.init_pid if counters.init_pid is None else counters.init_pid,
    )


def _demand_of(books: Books, counters: CgroupCounters, *, write_off: bool) -> int:
    """Satisfy both counters of a cgroup; return how many kills the node's counter does not bear out."""
    path, inode = counters.holder.path or "/", counters.holder.inode or 0
    contradicted = 0
    for own, source in ((True, Source.COUNTER), (False, Source.ANCESTOR)):
        value = counters.own if own else counters.within
        tracked = books.cgroups[path]
        has = tracked.own if own else tracked.within
        if value is None or has is None or value <= has:
            continue
        missing = _demand(books, Level(path, inode, own), value - has, source)
        if missing and write_off:
            contradicted += missing
            tracked = books.cgroups[path]
            books.cgroups[path] = structs.replace(tracked, **{"own" if own else "within": value})
    return contradicted


def _demand(books: Books, level: Level, count: int, source: Source) -> int:
    """Have ``count`` more entries at a level; return how many could not be had."""
    bare = 0
    while count > 0:
        taken = _take_from_above(books, level, count, source)
        if taken:
            count -= taken
            continue
        if books.budget <= 0:
            break
        line = matching.line_for(books, level)
        now = 1
        if line is not None:
            matching.use(books, line)
        elif bare < KEPT_APART:
            bare += 1
        else:
            now = count if math.isinf(books.budget) else min(count, int(books.budget))
        books.create(level, now, line, source)
        count -= now
    return count


def _take_from_above(books: Books, level: Level, count: int, source: Source) -> int:
    """Move one entry down to a level; return how many kills it was, and 0 if there is none to move."""
    named, unnamed = books.above(level, exact=True), books.above(level, exact=False)
    if level.own and named is not None and (unnamed is not None or books.budget > 0):
        # Kills of an earlier cgroup of this path may be among the named ones, so the last ones go first.
        line = matching.line_for(books, level)
        if line is not None and line.sequence > (named.kill.log_sequence or 0):
            if unnamed is None:
                return 0
            matching.use(books, line)
            return books.move(books.attach(unnamed, line), level, 1, source)
    entry = named or unnamed
    return 0 if entry is None else books.move(entry, level, count, source)
