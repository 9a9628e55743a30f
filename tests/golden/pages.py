"""Pages of the captured trees, made by the sampler and the renderer as the agent has them.

What a page says must follow from the tree alone. The rest is pinned here, each for its reason:

- The time is CLOCK_SECONDS.
- cgwatch takes a cgroup to be as old as its directory, which a copy is not (and nobody can set a ctime): all
  are made at MADE_SECONDS. Inodes differ as well, but they are on no page.
- The capture has no kernel threads, and init's namespaces only where its machine let them be seen. The copy
  has kthreadd, in the namespace of the container ``host``, which is the host's own.
- The machine's id and its operating system's name are read below the root of pid 1, which is not captured.
- System UUID, and cores where /proc/cpuinfo does not tell, come from /sys of whatever machine runs this.
- A pod's containers share a network, which the one that was made first shows. A copy does not keep the order,
  so here it is the first one by path.
- The version of cgwatch stands on the page as VERSION, so that a release does not change it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from msgspec import structs

from cgwatch import __version__
from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.files import Descriptors
from cgwatch.discovery.docker_answers import describe
from cgwatch.errors import KernelFileError
from cgwatch.metrics import families
from cgwatch.metrics.labels import CadvisorScheme
from cgwatch.metrics.negotiation import Format
from cgwatch.metrics.render import Renderer
from cgwatch.model import Description, Kind, Sample, Snapshot
from cgwatch.proc.machine import read_cpuinfo
from cgwatch.sampling.plan import Plan
from cgwatch.sampling.sampler import Sampler

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
)
EVERYTHING = frozenset(part for family in families.FAMILIES for part in (str(family.part), *family.reads))
"""What the groups that are off by default need to be read."""
SUFFIXES = {Format.TEXT: "txt", Format.OPENMETRICS: "om"}
SHOWN_LABELS = ("com.docker.compose.service",)

CLOCK_SECONDS = 1_795_341_900.25
MADE_SECONDS = 1_795_341_850.5
MACHINE_ID = "0123456789abcdef0123456789abcdef"
SYSTEM_UUID = "00000000-0000-4000-8000-00000000cafe"
CORES_OF_SYS = 1


def descriptions(tree: str) -> dict[str, Description]:
    """What Docker said of a tree's containers, by id; Kubernetes' runtimes are not asked for names yet."""
    said = TREES_FOLDER / tree / "docker.json"
    answers = json.loads(said.read_text()) if said.exists() else []
    return {said.container_id: said for said in map(describe, answers)}


def take(tree: str) -> Snapshot:
    """Sample a copy of a tree once; every file of it that is no tolerated absence must be readable."""
    with tempfile.TemporaryDirectory(prefix="cgwtest-") as folder:
        copy = Path(folder, tree)
        shutil.copytree(TREES_FOLDER / tree, copy, symlinks=True)
        said = descriptions(tree)
        _pin(copy, said)
        failures: list[KernelFileError] = []
        sampler = Sampler(
            hierarchy.find(str(copy / "proc"), str(copy / "cgroup")),
            proc_root=str(copy / "proc"),
            descriptors=Descriptors(0),
            plan=Plan(parts=EVERYTHING),
            clock=lambda: CLOCK_SECONDS,
            monotonic=lambda: 0,
            failed=failures.append,
        )
        try:
            sampler.describe(said)
            snapshot = sampler.sample(0)
        finally:
            sampler.close()
    if failures:
        raise AssertionError([str(failure) for failure in failures])
    return _without_this_machine(snapshot, tree)


def _pin(copy: Path, said: dict[str, Description]) -> None:
    proc = copy / "proc"
    if not (proc / "2").exists():
        host = next(described for described in said.values() if described.network_mode == "host")
        (proc / "2/ns").mkdir(parents=True)
        (proc / "2/comm").write_text("kthreadd\n")
        (proc / "2/ns/net").symlink_to((proc / str(host.pid) / "ns/net").readlink())
    etc = proc / "1/root/etc"
    etc.mkdir(parents=True)
    (etc / "machine-id").write_text(f"{MACHINE_ID}\n")
    (etc / "os-release").write_text(f'PRETTY_NAME="Captured: {copy.name}"\n')


def _without_this_machine(snapshot: Snapshot, tree: str) -> Snapshot:
    if snapshot.machine is None:
        raise AssertionError("a snapshot of the sampler has a machine")
    cores = read_cpuinfo(str(TREES_FOLDER / tree / "proc")).physical_cores or CORES_OF_SYS
    machine = structs.replace(snapshot.machine, system_uuid=SYSTEM_UUID, physical_cores=cores)
    samples = tuple(
        structs.replace(sample, container=structs.replace(sample.container, created_seconds=MADE_SECONDS))
        for sample in snapshot.samples
    )
    return structs.replace(snapshot, machine=machine, samples=_with_networks_in_order(samples))


def _with_networks_in_order(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    pods: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        owner = sample.container.owner
        if owner.kind is Kind.CONTAINER and owner.pod_uid:
            pods.setdefault(owner.pod_uid, []).append(place)
    ordered = list(samples)
    for places in pods.values():
        (network,) = {samples[place].network for place in places} - {None} or {None}
        for place in places:
            ordered[place] = structs.replace(samples[place], network=network if place == places[0] else None)
    return tuple(ordered)


def render(snapshot: Snapshot, form: Format) -> str:
    """The page of every group, as ``/metrics`` has it without the agent's own metrics."""
    renderer = Renderer(families.enabled(families.GROUPS), scheme=CadvisorScheme(SHOWN_LABELS))
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
