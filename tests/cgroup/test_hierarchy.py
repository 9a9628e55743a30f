from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.hierarchy import Hierarchies, Hierarchy, Layout
from cgwatch.errors import FileMissingError, MalformedFileError, NoCgroupsError
from tests.cgroup.fake_trees import TREES


def mountinfo(*mounts: tuple[str, str, str, str]) -> str:
    """Return a mount table: root, mount point, file system, super options of each mount."""
    lines = [
        "22 28 0:21 / /proc rw,nosuid - proc proc rw",
        "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw",
    ]
    lines += [
        f"{30 + number} 28 0:{30 + number} {root} {point} rw shared:1 master:1 - {kind} {kind} {options}"
        for number, (root, point, kind, options) in enumerate(mounts)
    ]
    return "\n".join(lines) + "\n"


class Table:
    """A proc file system with a mount table, and a folder for mount points."""

    def __init__(self, directory: Path) -> None:
        self.proc = directory / "proc"
        self.root = directory / "root"
        (self.proc / "self").mkdir(parents=True)

    def find(self, *mounts: tuple[str, str, str, str], under: str | None = None) -> Hierarchies:
        """Find hierarchies; mount points are relative to the folder."""
        table = mountinfo(*((root, f"{self.root}{point}", *rest) for root, point, *rest in mounts))  # type: ignore[arg-type]
        (self.proc / "self" / "mountinfo").write_text(table)
        return hierarchy.find(os.fspath(self.proc), None if under is None else f"{self.root}{under}")

    def unified(self, point: str, controllers: str = "cpu io memory pids") -> None:
        """Make a mount point that looks like a unified hierarchy."""
        (self.root / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        (self.root / point.lstrip("/") / "cgroup.controllers").write_text(controllers + "\n")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


V1 = [("/", f"/sys/fs/cgroup/{name}", "cgroup", f"rw,{name}") for name in ("memory", "blkio", "pids")]
CPU = ("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
NAMED = ("/", "/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd")


def test_v1_is_one_hierarchy_for_each_mount(table: Table) -> None:
    found = table.find(*V1)
    assert found.layout is Layout.V1
    assert found.unified is None
    assert [set(place.controllers) for place in found.v1] == [{"blkio"}, {"memory"}, {"pids"}]
    assert [place.directory for place in found.v1] == [
        f"{table.root}/sys/fs/cgroup/{name}" for name in ("blkio", "memory", "pids")
    ]


def test_controllers_that_are_mounted_together_share_a_hierarchy(table: Table) -> None:
    found = table.find(*V1, CPU)
    assert found.holder("cpu") is found.holder("cpuacct")
    holder = found.holder("cpu")
    assert holder is not None
    assert holder.directory == f"{table.root}/sys/fs/cgroup/cpu,cpuacct"


def test_v2_is_one_hierarchy_for_all_that_it_offers(table: Table) -> None:
    table.unified("/sys/fs/cgroup")
    found = table.find(("/", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"))
    assert found.layout is Layout.V2
    assert found.v1 == ()
    assert found.unified is not None
    assert found.holder("memory") is found.unified
    assert found.holder("cpuset") is None


@pytest.mark.parametrize(
    ("options", "are_local"), [("rw", False), ("rw,nsdelegate,memory_localevents", True)]
)
def test_events_of_memory_may_be_mounted_to_count_a_cgroup_alone(
    table: Table,
    options: str,
    are_local: bool,  # noqa: FBT001 - a row
) -> None:
    table.unified("/sys/fs/cgroup")
    found = table.find(("/", "/sys/fs/cgroup", "cgroup2", options))
    assert found.unified is not None
    assert found.unified.has_local_events is are_local


def test_hybrid_takes_a_controller_from_where_it_is(table: Table) -> None:
    table.unified("/sys/fs/cgroup/unified", "hugetlb")
    found = table.find(*V1, ("/", "/sys/fs/cgroup/unified", "cgroup2", "rw"))
    assert found.layout is Layout.HYBRID
    memory = found.holder("memory")
    assert memory is not None
    assert memory.version == 1
    assert found.holder("hugetlb") is found.unified


def test_a_hierarchy_without_controllers_is_no_place_for_numbers(table: Table) -> None:
    found = table.find(*V1, NAMED)
    assert all("systemd" not in place.directory for place in found.v1)
    with pytest.raises(NoCgroupsError):
        table.find(NAMED)


def test_hierarchies_may_be_mounted_anywhere(table: Table) -> None:
    found = table.find(("/", "/mycg/memory", "cgroup", "rw,memory"))
    assert [place.directory for place in found.v1] == [f"{table.root}/mycg/memory"]


def test_of_several_mounts_of_one_hierarchy_the_one_that_shows_all_is_taken(table: Table) -> None:
    found = table.find(
        ("/docker/1", "/cg", "cgroup", "rw,memory"),
        ("/", "/a/longer/way/to/memory", "cgroup", "rw,memory"),
        ("/", "/another/longer/way/to/memory", "cgroup", "rw,memory"),
    )
    assert [(place.directory, place.prefix) for place in found.v1] == [
        (f"{table.root}/a/longer/way/to/memory", "/")
    ]


def test_a_mount_that_is_covered_by_another_is_not_seen(table: Table) -> None:
    found = table.find(
        ("/", "/cg/memory", "cgroup", "rw,memory"),
        ("/docker/1", "/cg/memory", "cgroup", "rw,memory"),
    )
    assert [place.prefix for place in found.v1] == ["/docker/1"]
    with pytest.raises(NoCgroupsError):
        table.find(("/", "/cg", "cgroup2", "rw"), ("/", "/cg", "tmpfs", "rw"))


def test_a_mount_of_one_cgroup_shows_it_under_its_own_path(table: Table) -> None:
    found = table.find(("/docker/1", "/cg/memory", "cgroup", "rw,memory"))
    (place,) = found.v1
    assert place.prefix == "/docker/1"
    assert place.locate("/docker/1") == f"{table.root}/cg/memory"
    assert place.locate("/docker/1/init") == f"{table.root}/cg/memory/init"


@pytest.mark.parametrize("root", ["/..", "/../..", "/../../docker"])
def test_a_mount_from_above_our_cgroup_namespace_shows_all_there_is_for_us(table: Table, root: str) -> None:
    found = table.find((root, "/host/memory", "cgroup", "rw,memory"))
    (place,) = found.v1
    assert place.prefix == "/"
    assert place.locate("/docker/1") == f"{table.root}/host/memory/docker/1"


def test_locating_the_root_of_a_hierarchy_gives_its_directory() -> None:
    assert Hierarchy(2, frozenset(), "/sys/fs/cgroup").locate("/") == "/sys/fs/cgroup"
    assert Hierarchy(2, frozenset(), "/sys/fs/cgroup").locate("/a/b") == "/sys/fs/cgroup/a/b"


def test_only_what_is_under_the_cgroup_root_is_taken(table: Table) -> None:
    found = table.find(
        ("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
        ("/", "/host/sys/fs/cgroup/memory", "cgroup", "rw,memory"),
        ("/", "/hostile/memory", "cgroup", "rw,pids"),
        under="/host",
    )
    assert [place.directory for place in found.v1] == [f"{table.root}/host/sys/fs/cgroup/memory"]


def test_the_cgroup_root_may_be_the_mount_point_itself_and_end_with_a_slash(table: Table) -> None:
    table.unified("/host/cgroup")
    for under in ("/host/cgroup", "/host/cgroup/"):
        found = table.find(("/", "/host/cgroup", "cgroup2", "rw"), under=under)
        assert found.layout is Layout.V2


def test_the_cgroup_root_may_be_a_symbolic_link(table: Table) -> None:
    table.unified("/sys/fs/cgroup")
    (table.root / "cgroup").symlink_to(table.root / "sys/fs/cgroup")
    found = table.find(("/", "/sys/fs/cgroup", "cgroup2", "rw"), under="/cgroup")
    assert found.unified is not None
    assert found.unified.directory == f"{table.root}/sys/fs/cgroup"


def test_space_tab_newline_and_backslash_are_octal_in_a_mount_table() -> None:
    (mount,) = hierarchy.parse_mountinfo(
        rb"1 2 0:3 /a\134040b /my\040cg\011x\012y rw - cgroup cgroup rw,memory" + b"\n"
    )
    assert mount.mount_point == "/my cg\tx\ny"
    assert mount.root == r"/a\040b"


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_mount_point_is_read_back_as_it_is(name: str) -> None:
    escaped = "".join(
        f"\\{ord(character):03o}" if character in " \t\n\\" else character for character in "/" + name
    )
    (mount,) = hierarchy.parse_mountinfo(f"1 2 0:3 / {escaped} rw - cgroup2 none rw\n".encode())
    assert mount.mount_point == "/" + name


def test_a_mount_point_that_is_no_utf_8_is_found() -> None:
    (mount,) = hierarchy.parse_mountinfo(b"1 2 0:3 / /\xff rw - cgroup cgroup rw,memory\n")
    assert os.fsencode(mount.mount_point) == b"/\xff"


@given(st.one_of(st.binary(), st.text("123 /-cgroup:rw,\n").map(str.encode)))
def test_any_mount_table_gives_mounts_or_a_value_error(raw: bytes) -> None:
    try:
        mounts = hierarchy.parse_mountinfo(raw)
    except ValueError:
        return
    assert len(mounts) == sum(1 for line in raw.split(b"\n") if line)


def test_a_malformed_mount_table_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text("what?\n")
    with pytest.raises(MalformedFileError) as error:
        hierarchy.find(os.fspath(tmp_path), None)
    assert error.value.path == f"{tmp_path}/self/mountinfo"


def test_a_missing_mount_table_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError) as error:
        hierarchy.find(os.fspath(tmp_path), None)
    assert error.value.path == f"{tmp_path}/self/mountinfo"


def test_without_any_hierarchy_the_error_says_what_to_do(table: Table) -> None:
    with pytest.raises(NoCgroupsError, match="--cgroup-root"):
        table.find()
    (table.root / "empty").mkdir(parents=True)
    with pytest.raises(NoCgroupsError, match=r"root/empty.*--cgroup-root"):
        table.find(under="/empty")
    with pytest.raises(NoCgroupsError, match=r"root/missing.*--cgroup-root"):
        table.find(under="/missing")


@pytest.mark.parametrize(
    ("tree", "layout"),
    [
        ("docker_v1", Layout.V1),
        ("hybrid", Layout.HYBRID),
        ("docker_v2", Layout.V2),
        ("systemd_v2", Layout.V2),
    ],
)
def test_a_captured_tree_is_known_by_its_shape(tree: str, layout: Layout) -> None:
    root = TREES / tree
    found = hierarchy.find(os.fspath(root / "proc"), os.fspath(root / "cgroup"))
    assert found.layout is layout
    for controller in ("memory", "cpu", "pids"):
        holder = found.holder(controller)
        assert holder is not None
        assert Path(holder.directory, "cgroup.procs").exists()
        assert holder.version == (2 if layout is Layout.V2 else 1)


def test_the_links_that_name_one_of_two_controllers_are_not_two_hierarchies(table: Table) -> None:
    directory = table.root / "cg"
    (directory / "cpu,cpuacct").mkdir(parents=True)
    (directory / "cpu,cpuacct/cgroup.procs").touch()
    for name in ("cpu", "cpuacct"):
        (directory / name).symlink_to("cpu,cpuacct")
    found = table.find(under="/cg")
    assert [(place.directory, set(place.controllers)) for place in found.v1] == [
        (os.fspath(directory / "cpu,cpuacct"), {"cpu", "cpuacct"})
    ]


def test_a_folder_that_is_no_hierarchy_is_not_taken_for_one_by_its_name(table: Table) -> None:
    (table.root / "cg/memory").mkdir(parents=True)
    with pytest.raises(NoCgroupsError):
        table.find(under="/cg")


def test_controllers_that_cannot_be_read_are_none(table: Table) -> None:
    found = table.find(("/", "/sys/fs/cgroup", "cgroup2", "rw"))
    assert found.layout is Layout.V2
    assert found.unified is not None
    assert found.unified.controllers == frozenset()


def test_this_machine_has_hierarchies() -> None:
    found = hierarchy.find("/proc", None)
    places = [*found.v1, *([found.unified] if found.unified else [])]
    assert places
    assert all(Path(place.directory, "cgroup.procs").exists() for place in places)
