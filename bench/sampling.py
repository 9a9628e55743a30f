"""(a) What sampling costs, against a C loop that reads each of the files; (f) where a tick's time goes."""

from __future__ import annotations

import gc
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from msgspec import Struct

from bench.clock import Clock
from bench.native import Program
from cgwatch.cgroup.tree import Tree
from cgwatch.model import Snapshot
from cgwatch.sampling.followed import Followed
from cgwatch.sampling.network import NetworkReader
from cgwatch.sampling.sampler import Sampler

Burst = Callable[[], object]
"""Makes every container work once; does nothing for idle ones."""


class Sampling(Struct, frozen=True):
    """Medians over the rounds; times are CPU time, user and system."""

    cgroups: int
    rounds: int
    discarded: int
    """Rounds in which cgroups came or went."""
    files_per_cgroup: float
    python_microseconds: float
    """For one cgroup."""
    c_microseconds: float
    python_least_microseconds: float
    c_least_microseconds: float
    changed_ratio: float
    """Of the files that are read in each round: how many had a new text."""
    unchanged: dict[str, float]
    """Names of the files that seldom change, and the share that did."""

    @property
    def ratio(self) -> float:
        """How much more CPU time the sampler takes than the C loop."""
        return self.python_microseconds / self.c_microseconds


def measure(sampler: Sampler, reader: Program, burst: Burst, rounds: int, clock: Clock) -> Sampling:
    """Alternate rounds of the sampler and of the C loop, each after a burst of its own."""
    sequence = _settle(sampler)
    identity = hand_over(sampler, reader)
    changed_ratio, unchanged = _changes(sampler, reader, burst)
    pairs: list[tuple[int, int]] = []
    counts: list[float] = []
    discarded = 0
    kept: list[Snapshot] = []
    while len(pairs) < rounds and discarded < 10 * rounds:
        # Who comes first changes, so that neither always finds the caches as the other left them.
        took: dict[str, int] = {}
        for who in ("python", "c") if len(pairs) % 2 else ("c", "python"):
            burst()
            if who == "c":
                nanoseconds, reads, failures = map(int, reader.ask(f"read {sequence}").split())
                took["c"] = nanoseconds
            else:
                start = clock.now()
                snapshot = sampler.sample(sequence)
                took["python"] = clock.now() - start
                kept = [*kept[-1:], snapshot]  # the agent has the last two as well
        sequence += 1
        now = _identity(sampler)
        if now != identity or failures:
            discarded += 1
            identity = hand_over(sampler, reader)
            continue
        pairs.append((took["python"], took["c"]))
        counts.append(reads)
    cgroups = len(identity)
    python, c = ([pair[side] / 1000 / cgroups for pair in pairs] for side in (0, 1))
    return Sampling(
        cgroups=cgroups,
        rounds=len(pairs),
        discarded=discarded,
        files_per_cgroup=sum(1 for followed in sampler.followed for _ in followed.files) / cgroups,
        python_microseconds=statistics.median(python),
        c_microseconds=statistics.median(c),
        python_least_microseconds=min(python),
        c_least_microseconds=min(c),
        changed_ratio=changed_ratio,
        unchanged=unchanged,
    )


def _settle(sampler: Sampler) -> int:
    """Tick until the settings have been read as often as after a start; return the next tick's number."""
    for sequence in range(3):
        sampler.sample(sequence)
    gc.collect()
    gc.freeze()  # as the agent does after its first tick
    return 3


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top.rstrip('/')}/")


def _identity(sampler: Sampler) -> list[Followed]:
    return list(sampler.followed)


def hand_over(sampler: Sampler, reader: Program, below: str = "/") -> list[Followed]:
    """Give the C loop the files that the sampler reads now, of the cgroups at and below a path."""
    reader.ask("clear")
    identity = [followed for followed in sampler.followed if _is_below(followed.path, below)]
    reader.tell(
        f"file {place} {int(file.is_kept)} {int(file.file.setting)} {int(file.file.many_records)} {file.path}"
        for place, followed in enumerate(identity)
        for file in followed.files
    )
    # Opened at each tick: a kept one would hold the network namespace.
    owners = sampler._network.owners  # noqa: SLF001 - nothing but the bench wants to know
    reader.tell(
        f"file 0 0 0 1 /proc/{owner.pid}/net/dev" for owner in owners if _is_below(owner.key.path, below)
    )
    reader.ask("open")
    return identity


def _changes(sampler: Sampler, reader: Program, burst: Burst) -> tuple[float, dict[str, float]]:
    """Return the share of kept files that have a new text after a burst, and which ones seldom do."""
    names = [file.file.name for followed in sampler.followed for file in followed.files]
    kept = Counter(file.file.name for f in sampler.followed for file in f.files if file.is_kept)
    reader.ask("changes")
    changed: Counter[str] = Counter()
    bursts = 4  # an even number: a second process comes and goes
    for _ in range(bursts):
        burst()
        changed.update(names[int(number)] for number in reader.ask("changes").split())
    shares = {name: changed[name] / count / bursts for name, count in kept.items()}
    seldom = {name: round(share, 3) for name, share in shares.items() if share < 0.5}  # noqa: PLR2004 - half
    return changed.total() / kept.total() / bursts, seldom


class _Phases:
    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self.nanoseconds: Counter[str] = Counter()

    @contextmanager
    def timed(self, owner: type, method: str, phase: str) -> Iterator[None]:
        original = getattr(owner, method)
        nanoseconds, now = self.nanoseconds, self._now

        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any method
            start = now()
            try:
                return original(*args, **kwargs)
            finally:
                nanoseconds[phase] += now() - start

        with mock.patch.object(owner, method, timed):
            yield


def phases(sampler: Sampler, burst: Burst, clock: Clock, rounds: int = 10) -> dict[str, float]:
    """Return where the time of a tick goes, in microseconds for one cgroup, the median of some ticks."""
    found: dict[str, list[float]] = {}
    for sequence in range(100, 100 + rounds):
        burst()
        timer = _Phases(clock)
        with ExitStack() as stack:
            for owner, method, phase in (
                (Tree, "begin", "tree"),
                (Tree, "follow", "tree"),
                (Followed, "read", "read"),
                (NetworkReader, "read", "network"),
                (Sampler, "sample", "whole"),
            ):
                stack.enter_context(timer.timed(owner, method, phase))
            cgroups = len(sampler.sample(sequence).samples)
        took = timer.nanoseconds
        took["rest"] = 2 * took["whole"] - took.total()
        for phase, nanoseconds in took.items():
            found.setdefault(phase, []).append(nanoseconds / 1000 / cgroups)
    return {phase: round(statistics.median(values), 2) for phase, values in found.items()}
