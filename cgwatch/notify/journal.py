"""What of the notifications outlives the agent: messages on their way, alerts that fire, kills told.

A message and the kills that it tells of are stored in one transaction, before anyone is told: a crash at any
moment leaves a kill to be told or a message to be sent, never neither. What is delivered is deleted after
that, so a crash in between sends it once more, under the same key.

What cannot be stored is logged, and held in memory alone: a full disk keeps nobody from being told.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from cgwatch.notify.alerts import Alert
from cgwatch.notify.message import Message
from cgwatch.oom.evidence import Evidence, decode
from cgwatch.oom.kill import OomKill
from cgwatch.storage import Storage, StorageError

LOG = logging.getLogger(__name__)
T = TypeVar("T")
S = TypeVar("S", bound=Struct)

_BEGAN = 0
"""No kill's number. Its row says that kills are told from then on: what was there before is not news."""
_UNTOLD = """
    SELECT record, forensics FROM oom_kill
    WHERE found_seconds >= ? AND number NOT IN (SELECT number FROM told_kill) ORDER BY number LIMIT ?
"""
_MOST_UNTOLD = 1000


class Entry(Struct, frozen=True):
    """A message on its way to one receiver."""

    message: Message
    made_seconds: float
    """Since the epoch."""


class Journal:
    """May be used from any thread; ``storage`` ``None``: nothing outlives this run."""

    def __init__(self, storage: Storage | None) -> None:
        self._storage = storage
        self._failed = False

    def begin(self) -> None:
        """Tell of kills from now on, if that did not begin before."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM told_kill WHERE number = ?", (_BEGAN,)).fetchone() is None:
                connection.execute("INSERT OR IGNORE INTO told_kill SELECT number FROM oom_kill")
                connection.execute("INSERT INTO told_kill VALUES (?)", (_BEGAN,))
            connection.execute(
                "DELETE FROM told_kill WHERE number <> ? AND number < (SELECT min(number) FROM oom_kill)",
                (_BEGAN,),
            )

        self._do(work, None)

    def cease(self) -> None:
        """Tell no more: who asks for it again later does not want to hear of what was meanwhile."""
        self._do(lambda connection: connection.execute("DELETE FROM told_kill").close(), None)

    def untold(self, since_seconds: float) -> list[tuple[OomKill, Evidence | None]]:
        """Return the kills found since then that nobody was told of, with their evidence."""
        rows = self._rows(_UNTOLD, since_seconds, _MOST_UNTOLD)
        kills = ((_decoded(record, OomKill), decode(forensics)) for record, forensics in rows)
        return [(kill, evidence) for kill, evidence in kills if kill is not None]

    def is_told(self, number: int) -> bool:
        """Tell whether a kill was told, or is on its way."""
        query = "SELECT 1 FROM told_kill WHERE number = ?"
        return bool(self._rows(query, number))

    def earlier(self, kill: OomKill) -> list[OomKill]:
        """Return the kills of the same holder before this one, the newest first."""
        if self._storage is None:
            return []
        try:
            return self._storage.earlier(kill)
        except StorageError:
            return []

    def add(self, receivers: Iterable[str], entry: Entry, numbers: Iterable[int]) -> None:
        """Store a message for each receiver, and that these kills are told by it."""
        encoded = msgspec.json.encode(entry.message)
        rows = [(receiver, entry.message.key, entry.made_seconds, encoded) for receiver in receivers]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR IGNORE INTO notification VALUES (?, ?, ?, ?)", rows)
            connection.executemany(
                "INSERT OR IGNORE INTO told_kill VALUES (?)", [(number,) for number in numbers]
            )

        self._do(work, None)

    def remove(self, receiver: str, key: str) -> None:
        """Delete a message that has come, or will not come."""
        query = "DELETE FROM notification WHERE receiver = ? AND key = ?"
        self._do(lambda connection: connection.execute(query, (receiver, key)).close(), None)

    def entries(self, receiver: str) -> list[Entry]:
        """Return what is on its way to one receiver, the oldest first."""
        query = (
            "SELECT message, made_seconds FROM notification WHERE receiver = ? ORDER BY made_seconds, rowid"
        )
        rows = self._rows(query, receiver)
        messages = ((_decoded(message, Message), made_seconds) for message, made_seconds in rows)
        return [Entry(message, made_seconds) for message, made_seconds in messages if message is not None]

    def forget_others(self, receivers: Collection[str]) -> int:
        """Delete what is for receivers that are no more; return how many messages that were."""

        def work(connection: sqlite3.Connection) -> int:
            stored = {
                receiver
                for table in ("notification", "alert")
                for (receiver,) in connection.execute(f"SELECT DISTINCT receiver FROM {table}")  # noqa: S608 - ours
            }
            gone = [(receiver,) for receiver in stored.difference(receivers)]
            connection.executemany("DELETE FROM alert WHERE receiver = ?", gone)
            return connection.executemany("DELETE FROM notification WHERE receiver = ?", gone).rowcount

        return max(0, self._do(work, 0))

    def alerts(self, receiver: str) -> list[Alert]:
        """Return the alerts that fire in one Alertmanager."""
        query = "SELECT record FROM alert WHERE receiver = ?"
        rows = self._rows(query, receiver)
        return [alert for (record,) in rows if (alert := _decoded(record, Alert)) is not None]

    def keep_alerts(self, receiver: str, alerts: Iterable[Alert]) -> None:
        """Store these, and no others, as the alerts of one Alertmanager."""
        rows = [(receiver, msgspec.json.encode(alert)) for alert in alerts]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM alert WHERE receiver = ?", (receiver,))
            connection.executemany("INSERT INTO alert VALUES (?, ?)", rows)

        self._do(work, None)

    def _rows(self, query: str, *values: object) -> list[Any]:
        nothing: list[Any] = []
        return self._do(lambda connection: connection.execute(query, values).fetchall(), nothing)

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._storage is None:
            return otherwise
        try:
            return self._storage.transact(work)
        except StorageError as error:
            if not self._failed:
                self._failed = True
                LOG.warning(
                    "notifications cannot be stored; they are sent, but do not outlive cgwatch",
                    extra={"problem": str(error)},
                )
            return otherwise


def _decoded(record: bytes, kind: type[S]) -> S | None:
    """Read what a version of cgwatch has stored; ``None`` where this one cannot."""
    try:
        return msgspec.json.decode(record, type=kind)
    except msgspec.MsgspecError:
        return None
