"""A recorded case: what an agent stored of a real kill, and what is known of it from elsewhere."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from cgwatch.cli.oom_text import explanation
from cgwatch.oom.case import Consumer, moment_of
from cgwatch.oom.evidence import Evidence
from cgwatch.oom.explain import Explanation, explain
from cgwatch.oom.kill import Cause, OomKill, Scope
from cgwatch.oom.shape import Shape
from cgwatch.oom.state import State
from cgwatch.storage import DATABASE, Storage

HERE = Path(__file__).parent
WIDTH = 100
"""Of a line, as where the output is no terminal."""


class Truth(Struct, frozen=True, omit_defaults=True):
    """What the recorder set and the program did: known without cgwatch."""

    cause: Cause
    consumer: Consumer
    shape: Shape
    scope: Scope
    limit_path: str | None = None
    """``None``: it was the node."""
    limit_bytes: int | None = None
    could_reclaim: bool = False
    """The program left a good part of the limit as clean page cache."""
    consumer_bytes: int | None = None
    """So much of what it took most of, at the kill."""
    bytes_per_second: float | None = None
    """Of steady growth."""
    growing_seconds: float | None = None
    victim_pid: int | None = None
    name: str | None = None
    exit_code: int | None = None
    culprit: str | None = None
    """Who used most, where that is another one than the victim's holder: its path or name."""
    swap_bytes: int | None = None
    """So much of it in swap at the kill."""
    is_told: bool = True
    """The kernel's log said whose limit it was: it holds its words back where it has said much."""
    not_known: tuple[str, ...] = ()
    """How what nobody could see begins."""
    kills: int = 1
    """Of the same holder, this one included."""


class Recorded(Struct, frozen=True, omit_defaults=True):
    """One case, as its file has it."""

    how: str
    """What was done, in a few words."""
    kernel: str
    version: int
    """Of the cgroups."""
    truth: Truth
    kill: OomKill
    evidence: Evidence | None
    earlier: tuple[OomKill, ...] = ()
    """Of the same holder, the newest first."""

    def explained(self) -> Explanation:
        """Explain it as ``cgwatch oom explain`` does."""
        return explain(self.kill, self.evidence, self.earlier)

    def store(self, state_dir: Path) -> None:
        """Put it into a database, for the verbs to read."""
        evidence = {self.kill.number: self.evidence} if self.evidence else None
        with Storage.open(str(state_dir / DATABASE)) as storage:
            storage.save(
                (self.kill, *self.earlier), State(self.kill.boot_id, self.kill.found_seconds), evidence
            )


def names() -> list[str]:
    """Give the names of all cases."""
    return sorted(place.stem for place in HERE.glob("*.json"))


def text_of(name: str) -> str:
    """Read what is said of a case: all but the first line, whose time is in the reader's zone."""
    return (HERE / f"{name}.txt").read_text()


def said_of(case: Recorded) -> str:
    """Write what is said of a case."""
    lines = list(explanation(case.explained(), moment_of(case.kill), WIDTH))
    return "\n".join(lines[1:]) + "\n"


def load(name: str) -> Recorded:
    """Read a case."""
    return msgspec.json.decode((HERE / f"{name}.json").read_bytes(), type=Recorded)


def write(name: str, case: Recorded) -> None:
    """Write a case and what is said of it, in place of what is there."""
    text = msgspec.json.format(msgspec.json.encode(case), indent=1)
    (HERE / f"{name}.json").write_bytes(text + b"\n")
    (HERE / f"{name}.txt").write_text(said_of(case))
