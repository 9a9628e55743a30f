"""The record of limits in the database: the audit log, overrides with their time, baselines, intents.

Everything about a cgroup is kept by its identity: boot, path and inode. One that is made anew at the same
path has none of it, so nothing is ever brought back onto another one.

A request is recorded before its first write: its rows of the audit log (without a result), what every limit
was before, and the plan. Whatever happens next, the end of it is recorded by ``complete``, by this process or
by the next one that looks at ``open_intents``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from cgwatch.cgroup.knobs import Value
from cgwatch.change import Actor, Change, Key, Outcome, Plan, Result, Target, Via
from cgwatch.encoding import encoded, storable
from cgwatch.storage import Storage, StorageError

T = TypeVar("T")


class Identity(Struct, frozen=True):
    """Of one cgroup, among all that ever had its path."""

    boot_id: str
    path: str
    inode: int


class Entry(Struct, frozen=True):
    """A row of the audit log: one change of one request."""

    number: int
    """Of the row."""
    report: int
    """Of the request; all of its rows have it."""
    seconds: float
    """When it was begun, since the epoch."""
    target: Target
    actor: Actor
    reason: str
    for_seconds: float | None
    change: Change
    outcome: Outcome | None
    """``None``: it is being made right now, or a crash came between and nobody has looked since."""


class Override(Struct, frozen=True):
    """A limit that somebody wants for a while, or until it is reset. The newest of a key replaces others."""

    target: Target
    key: Key
    value: Value
    """As the kernel showed it when it was written."""
    via: Via
    actor: Actor
    reason: str
    set_seconds: float
    """Since the epoch, as the next."""
    expires_seconds: float | None
    report: int


class Intent(Struct, frozen=True):
    """What was going to be done: the plan, and which way each of its keys goes."""

    plan: Plan
    ways: Mapping[Key, Via]
    restores: bool
    """It brings back a baseline: what a crash left of it is done again, and not undone."""


class OpenIntent(Struct, frozen=True):
    """One that nobody has completed."""

    report: int
    boot_id: str
    seconds: float
    intent: Intent


class _Row(Struct, frozen=True):
    """What of an ``Entry`` has no column."""

    target: Target
    actor: Actor
    reason: str
    for_seconds: float | None
    change: Change
    outcome: Outcome | None


class _Kept(Struct, frozen=True):
    """What a limit was before."""

    value: Value


_FIND = """
    SELECT number, report, seconds, record FROM limit_change
    WHERE seconds >= :since
        AND (:container IS NULL OR name = :container OR path = :container
            OR substr(container_id, 1, length(:container)) = :container)
    ORDER BY number DESC LIMIT :limit
