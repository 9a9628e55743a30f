"""Pages of the captured trees, made by the sampler and the renderer as the agent has them.

What a page says must follow from the tree alone. The rest is pinned here, each for its reason:

- The time is CLOCK_SECONDS.
- cgwatch takes a cgroup to be as old as its directory, which a copy is not (and nobody can set a ctime): all
  are made at MADE_SECONDS. Inodes differ as well, but are on no page, and their order is the captured one.
- Cores, where /proc/cpuinfo does not tell, are counted in this machine's own /sys alone: CORES_OF_SYS.
- The machine's id and its operating system's name are read below the root of pid 1, which is not captured.
- The version of cgwatch stands on the page as VERSION, so that a release does not change it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from msgspec import structs

from cgwatch import __version__
from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.discovery.docker_answers import describe
from cgwatch.errors import KernelFileError
from cgwatch.metrics import families
from cgwatch.metrics.labels import CadvisorScheme, Shown
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.metrics.selection import Selection
from cgwatch.model import Description, Snapshot
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler
from cgwatch.settings import Settings
from tests.golden.replay import replay

GOLDEN = Path(__file__).parent
TREES_FOLDER = GOLDEN.parent / "trees"
TREES = ("docker_v1", "docker_v2", "hybrid", "systemd_v2")
ALL_TREES = (
    *TREES,
    "kubernetes_containerd_v2_cgroupfs",
    "kubernetes_containerd_v2_systemd",
    "kubernetes_crio_v2_cgroupfs",
    "kubernetes_crio_v2_systemd",
    "nested_docker_v1",
    "nested_docker_v2",
    "podman_rootless_v2",
)
EVERYTHING = frozenset(part for family in families.FAMILIES for part in (str(family.part), *family.reads))
"""What the groups that are off by default need to be read."""
SUFFIXES = {Format.TEXT: "txt", Format.OPENMETRICS: "om"}
SHOWN_LABELS = ("com.docker.compose.service",)

CLOCK_SECONDS = 1_795_341_900.25
MADE_SECONDS = 1_795_341_850.5
MACHINE_ID = "0123456789abcdef0123456789abcdef"
CORES_OF_SYS = 1


def descriptions(tree: str) -> dict[str, Description]:
    """What Docker said of a tree's containers, by id; Kubernetes' runtimes are not asked for names yet."""
    said = TREES_FOLDER / tree / "docker.json"
    answers = json.loads(said.read_text()) if said.exists() else []
    return {said.container_id: said for said in map(describe, answers)}


def take(tree: str) -> Snapshot:
    """Sample a copy of a tree once; every file of it that is no tolerated absence must be readable."""
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        copy = replay(TREES_FOLDER / tree, Path(folder))
        _add_os(copy)
        failures: list[KernelFileError] = []
        sampler = Sampler(
            hierarchy.find(str(copy / "proc"), str(copy / "cgroup")),
            proc_root=str(copy / "proc"),
            sys_root=str(copy / "sys"),
            descriptors=Descriptors(0),
            plan=Plan(parts=EVERYTHING),
            clock=lambda: CLOCK_SECONDS,
            monotonic=lambda: 0,
            failed=failures.append,
        )
        try:
            sampler.describe(descriptions(tree))
            snapshot = sampler.sample(0)
        finally:
            sampler.close()
    if failures:
        raise AssertionError([str(failure) for failure in failures])
    return _pinned(snapshot)


def _add_os(copy: Path) -> None:
    etc = copy / "proc/1/root/etc"
    etc.mkdir(parents=True)
    (etc / "machine-id").write_text(f"{MACHINE_ID}\n")
    (etc / "os-release").write_text(f'PRETTY_NAME="Captured: {copy.name}"\n')


def _pinned(snapshot: Snapshot) -> Snapshot:
    if snapshot.machine is None:
        raise AssertionError("a snapshot of the sampler has a machine")
    machine = structs.replace(
        snapshot.machine, physical_cores=snapshot.machine.physical_cores or CORES_OF_SYS
    )
    samples = tuple(
        structs.replace(sample, container=structs.replace(sample.container, created_seconds=MADE_SECONDS))
        for sample in snapshot.samples
    )
    return structs.replace(snapshot, machine=machine, samples=samples, oom_kills={})


def render(snapshot: Snapshot, form: Format) -> str:
    """The page of every group, as ``/metrics`` has it without the agent's own metrics."""
    renderer = Renderer(
        families.enabled(families.GROUPS),
        scheme=CadvisorScheme(Shown(SHOWN_LABELS)),
        selection=Selection(exclude=Settings().metrics.cgroups.exclude),
    )
    page = renderer.render(snapshot, form).replace(f'"cgwatch-{__version__}"', '"cgwatch-VERSION"')
    return page + ("# EOF\n" if form is Format.OPENMETRICS else "")


def golden(tree: str, form: Format) -> Path:
    """Where the page is kept."""
    return GOLDEN / f"{tree}.{SUFFIXES[form]}"


def write_all() -> None:
    """Make every page anew; ``git diff`` then shows what a change does to the metrics."""
    for tree in ALL_TREES:
        snapshot = take(tree)
        for form in Format:
            golden(tree, form).write_text(render(snapshot, form))
