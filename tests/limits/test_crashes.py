"""SIGKILL at any moment: whoever comes next finds every limit as it was, or as somebody wanted it."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from cgwatch.limits.record import Records
from cgwatch.storage import DATABASE, Storage, StorageError
from tests.limits.sandbox import MEBIBYTE, SOMEBODY, Bench, Sandbox, wish

if TYPE_CHECKING:
    from pathlib import Path

    from cgwatch.change import Target

pytestmark = pytest.mark.real

KILLS = int(os.environ.get("CGWATCH_LIMIT_KILLS", "60"))
LONGEST_SECONDS = 0.25
BASELINE = {"memory.max": 256 * MEBIBYTE, "pids.max": 1000}


def live(state_dir: Path, target: Target, seed: int) -> None:
    """Set, expire and reset limits, for ever."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    bench = Bench(state_dir)
    terms, enforcer = bench.office.terms, bench.office.enforcer
    terms.resume()
    while True:
        match chance.randrange(4):
            case 0 | 1:
                memory, tasks = chance.randrange(16, 200) * MEBIBYTE, chance.randrange(10, 900)
                for_seconds = chance.choice([0.01, 600, None])
                enforcer.apply(wish(target, for_seconds, memory_max=memory, pids_max=tasks))
            case 2:
                enforcer.reset(target, chance.choice([None, ("memory.max",)]), SOMEBODY)
            case _:
                terms.expire(bench.now())


def live_and_be_killed(state_dir: Path, target: Target, seed: int, after_seconds: float) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            live(state_dir, target, seed)
        finally:
            os._exit(1)
    time.sleep(after_seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "it ended by itself"


@pytest.mark.timeout(600)
def test_whenever_it_is_killed_every_limit_is_the_wanted_one_or_what_it_was_and_the_log_has_no_hole(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    target = sandbox.target(sandbox.root)
    sandbox.memory(sandbox.root).write_text(str(BASELINE["memory.max"]))
    sandbox.pids(sandbox.root).write_text(str(BASELINE["pids.max"]))
    chance = random.Random(os.environ.get("CGWATCH_LIMIT_SEED", "12"))  # noqa: S311 - no secret
    interrupted = 0
    for kill in range(KILLS):
        live_and_be_killed(tmp_path, target, chance.randrange(1 << 30), chance.uniform(0, LONGEST_SECONDS))
        bench = Bench(tmp_path)
        interrupted += len(bench.office.records.open_intents())
        bench.office.terms.resume()

        records = bench.office.records
        wanted = {override.key: override.value for _, override in records.overrides()}
        found = {
            "memory.max": int(sandbox.memory(sandbox.root).read_text()),
            "pids.max": int(sandbox.pids(sandbox.root).read_text()),
        }
        assert found == BASELINE | wanted, (kill, wanted)
        baselines = records.baselines(bench.office.enforcer.identity(target))
        assert baselines == {key: BASELINE[key] for key in wanted}, kill
        entries = records.changes()
        assert [entry.number for entry in entries] == list(range(len(entries), 0, -1)), kill
        assert all(entry.outcome is not None for entry in entries), kill
        bench.close()
    assert interrupted > KILLS / 10, "hardly ever killed in the middle of anything"

    bench = Bench(tmp_path)
    bench.office.enforcer.reset(target, None, SOMEBODY)
    bench.close()
    assert int(sandbox.memory(sandbox.root).read_text()) == BASELINE["memory.max"]
    assert int(sandbox.pids(sandbox.root).read_text()) == BASELINE["pids.max"]


def test_an_agent_that_was_killed_in_a_write_that_hangs_keeps_others_from_writing_until_that_is_over(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    target, hanging = sandbox.target(sandbox.root), tmp_path / "hanging"
    os.mkfifo(hanging)
    pid = os.fork()
    if pid == 0:
        try:
            bench = Bench(tmp_path)
            hand = bench.office.enforcer._ground._hand  # type: ignore[attr-defined]  # the real one
            write = hand.write
            hand.write = lambda _path, raw: write(str(hanging), raw)
            bench.office.enforcer.apply(wish(target, memory_max=64 * MEBIBYTE))
        finally:
            os._exit(1)
    deadline = time.monotonic() + 10
    while not _has_open_intent(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # the child of the child waits in open(2), which nothing tells
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    with pytest.raises(AssertionError):
        Bench(tmp_path, patience_seconds=0.0)
    with open(hanging, "rb") as reader:  # now the write goes through
        assert reader.read() == str(64 * MEBIBYTE).encode()
    bench = Bench(tmp_path)
    bench.office.terms.resume()
    assert sandbox.memory(sandbox.root).read_text() == sandbox.unlimited
    bench.close()


def _has_open_intent(state_dir: Path) -> bool:
    try:
        with Storage.open_reader(str(state_dir / DATABASE)) as storage:
            return bool(Records(storage).open_intents())
    except StorageError:
        return False
