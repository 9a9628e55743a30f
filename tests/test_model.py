from __future__ import annotations

import gc
import inspect
from typing import TYPE_CHECKING

import pytest
from msgspec import Struct, structs

from cgwatch import model
from cgwatch.model import Cgroup, Container, Kind, Owner, Runtime, Sample, Snapshot
from tests.cgroup.fake_trees import Node

if TYPE_CHECKING:
    from pathlib import Path

TYPES = [
    one
    for _, one in inspect.getmembers(model, inspect.isclass)
    if issubclass(one, Struct) and one is not Struct
]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_frozen(kind: type[Struct]) -> None:
    assert kind.__struct_config__.frozen


def test_the_same_path_with_another_inode_is_another_cgroup() -> None:
    first, second = Cgroup("/docker/a", 10), Cgroup("/docker/a", 11)
    assert first != second
    assert len({first: 1, second: 2, Cgroup("/docker/a", 10): 3}) == 2


def test_what_was_not_read_is_none_and_not_zero() -> None:
    sample = Sample(Container(Cgroup("/", 1), Owner(Kind.ROOT, Runtime.NONE)))
    assert all(
        getattr(sample, field.name) is None for field in structs.fields(sample) if field.name != "container"
    )


def numbers(value: object, name: str) -> list[tuple[str, object]]:
    """Return every number below a value, with the name of its field."""
    if isinstance(value, Struct):
        return [
            pair
            for field in structs.fields(value)
            for pair in numbers(getattr(value, field.name), field.name)
        ]
    if isinstance(value, tuple):
        return [pair for one in value for pair in numbers(one, name)]
    return [(name, value)]


def test_a_snapshot_holds_no_way_to_change_it(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    node.v2("/")
    snapshot = node.tick()
    with pytest.raises(AttributeError):
        snapshot.sequence = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        snapshot.samples[0].memory = None  # type: ignore[misc]
    ratios = [value for name, value in numbers(snapshot.samples, "") if name.endswith("_ratio")]
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in ratios)
    node.close()


def snapshots_alive() -> list[Snapshot]:
    return [one for one in gc.get_objects() if isinstance(one, Snapshot)]


def test_a_snapshot_that_was_replaced_is_freed_at_once(tmp_path: Path) -> None:
    # No cycle: with the collector off for a long time, memory would grow by a snapshot each tick.
    node = Node(tmp_path / "node")
    node.v2("/")
    gc.collect()
    others = snapshots_alive()  # of other tests
    gc.disable()
    try:
        latest = node.tick()
        for _ in range(5):
            latest = node.tick()
        assert [one for one in snapshots_alive() if all(one is not other for other in others)] == [latest]
    finally:
        gc.enable()
        node.close()
