"""What outlives the agent: OOM kills with their evidence, and the ledger's state, in one SQLite file.

(The record of limits is in the same file; ``limits.record`` has it.)

Kills and the state that they belong to are committed together: a crash at any moment leaves both or neither,
and the ledger goes on from there without losing or doubling one. Write-ahead log, ``synchronous=FULL``: what
``save`` has returned from is on the disk, for kills are few, and a node that ran out of memory may be
switched off next. (NORMAL survives ``kill -9`` as well, but not the power.)
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from cgwatch.encoding import encoded, storable
from cgwatch.errors import CgwatchError
from cgwatch.oom.kill import OomKill
from cgwatch.oom.state import State
from cgwatch.schema import MIGRATIONS

T = TypeVar("T")

LOG = logging.getLogger(__name__)

DATABASE = "cgwatch.db"
"""The file's name in the state directory."""

_BUSY_SECONDS = 5.0
_PRIMARY = 0xFF
"""The part of an error code of SQLite that names the kind."""
_JOURNAL_BYTES = 4 << 20
_SAVE_KILL = """
    INSERT INTO oom_kill (number, found_seconds, container_id, name, path, record, forensics)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (number) DO UPDATE SET
        container_id = excluded.container_id,
        name = excluded.name,
        path = excluded.path,
        record = excluded.record,
        forensics = coalesce(excluded.forensics, forensics)
"""
_SAVE_STATE = (
    "INSERT INTO ledger (only, state) VALUES (1, ?) ON CONFLICT (only) DO UPDATE SET state = excluded.state"
)
_FIND = """
    SELECT record, forensics FROM oom_kill
    WHERE found_seconds >= :since
        AND (:container IS NULL OR name = :container OR path = :container
            OR substr(container_id, 1, length(:container)) = :container)
    ORDER BY number DESC LIMIT :limit
"""
_FIND_EARLIER = """
    SELECT record FROM oom_kill
    WHERE number < :number AND (name = :whose OR path = :whose OR container_id = :whose)
    ORDER BY number DESC LIMIT :limit
"""
_EARLIER = 100
_PRUNE = """
    DELETE FROM oom_kill
    WHERE found_seconds < ? OR number NOT IN (SELECT number FROM oom_kill ORDER BY number DESC LIMIT ?)
"""


class StorageError(CgwatchError):
    """The database cannot be opened, read or written; the message begins with its path."""


class StoredKill(Struct, frozen=True):
    """A kill, and the JSON of its evidence as it was given to ``save``."""

    kill: OomKill
    forensics: bytes | None


