from __future__ import annotations

import os
import resource
import time
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from cgwatch.metrics.own_process import ProcessMetrics, open_descriptors


def values(collector: object) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(collector)  # type: ignore[arg-type]  # either of the two
    return {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}


def test_the_process_is_told_as_by_the_client_library() -> None:
    ours, theirs = values(ProcessMetrics()), values(ProcessCollector(registry=None))

    theirs = {name: value for name, value in theirs.items() if not name.endswith("_created")}
    ours = {name: value for name, value in ours.items() if not name.endswith("_created")}
    assert ours.keys() == theirs.keys()
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert ours[name] == theirs[name]
    for name in ("process_virtual_memory_bytes", "process_resident_memory_bytes"):
        assert abs(ours[name] / theirs[name] - 1) < 0.1
    assert ours["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < ours["process_start_time_seconds"] < time.time()


def test_each_descriptor_counts_once() -> None:
    before = open_descriptors()
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    try:
        assert open_descriptors() == before + 50
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert open_descriptors() == before


def test_where_the_directory_has_no_size_its_entries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    by_size = open_descriptors()
    monkeypatch.setattr(os, "stat", lambda _path: SimpleNamespace(st_size=0))

    assert open_descriptors() == by_size
