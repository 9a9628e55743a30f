"""What the database in the state directory has: for verbs that only read it, whether or not an agent runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from cgwatch.errors import UnitError
from cgwatch.settings import Settings
from cgwatch.storage import DATABASE, Storage, StorageError
from cgwatch.units import parse_duration, shortened


def since_when(text: str, now_seconds: float) -> float:
    """Return the time, since the epoch, that a duration back from now or a local time means.

    Raises ``UnitError``.
    """
    try:
        return now_seconds - parse_duration(text)
    except UnitError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UnitError(
            f"--since: {shortened(text)} is neither a duration like 24h nor a time like 2026-11-22T10:00"
        ) from None


@contextmanager
def opened(settings: Settings, what: str) -> Iterator[Storage]:
    """Open the database of the state directory for reading; ``what`` is looked for in it.

    Raises ``StorageError``.
    """
    path = os.path.join(settings.state_dir, DATABASE)
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(
            f"{path}: no {what} are stored here; an agent (cgwatch run) stores them in its state "
            "directory: name that with --state-dir"
        ) from None
    except PermissionError:
        raise StorageError(f"{path}: may not be read by this user; try as the agent's, or root") from None
    with Storage.open_reader(path) as storage:
        yield storage
