"""One real sample of this node, and what the kernel did not give for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from cgwatch.cgroup import hierarchy
from cgwatch.cgroup.hierarchy import Hierarchies
from cgwatch.errors import KernelFileError
from cgwatch.model import Container, Kind, Sample, Snapshot
from cgwatch.sampling.tolerance import KernelVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cgwatch.cgroup.controllers import Controller
    from cgwatch.cgroup.files import Descriptors, File
    from cgwatch.sampling.followed import Followed
    from cgwatch.sampling.sampler import Sampler
    from cgwatch.settings import Settings

    OpenSampler: TypeAlias = Callable[
        [Settings, Callable[[KernelFileError], None]], tuple[Sampler, Descriptors]
    ]


class Absence(Struct, frozen=True):
    """A file that one cgroup does not offer."""

    container: Container
    file: File
    error: KernelFileError
    reason: str | None
    """Why that is normal; ``None``: it is a failure, and in ``Survey.failures`` too."""
    controller_enabled: bool
    """v2: whether the cgroup has the file's controller at all."""

    @property
    def is_of_root(self) -> bool:
        """Whether it is the root cgroup's, which lacks most files on every kernel."""
        return self.container.owner.kind is Kind.ROOT


class Survey(Struct, frozen=True):
    """What one sample told."""

    hierarchies: Hierarchies
    controllers: tuple[Controller, ...]
    """Without the files of those that nobody wants."""
    snapshot: Snapshot
    kernel: KernelVersion
    absences: tuple[Absence, ...]
    failures: tuple[KernelFileError, ...]
    descriptors_kept: int
    descriptors_budget: int
    cgroups_not_kept: int
    """Cgroups whose files are opened anew at each sample, as the budget was used up."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All cgroups but the root, which is the node itself."""
        return tuple(s for s in self.snapshot.samples if s.container.owner.kind is not Kind.ROOT)

    @property
    def containers(self) -> tuple[Sample, ...]:
        """The cgroups of containers alone."""
        return tuple(s for s in self.snapshot.samples if s.container.owner.kind is Kind.CONTAINER)


def take(settings: Settings, open_sampler: OpenSampler) -> Survey:
    """Sample once, as the agent would.

    Raises ``NoCgroupsError``, or a ``KernelFileError`` when the mount table cannot be read.
    """
    failures: list[KernelFileError] = []
    hierarchies = hierarchy.find(settings.roots.proc, settings.roots.cgroup)
    sampler, descriptors = open_sampler(settings, failures.append)
    try:
        snapshot = sampler.sample(0)
        return Survey(
            hierarchies=hierarchies,
            controllers=sampler.controllers,
            snapshot=snapshot,
            kernel=sampler.kernel,
            absences=tuple(
                absence for followed in sampler.followed for absence in _absences(followed, sampler)
            ),
            failures=tuple(failures),
            descriptors_kept=descriptors.kept,
            descriptors_budget=descriptors.budget,
            cgroups_not_kept=sum(not followed.is_kept for followed in sampler.followed),
        )
    finally:
        sampler.close()


def _absences(followed: Followed, sampler: Sampler) -> Iterator[Absence]:
    found = list(followed.absences(sampler.kernel))
    names = {fault.file.name for fault, _ in found}
    disabled = {
        file for controller in sampler.controllers if controller.mark in names for file in controller.files_v2
    }
    for fault, reason in found:
        yield Absence(followed.container, fault.file, fault.error, reason, fault.file not in disabled)
