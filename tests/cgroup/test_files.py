from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cgwatch.cgroup import core, files
from cgwatch.cgroup.files import Descriptors, Fault, File, KernelFile, Reader, descriptor_budget
from cgwatch.cgroup.formats import integer, integers
from cgwatch.errors import (
    AccessDeniedError,
    CgroupGoneError,
    FileMissingError,
    KernelFileError,
    MalformedFileError,
    NotSupportedError,
    ReadFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import V1Cgroups

NUMBER = File("memory.current", integer)
NUMBERS = File("many", integers)
LIMIT = File("memory.max", integer, setting=True)
PROCESSES = core.FILES_V1[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "memory.current"
    path.write_text("5\n")
    return path


def opened(path: Path, file: File = NUMBER, budget: int = 1) -> KernelFile:
    return KernelFile(os.fspath(path), file, Descriptors(budget))


def failing(number: int) -> Callable[..., bytes]:
    def pread(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    return pread


@pytest.mark.parametrize("budget", [0, 1])
def test_a_file_is_read_anew_each_time_kept_open_or_not(path: Path, budget: int) -> None:
    file = opened(path, budget=budget)
    assert file.is_kept is bool(budget)
    assert file.read([]) == 5
    path.write_text("6\n")
    assert file.read([]) == 6
    file.close()


@pytest.mark.parametrize("budget", [0, 1])
def test_an_unchanged_text_gives_the_same_object(path: Path, budget: int) -> None:
    path.write_text("100000 200000\n")
    file = opened(path, NUMBERS, budget)
    first = file.read([])
    assert file.read([]) is first
    path.write_text("100000 200001\n")
    assert file.read([]) is not first
    file.close()


@pytest.mark.parametrize("budget", [0, 1])
def test_a_malformed_file_is_a_fault_with_its_path_and_the_next_reading_is_fine_again(
    path: Path, budget: int
) -> None:
    file = opened(path, budget=budget)
    faults: list[Fault] = []
    path.write_text("what?\n")
    assert file.read(faults) is None
    assert [(fault.file, fault.error.path) for fault in faults] == [(NUMBER, os.fspath(path))]
    assert isinstance(faults[0].error, MalformedFileError)
    assert "what?" in str(faults[0].error)
    path.write_text("7\n")
    assert file.read(faults) == 7
    assert len(faults) == 1
    file.close()


def test_a_file_that_was_malformed_once_is_not_taken_for_its_last_value(path: Path) -> None:
    file = opened(path)
    assert file.read([]) == 5
    path.write_text("what?\n")
    for _ in range(2):
        faults: list[Fault] = []
        assert file.read(faults) is None
        assert len(faults) == 1
    path.write_text("5\n")
    assert file.read([]) == 5
    file.close()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, AccessDeniedError),
        (errno.EPERM, AccessDeniedError),
        (errno.EOPNOTSUPP, NotSupportedError),
        (errno.EINVAL, NotSupportedError),
        (errno.EIO, ReadFailedError),
        (errno.ENOMEM, ReadFailedError),
    ],
)
def test_an_error_of_the_kernel_is_a_fault_that_says_which(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[KernelFileError]
) -> None:
    file = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "pread", failing(number))
        faults: list[Fault] = []
        assert file.read(faults) is None
    assert type(faults[0].error) is kind
    assert faults[0].error.errno == number
    assert faults[0].error.path == os.fspath(path)
    assert file.read([]) == 5
    file.close()


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ESRCH])
def test_a_file_whose_cgroup_is_gone_raises(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    file = opened(path)
    monkeypatch.setattr(files, "pread", failing(number))
    with pytest.raises(CgroupGoneError) as error:
        file.read([])
    assert error.value.path == os.fspath(path)
    file.close()


def test_a_file_that_is_not_kept_and_not_there_any_more_raises_too(path: Path) -> None:
    file = opened(path, budget=0)
    assert file.read([]) == 5
    path.unlink()
    with pytest.raises(CgroupGoneError):
        file.read([])
    file.close()


def test_a_file_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    descriptors = Descriptors(1)
    with pytest.raises(FileMissingError) as error:
        KernelFile(f"{tmp_path}/none", NUMBER, descriptors)
    assert error.value.path == f"{tmp_path}/none"
    assert descriptors.kept == 0


def test_an_empty_file_is_malformed_where_a_value_is_due(path: Path) -> None:
    path.write_text("")
    faults: list[Fault] = []
    file = opened(path)
    assert file.read(faults) is None
    assert isinstance(faults[0].error, MalformedFileError)
    file.close()


@pytest.mark.parametrize("budget", [0, 1])
@pytest.mark.parametrize("length", [4095, 4096, 4097, 16384, 20480, 20481, 100_000])
def test_a_file_larger_than_one_read_is_read_whole(path: Path, budget: int, length: int) -> None:
    text = b"7" * length
    path.write_bytes(text)
    file = opened(path, File("text", lambda raw: raw), budget)
    assert file.read([]) == text
    file.close()


def test_every_one_of_thousands_of_processes_is_counted(path: Path) -> None:
    path.write_text("".join(f"{pid}\n" for pid in range(1, 200_001)))
    file = opened(path, PROCESSES)
    found = file.read([])
    assert (found.count, found.first_pid) == (200_000, 1)
    file.close()


def test_a_kernel_file_of_many_records_is_read_to_its_end() -> None:
    symbols = Path("/proc/kallsyms")  # some megabytes, and the same at each reading
    file = opened(symbols, File("kallsyms", lambda raw: raw, many_records=True))
    found = file.read([])
    file.close()
    assert found == symbols.read_bytes()
    assert len(found) > 100_000


def test_settings_are_opened_for_each_reading(path: Path) -> None:
    descriptors = Descriptors(10)
    file = KernelFile(os.fspath(path), LIMIT, descriptors)
    assert not file.is_kept
    assert descriptors.kept == 0
    assert file.read([]) == 5
    file.close()


def test_the_budget_counts_what_is_kept_and_is_whole_again_after_closing(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_text("5\n")
    descriptors = Descriptors(3)
    opened_files = [KernelFile(f"{tmp_path}/{number}", NUMBER, descriptors) for number in range(5)]
    assert [file.is_kept for file in opened_files] == [True, True, True, False, False]
    assert descriptors.kept == 3
    assert [file.read([]) for file in opened_files] == [5] * 5
    for _ in range(2):  # closing twice gives nothing back twice
        for file in opened_files:
            file.close()
        assert descriptors.kept == 0
    assert KernelFile(f"{tmp_path}/0", LIMIT, descriptors).read([]) == 5


def test_directories_are_held_once_for_their_files_and_not_after_them() -> None:
    descriptors = Descriptors(1)
    first, second, third = (f"/cgroup/{name}" for name in "aaa")  # equal, and each an object of its own
    assert descriptors.shared(first) is first
    assert descriptors.shared(second) is first
    for number in range(1000):
        descriptors.shared(f"/cgroup/{number}")
    assert descriptors.shared(third) is third


def test_a_pulse_takes_the_descriptor_of_another_file_when_there_are_no_more(tmp_path: Path) -> None:
    texts = {name: tmp_path / name for name in ("first", "second", "held", "pulse", "late", "beat")}
    for text in texts.values():
        text.write_text("1\n")
    descriptors = Descriptors(3)
    opened = {
        name: KernelFile(str(texts[name]), File(name, integer, pulse=name in {"pulse", "beat"}), descriptors)
        for name in ("first", "second", "held")
    }
    opened["held"].hold()
    for name in ("pulse", "late", "beat"):
        row = File(name, integer, pulse=name in {"pulse", "beat"})
        opened[name] = KernelFile(str(texts[name]), row, descriptors)

    assert {name for name, file in opened.items() if file.is_kept} == {"held", "pulse", "beat"}
    assert descriptors.kept == 3
    assert [file.read([]) for file in opened.values()] == [1] * 6
    more = KernelFile(str(texts["first"]), File("first", integer, pulse=True), descriptors)
    assert not more.is_kept  # what is held, and other pulses, stay
    for file in (*opened.values(), more):
        file.close()
    assert descriptors.kept == 0


def test_a_file_is_kept_again_when_there_are_descriptors_again(tmp_path: Path) -> None:
    for name in ("first", "second", "setting"):
        (tmp_path / name).write_text("1\n")
    descriptors = Descriptors(1)
    first, second = (
        KernelFile(f"{tmp_path}/{name}", File(name, integer), descriptors) for name in ("first", "second")
    )
    setting = KernelFile(f"{tmp_path}/setting", File("setting", integer, setting=True), descriptors)

    second.keep()
    assert not second.is_kept
    first.close()
    for file in (second, setting, second):
        file.keep()
    assert (second.is_kept, setting.is_kept, descriptors.kept) == (True, False, 1)
    second.close()
    assert descriptors.kept == 0


def test_a_negative_budget_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1\n")
    descriptors = Descriptors(-1)
    file = KernelFile(f"{tmp_path}/file", File("file", integer, pulse=True), descriptors)

    file.keep()

    assert (file.is_kept, descriptors.kept) == (False, 0)
    assert file.read([]) == 1


class Recorder:
    """Builds stats objects and counts them."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self, *values: Any) -> tuple[Any, ...]:
        self.built += 1
        return values


@pytest.fixture
def reader(tmp_path: Path) -> tuple[Reader, Recorder]:
    (tmp_path / "memory.current").write_text("5\n")
    (tmp_path / "memory.max").write_text("9\n")
    build = Recorder()
    return Reader((NUMBER, LIMIT), build, lambda file: f"{tmp_path}/{file.name}", Descriptors(0)), build


def test_a_reader_builds_only_when_something_changed(reader: tuple[Reader, Recorder], tmp_path: Path) -> None:
    read, build = reader
    first = read.read([])
    assert first == (5, 9)
    assert read.read([]) is first
    assert build.built == 1
    (tmp_path / "memory.current").write_text("6\n")
    assert read.read([]) == (6, 9)
    assert build.built == 2


def test_settings_stay_as_they_were_when_they_are_not_read(
    reader: tuple[Reader, Recorder], tmp_path: Path
) -> None:
    read, _ = reader
    assert read.read([]) == (5, 9)
    (tmp_path / "memory.max").write_text("10\n")
    assert read.read([], settings=False) == (5, 9)
    assert read.read([], settings=True) == (5, 10)


def test_one_malformed_file_costs_its_own_number_alone(
    reader: tuple[Reader, Recorder], tmp_path: Path
) -> None:
    read, _ = reader
    (tmp_path / "memory.max").write_text("?\n")
    faults: list[Fault] = []
    assert read.read(faults) == (5, None)
    assert [fault.error.path for fault in faults] == [f"{tmp_path}/memory.max"]
    (tmp_path / "memory.max").write_text("9\n")
    assert read.read([]) == (5, 9)


def test_a_reader_names_what_it_could_not_open(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("5\n")
    read = Reader((NUMBER, LIMIT), Recorder(), lambda file: f"{tmp_path}/{file.name}", Descriptors(0))
    assert [(fault.file.name, type(fault.error)) for fault in read.absent] == [
        ("memory.max", FileMissingError)
    ]
    assert read.read([]) == (5, None)


def test_a_reader_that_is_let_go_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    class Watched(Reader):  # a Reader has no room for weak references
        pass

    read = Watched((NUMBER, LIMIT), Recorder(), lambda file: f"{tmp_path}/{file.name}", Descriptors(0))
    assert len(read.absent) == 2
    alive = weakref.ref(read)
    gc.disable()
    try:
        del read
        assert alive() is None
    finally:
        gc.enable()


def test_a_hierarchy_that_is_not_there_is_nothing_to_report(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("5\n")
    located = {"memory.current": f"{tmp_path}/memory.current"}
    read = Reader((NUMBER, LIMIT), Recorder(), lambda file: located.get(file.name), Descriptors(0))
    assert read.absent == ()
    assert read.read([]) == (5, None)


@pytest.mark.parametrize("has_recursive", [True, False])
def test_the_second_choice_is_opened_where_the_first_is_missing(
    tmp_path: Path, *, has_recursive: bool
) -> None:
    rows = (File("recursive", integer), File("own", integer, instead_of="recursive"))
    (tmp_path / "own").write_text("1\n")
    if has_recursive:
        (tmp_path / "recursive").write_text("2\n")
    read = Reader(rows, Recorder(), lambda file: f"{tmp_path}/{file.name}", Descriptors(0))
    assert read.read([]) == ((2, None) if has_recursive else (None, 1))


def test_a_removed_cgroup_is_gone_for_its_open_files_even_when_there_is_another_of_its_name(
    v1_cgroups: V1Cgroups,
) -> None:
    directory = v1_cgroups.make()
    kept = opened(directory / "memory.usage_in_bytes")
    closed = opened(directory / "memory.usage_in_bytes", budget=0)
    limit = opened(directory / "memory.limit_in_bytes", LIMIT)
    assert kept.read([]) == 0
    directory.rmdir()
    for file in (kept, closed, limit):
        with pytest.raises(CgroupGoneError):
            file.read([])
    directory.mkdir()
    with pytest.raises(CgroupGoneError):
        kept.read([])
    assert closed.read([]) == 0
    kept.close()


def test_v1_processes_that_are_read_more_often_than_the_kernel_lists_them_are_those_of_now(
    v1_cgroups: V1Cgroups,
) -> None:
    directory = v1_cgroups.make()
    file = KernelFile(f"{directory}/cgroup.procs", PROCESSES, Descriptors(1, interval_seconds=1.0))
    assert file.read([]).count == 0
    process = v1_cgroups.start(directory)
    found = file.read([])
    assert (found.count, found.first_pid) == (1, process.pid)
    v1_cgroups.end(process)
    file.close()


def test_a_file_is_kept_open_where_it_is_read_seldom_enough_to_be_fresh(path: Path) -> None:
    path.write_text("1\n")
    for interval_seconds, is_kept in ((0.1, False), (1.0, False), (2.0, True), (5.0, True)):
        descriptors = Descriptors(1, interval_seconds)
        file = KernelFile(os.fspath(path), PROCESSES, descriptors)
        assert file.is_kept is is_kept
        file.close()
        assert descriptors.kept == 0


def test_a_kept_file_of_the_kernel_shows_what_moves(v1_cgroups: V1Cgroups) -> None:
    directory = v1_cgroups.make(controller="pids")
    file = opened(directory / "pids.current")
    assert file.read([]) == 0
    process = v1_cgroups.start(directory)
    assert file.read([]) == 1
    v1_cgroups.end(process)
    file.close()


FORK = """
import os
for _ in range(1500):
    if not os.fork():
        os.read(0, 1)
        os._exit(0)
os.write(1, b"+")
os.read(0, 1)
"""


def test_a_cgroup_of_more_processes_than_fit_into_a_page_is_counted_whole(v1_cgroups: V1Cgroups) -> None:
    directory = v1_cgroups.make()
    process = v1_cgroups.start(directory, command=(sys.executable, "-S", "-c", FORK))
    assert process.stdout is not None
    assert process.stdout.read(1) == b"+"
    file = opened(directory / "cgroup.procs", PROCESSES)
    found = file.read([])
    listed = (directory / "cgroup.procs").read_bytes()
    file.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    assert (found.count, len(listed) > 4096) == (1501, True)


def limited(soft: int, hard: int, script: str) -> list[str]:
    """Run Python with limits on open files of its own; return what it printed."""
    setting = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", setting + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


BUDGET = """
    from cgwatch.cgroup.files import descriptor_budget
    print(descriptor_budget(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "budget"),
    [(1024, 4096, 4096 - 256), (1024, 1024, 768), (4096, 4096, 3840), (100, 300, 150)],
)
def test_the_soft_limit_is_raised_to_the_hard_one_and_some_of_it_is_left_free(
    soft: int, hard: int, budget: int
) -> None:
    assert limited(soft, hard, BUDGET) == [str(budget), str(hard), str(hard)]


@pytest.mark.parametrize("hard", [1024, 4096])
def test_a_soft_limit_of_1024_survives_200_cgroups(tmp_path: Path, hard: int) -> None:
    script = f"""
        import pathlib
        from cgwatch.cgroup.files import Descriptors, descriptor_budget
        from tests.cgroup.fake_trees import Node
        node = Node(pathlib.Path({os.fspath(tmp_path)!r}) / "node", budget=descriptor_budget())
        node.v2("/")
        for number in range(200):
            node.v2(f"/c{{number}}")
        for _ in range(3):
            samples = node.tick().samples
        print(len(samples), sum(sample.memory.usage_bytes for sample in samples), len(node.failures))
        print(node.descriptors.kept > 700, node.descriptors.kept <= node.descriptors.budget)
        print(len(list(pathlib.Path("/proc/self/fd").iterdir())) > 700)
        node.close()
        print(node.descriptors.kept)
    """
    usage = 300 + 200 * 4096
    assert limited(1024, hard, script) == ["201", str(usage), "0", "True", "True", "True", "0"]


def test_a_hard_limit_that_the_kernel_does_not_grant_leaves_the_soft_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_which: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr("resource.getrlimit", lambda _which: (1024, 1 << 30))
    monkeypatch.setattr("resource.setrlimit", refuse)
    assert 0 < descriptor_budget() < 1024