class Storage:
    """One connection, for all threads: a lock lets one in at a time.

    Made by ``open`` or ``open_reader``. ``moved_aside`` are the damaged databases that had to give way.
    """

    def __init__(self, path: str, connect: Callable[[str], sqlite3.Connection], *, mend: bool) -> None:
        self.path = path
        self.moved_aside: list[str] = []
        self._connect = connect
        self._mend = mend
        self._lock = threading.Lock()
        self._connection = self._connected()

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the database for writing; make it, and the directory it lies in, where they are not there.

        One that is damaged is moved aside, to ``<path>.damaged-<n>``, and a new one begun. Raises
        ``StorageError`` if that cannot be done, or if a newer cgwatch has written it.
        """
        return cls(path, _connect_writer, mend=True)

    @classmethod
    def open_reader(cls, path: str) -> Self:
        """Open the database for reading, whether or not an agent is writing it.

        Raises ``StorageError`` when it is not there or cannot be read.
        """
        return cls(path, _connect_reader, mend=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def save(
        self, kills: Iterable[OomKill], state: State, forensics: Mapping[int, Struct] | None = None
    ) -> None:
        """Store kills, the ledger's state and evidence (by the kills' numbers) in one transaction.

        A kill replaces the one of the same number; its evidence stays if there is none here. When this
        returns, all of it is on the disk. Raises ``StorageError``; then nothing of it is stored.
        """
        rows = [_row(kill, (forensics or {}).get(kill.number)) for kill in kills]
        encoded_state = encoded(msgspec.msgpack.encode, state)

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_SAVE_KILL, rows)
            connection.execute(_SAVE_STATE, (encoded_state,))

        self.transact(write)

    def state(self) -> State | None:
        """Return the ledger's state; ``None`` if there is none, or one that this version cannot read."""
        row = self.transact(lambda connection: connection.execute("SELECT state FROM ledger").fetchone())
        if row is None:
            return None
        try:
            return msgspec.msgpack.decode(row[0], type=State)
        except msgspec.MsgspecError:
            return None

    def kills(
        self, *, since_seconds: float = 0, container: str | None = None, limit: int = -1
    ) -> list[StoredKill]:
        """Return kills, the newest first, at most ``limit`` of them if it is not negative.

        ``since_seconds``: found at that time or later, since the epoch. ``container``: a name, a path, or
        the beginning of a container's id.
        """
        wanted = {"since": since_seconds, "container": container, "limit": limit}
        rows = self.transact(lambda connection: connection.execute(_FIND, wanted).fetchall())
        return [StoredKill(self._decoded(record), forensics) for record, forensics in rows]

    def _decoded(self, record: bytes) -> OomKill:
        try:
            return msgspec.json.decode(record, type=OomKill)
        except msgspec.MsgspecError as error:
            raise StorageError(f"{self.path}: a kill that this version cannot read: {error}") from error

    def earlier(self, kill: OomKill) -> list[OomKill]:
        """Return the last kills of the same holder before this one, the newest first."""
        holder = kill.holder
        if holder is None:
            return []
        whose = storable(holder.name or holder.path or holder.owner.container_id)
        wanted = {"number": kill.number, "whose": whose, "limit": _EARLIER}
        rows = self.transact(lambda connection: connection.execute(_FIND_EARLIER, wanted).fetchall())
        return [self._decoded(record) for (record,) in rows]

    def next_number(self) -> int:
        """Return a number for a kill that none here has; for a ledger without a state."""
        query = "SELECT coalesce(max(number), 0) + 1 FROM oom_kill"
        return int(self.transact(lambda connection: connection.execute(query).fetchone())[0])

    def prune(self, *, before_seconds: float, keep: int) -> int:
        """Delete the kills found before a time, and all but the newest ``keep``; return how many."""
        return self.transact(lambda connection: connection.execute(_PRUNE, (before_seconds, keep)).rowcount)

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction, also with tables of one's own, which ``MIGRATIONS`` makes.

        What it returns from is on the disk. A database that turns out damaged is begun anew, once. Raises
        ``StorageError``; then nothing of it is stored. Several processes may do so: begin with a write if
        there is any, so that what is read after it is the latest.
        """
        with self._lock:
            try:
                with _transaction(self._connection):
                    return work(self._connection)
            except sqlite3.Error as error:
                if not self._mend or not _is_damage(error):
                    raise self._failed(error) from error
                self._connection.close()
                self._move_aside(error)
                self._connection = self._connected()
            try:
                with _transaction(self._connection):
                    return work(self._connection)
            except sqlite3.Error as error:
                raise self._failed(error) from error

    def _connected(self) -> sqlite3.Connection:
        try:
            return self._connect(self.path)
        except (sqlite3.Error, OSError) as error:
            if not self._mend or not _is_damage(error):
                raise self._failed(error) from error
            self._move_aside(error)
        try:
            return self._connect(self.path)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _move_aside(self, problem: Exception) -> None:
        number = 1
        while os.path.exists(f"{self.path}.damaged-{number}"):
            number += 1
        target = f"{self.path}.damaged-{number}"
        try:
            # The log belongs to the damaged file: beside a new one it would damage that, too.
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.path + suffix, target + suffix)
        except OSError as error:
            raise self._failed(error) from error
        self.moved_aside.append(target)
        LOG.warning(
            "the database is damaged; it was moved aside and a new one begun",
            extra={"path": self.path, "moved_to": target, "problem": str(problem)},
        )

    def _failed(self, error: Exception) -> StorageError:
        return StorageError(f"{self.path}: {error}")


def _connect_writer(path: str) -> sqlite3.Connection:
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, mode=0o750, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o640))  # names of processes are not for everyone
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=16
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        _check_pages(connection)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_reader(path: str) -> sqlite3.Connection:
    def connected(options: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(os.path.abspath(path))}?{options}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _check_begun(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection

    try:
        return connected("mode=ro")
    except sqlite3.OperationalError:
        if os.path.exists(path + "-wal") or not os.path.exists(path):
            raise
        # Nobody has it open, and we may not make the files that readers and a writer share.
        return connected("mode=ro&immutable=1")


def _check_pages(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _DamagedError(found)


def _check_begun(connection: sqlite3.Connection, path: str) -> None:
    if _check_version(connection, path) == 0:
        raise StorageError(f"{path}: nothing is stored here yet; an agent (cgwatch run) will")


def _check_version(connection: sqlite3.Connection, path: str) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise StorageError(
            f"{path}: written by a newer cgwatch (version {version} of the database, "
            f"this one knows {len(MIGRATIONS)}): update cgwatch, or move the file away"
        )
    return version


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    for version in range(_check_version(connection, path), len(MIGRATIONS)):
        # One transaction with the number, so a crash leaves the one or the other.
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[version]} PRAGMA user_version = {version + 1}; COMMIT;"
        )


class _DamagedError(sqlite3.DatabaseError):
    """The check of the pages found something."""


def _is_damage(error: Exception) -> bool:
    """Tell a damaged file from one that is full, locked or not ours: that is no reason to begin anew."""
    code = getattr(error, "sqlite_errorcode", None)
    is_corrupt = code is not None and code & _PRIMARY in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return is_corrupt or isinstance(error, _DamagedError)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _row(kill: OomKill, forensics: Struct | None) -> tuple[object, ...]:
    holder = kill.holder
    return (
        kill.number,
        kill.found_seconds,
        storable(holder.owner.container_id if holder else None),
        storable(holder.name if holder else None),
        storable((holder.path if holder else None) or kill.path),
        encoded(msgspec.json.encode, kill),
        None if forensics is None else encoded(msgspec.json.encode, forensics),
    )
