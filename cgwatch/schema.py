"""The tables of the database, and how an older one becomes the present one."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE oom_kill (
        number INTEGER PRIMARY KEY,
        found_seconds REAL NOT NULL,
        container_id TEXT,
        name TEXT,
        path TEXT,
        record BLOB NOT NULL,
        forensics BLOB
    );
    CREATE INDEX oom_kill_found ON oom_kill (found_seconds);
    CREATE TABLE ledger (only INTEGER PRIMARY KEY CHECK (only = 1), state BLOB NOT NULL);
    """,
    """
    CREATE TABLE notification (
        receiver TEXT NOT NULL,
        key TEXT NOT NULL,
        made_seconds REAL NOT NULL,
        message BLOB NOT NULL,
        PRIMARY KEY (receiver, key)
    );
    CREATE TABLE told_kill (number INTEGER PRIMARY KEY);
    CREATE TABLE alert (receiver TEXT NOT NULL, record BLOB NOT NULL);
    """,
    # Of limits.record; IF NOT EXISTS, as an agent and a command may both come to it first.
    """
    CREATE TABLE IF NOT EXISTS limit_report (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        boot_id TEXT NOT NULL,
        seconds REAL NOT NULL,
        intent BLOB
    );
    CREATE TABLE IF NOT EXISTS limit_change (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        report INTEGER NOT NULL,
        seconds REAL NOT NULL,
        container_id TEXT,
        name TEXT,
        path TEXT NOT NULL,
        key TEXT NOT NULL,
        result TEXT,
        record BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS limit_change_seconds ON limit_change (seconds);
    CREATE TABLE IF NOT EXISTS limit_override (
        boot_id TEXT NOT NULL,
        path TEXT NOT NULL,
        inode INTEGER NOT NULL,
        key TEXT NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (boot_id, path, inode, key)
    );
    CREATE TABLE IF NOT EXISTS limit_baseline (
        boot_id TEXT NOT NULL,
        path TEXT NOT NULL,
        inode INTEGER NOT NULL,
        key TEXT NOT NULL,
        seconds REAL NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (boot_id, path, inode, key)
    );
    """,
)
"""Row n leads from version n to n + 1, which ``PRAGMA user_version`` keeps; a released row never changes."""