"""
_HERE = "boot_id = ? AND path = ? AND inode = ?"


class Records:
    """Safe for any thread and for several processes, as ``Storage`` is. All raise ``StorageError``."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    # -- a request's way -----------------------------------------------------------------------------------

    def begin(self, boot_id: str, seconds: float, intent: Intent) -> int:
        """Record what is going to be done, and what was there before; return the number of the report.

        A baseline that is there already stays: it is of before the first override.
        """
        request = intent.plan.request
        target = request.target

        def work(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO limit_report (boot_id, seconds, intent) VALUES (?, ?, ?)",
                (boot_id, seconds, encoded(msgspec.msgpack.encode, intent)),
            )
            number = _number(cursor)
            for change in (*intent.plan.changes, *intent.plan.unchanged):
                row = _Row(target, request.actor, request.reason, request.for_seconds, change, None)
                _insert(connection, number, seconds, row)
                if change.before is not None and not intent.restores:
                    connection.execute(
                        "INSERT OR IGNORE INTO limit_baseline VALUES (?, ?, ?, ?, ?, ?)",
                        (
                            boot_id,
                            target.path,
                            target.inode,
                            change.key,
                            seconds,
                            msgspec.msgpack.encode(_Kept(change.before)),
                        ),
                    )
            return number

        return self._storage.transact(work)

    def complete(
        self,
        report: int,
        outcomes: Sequence[Outcome],
        *,
        overrides: Iterable[Override] = (),
        dropped: Iterable[tuple[Identity, Key]] = (),
        forgotten: Iterable[tuple[Identity, Key]] = (),
        boot_id: str = "",
    ) -> None:
        """Record what became of a request, the overrides that it made, and those that it ended.

        ``forgotten``: baselines that are not needed any more, as the limit is what it was before.
        """
        by_key = {outcome.change.key: outcome for outcome in outcomes}

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE limit_report SET intent = NULL WHERE number = ?", (report,))
            rows = connection.execute(
                "SELECT number, key, record FROM limit_change WHERE report = ?", (report,)
            ).fetchall()
            for number, key, record in rows:
                outcome = by_key.get(key)
                if outcome is not None:
                    row = msgspec.structs.replace(self._decoded(record, _Row), outcome=outcome)
                    connection.execute(
                        "UPDATE limit_change SET result = ?, record = ? WHERE number = ?",
                        (str(outcome.result), encoded(msgspec.msgpack.encode, row), number),
                    )
            self._settle(connection, boot_id, overrides, dropped, forgotten)

        self._storage.transact(work)

    def note(
        self,
        seconds: float,
        rows: Iterable[tuple[Target, Actor, str, float | None, Outcome]],
        *,
        dropped: Iterable[tuple[Identity, Key]] = (),
        forgotten: Iterable[tuple[Identity, Key]] = (),
        boot_id: str = "",
    ) -> int:
        """Record what needed no write: a refusal, a conflict, a cgroup that is gone. Returns its number."""

        def work(connection: sqlite3.Connection) -> int:
            number = _number(
                connection.execute(
                    "INSERT INTO limit_report (boot_id, seconds) VALUES (?, ?)", (boot_id, seconds)
                )
            )
            for target, actor, reason, for_seconds, outcome in rows:
                row = _Row(target, actor, reason, for_seconds, outcome.change, outcome)
                _insert(connection, number, seconds, row)
            self._settle(connection, boot_id, (), dropped, forgotten)
            return number

        return self._storage.transact(work)

    def follow(self, old: Identity, override: Override, boot_id: str, target: Target) -> None:
        """Let an override and its baseline be those of the cgroup that took the place of its own."""
        where = (old.boot_id, old.path, old.inode, override.key)
        moved = msgspec.structs.replace(override, target=target)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM limit_override WHERE {_HERE} AND key = ?", where)  # noqa: S608 - it is constant
            connection.execute(
                "UPDATE OR REPLACE limit_baseline SET boot_id = ?, path = ?, inode = ?"
                " WHERE boot_id = ? AND path = ? AND inode = ? AND key = ?",
                (boot_id, target.path, target.inode, *where),
            )
            self._settle(connection, boot_id, (moved,), (), ())

        self._storage.transact(work)

    def _settle(
        self,
        connection: sqlite3.Connection,
        boot_id: str,
        overrides: Iterable[Override],
        dropped: Iterable[tuple[Identity, Key]],
        forgotten: Iterable[tuple[Identity, Key]],
    ) -> None:
        for table, gone in (("limit_override", dropped), ("limit_baseline", forgotten)):
            connection.executemany(
                f"DELETE FROM {table} WHERE {_HERE} AND key = ?",  # noqa: S608 - one of the two names above
                [(each.boot_id, each.path, each.inode, key) for each, key in gone],
            )
        connection.executemany(
            "INSERT OR REPLACE INTO limit_override VALUES (?, ?, ?, ?, ?)",
            [
                (
                    boot_id,
                    each.target.path,
                    each.target.inode,
                    each.key,
                    encoded(msgspec.msgpack.encode, each),
                )
                for each in overrides
            ],
        )

    # -- what is there -------------------------------------------------------------------------------------

    def open_intents(self) -> list[OpenIntent]:
        """Return what was begun and never completed, the oldest first."""
        rows = self._all(
            "SELECT number, boot_id, seconds, intent FROM limit_report"
            " WHERE intent IS NOT NULL ORDER BY number"
        )
        return [
            OpenIntent(number, boot_id, seconds, self._decoded(intent, Intent))
            for number, boot_id, seconds, intent in rows
        ]

    def overrides(self) -> list[tuple[Identity, Override]]:
        """Return every override, the oldest first."""
        rows = self._all("SELECT boot_id, path, inode, record FROM limit_override ORDER BY rowid")
        return [
            (Identity(boot_id, path, inode), self._decoded(record, Override))
            for boot_id, path, inode, record in rows
        ]

    def overrides_by_cgroup(self) -> list[tuple[Identity, list[Override]]]:
        """Return the same, those of one cgroup together."""
        grouped: dict[Identity, list[Override]] = {}
        for identity, override in self.overrides():
            grouped.setdefault(identity, []).append(override)
        return list(grouped.items())

    def baselines(self, identity: Identity) -> dict[Key, Value]:
        """Return what the limits of a cgroup were before the first override of each."""
        rows = self._all(
            f"SELECT key, value FROM limit_baseline WHERE {_HERE}",  # noqa: S608 - it is constant
            (identity.boot_id, identity.path, identity.inode),
        )
        return {key: self._decoded(value, _Kept).value for key, value in rows}

    def changes(
        self, *, since_seconds: float = 0, container: str | None = None, limit: int = -1
    ) -> list[Entry]:
        """Return rows of the audit log, the newest first, at most ``limit`` if it is not negative.

        ``container``: a name, a path, or the beginning of a container's id.
        """
        rows = self._all(_FIND, {"since": since_seconds, "container": container, "limit": limit})
        return [
            Entry(number, report, seconds, *msgspec.structs.astuple(self._decoded(record, _Row)))
            for number, report, seconds, record in rows
        ]

    def prune(self, *, boot_id: str, before_seconds: float) -> int:
        """Delete the audit log of before a time, and baselines of an earlier boot; return how many rows.

        A request that nobody has completed stays.
        """

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(
                "DELETE FROM limit_baseline WHERE boot_id != ?"
                " AND (boot_id, path, inode, key) NOT IN"
                " (SELECT boot_id, path, inode, key FROM limit_override)",
                (boot_id,),
            )
            gone = connection.execute(
                "DELETE FROM limit_change WHERE seconds < ? AND result IS NOT NULL", (before_seconds,)
            ).rowcount
            connection.execute(
                "DELETE FROM limit_report WHERE seconds < ? AND intent IS NULL", (before_seconds,)
            )
            return gone

        return self._storage.transact(work)

    def _all(self, query: str, wanted: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        return self._storage.transact(lambda connection: connection.execute(query, wanted).fetchall())

    def _decoded(self, record: bytes, kind: type[T]) -> T:
        try:
            return msgspec.msgpack.decode(record, type=kind)
        except msgspec.MsgspecError as error:
            raise StorageError(
                f"{self._storage.path}: a record of limits that this version cannot read: {error}"
            ) from error


def _number(cursor: sqlite3.Cursor) -> int:
    number = cursor.lastrowid
    if number is None:  # pragma: no cover - an INSERT has one
        raise sqlite3.DatabaseError("an INSERT without a row")
    return number


def _insert(connection: sqlite3.Connection, report: int, seconds: float, row: _Row) -> None:
    target = row.target
    connection.execute(
        "INSERT INTO limit_change (report, seconds, container_id, name, path, key, result, record)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            report,
            seconds,
            target.owner.container_id,
            storable(target.name),
            storable(target.path),
            row.change.key,
            None if row.outcome is None else str(row.outcome.result),
            encoded(msgspec.msgpack.encode, row),
        ),
    )


def never_made(
    records: Records, outcomes: Iterable[Outcome], identity: Identity
) -> list[tuple[Identity, Key]]:
    """Return the baselines that were kept for a write that came to nothing."""
    held = {override.key for each, override in records.overrides() if each == identity}
    return [
        (identity, outcome.change.key)
        for outcome in outcomes
        if outcome.result is Result.REFUSED and outcome.change.key not in held
    ]
