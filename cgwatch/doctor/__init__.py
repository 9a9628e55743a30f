"""What this kernel, these permissions and these sockets allow, and what to do about the rest.

Looking to add a check? Write one function with a docstring in the module it belongs to and add it to one of
the two tuples here. A check only looks: it writes nothing, and whatever it may wait for has a deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec

from msgspec import Struct

from cgwatch.doctor import (
    cgroups,
    features,
    files,
    machine,
    namespaces,
    oom,
    privileges,
    resources,
    runtimes,
    services,
)
from cgwatch.doctor.finding import Finding, Host, Level
from cgwatch.doctor.survey import Survey, take
from cgwatch.errors import KernelFileError, NoCgroupsError, from_os_error

if TYPE_CHECKING:
    from cgwatch.doctor.survey import OpenSampler

__all__ = ["Examination", "Finding", "Host", "Level", "examine"]

P = ParamSpec("P")
SurveyCheck = Callable[[Host, Survey], Iterable[Finding]]
HostCheck = Callable[[Host], Iterable[Finding]]

SURVEY_CHECKS: tuple[SurveyCheck, ...] = (
    machine.kernel,
    cgroups.layout,
    cgroups.view,
    cgroups.controllers,
    cgroups.enabled,
    files.failures,
    files.absent,
    features.block_io,
    features.pressure,
    features.features,
    privileges.network_namespaces,
    resources.descriptors,
    oom.oom_counters,
    oom.oom_notices,
    runtimes.docker,
    machine.identity,
)
HOST_CHECKS: tuple[HostCheck, ...] = (
    privileges.capabilities,
    namespaces.pid_namespace,
    privileges.hidden_processes,
    machine.kernel_log,
    oom.oom_node_counter,
    services.listen_address,
    services.state_directory,
    services.control_socket,
)

_WHERE = "see --cgroup-root and --proc-root"


class Examination(Struct, frozen=True):
    """Everything that was found."""

    findings: tuple[Finding, ...]
    """In the order of the checks."""
    has_cgroups: bool
    """Whether there is any hierarchy at all."""


def examine(host: Host, open_sampler: OpenSampler) -> Examination:
    """Sample once and run every check. Raises nothing for what it finds."""
    findings: list[Finding] = []
    survey = None
    has_cgroups = True
    try:
        survey = take(host.settings, open_sampler)
    except (NoCgroupsError, KernelFileError) as error:
        has_cgroups = not isinstance(error, NoCgroupsError)
        findings.append(Finding(Level.ERROR, "cgroups", str(error), "nothing can be sampled", _WHERE))
    if survey is not None:
        for check in SURVEY_CHECKS:
            findings += _done(check.__name__, check, host, survey)
    for host_check in HOST_CHECKS:
        findings += _done(host_check.__name__, host_check, host)
    return Examination(tuple(findings), has_cgroups)


def _done(
    name: str, check: Callable[P, Iterable[Finding]], *args: P.args, **kwargs: P.kwargs
) -> list[Finding]:
    """Run one check; a file that it could not read or understand is a finding, too."""
    findings = []
    try:
        for finding in check(*args, **kwargs):
            findings.append(finding)  # what was found before the error counts  # noqa: PERF402
    except (KernelFileError, OSError) as error:
        findings.append(
            Finding(
                Level.WARNING,
                name.replace("_", " "),
                str(from_os_error(str(error.filename), error) if isinstance(error, OSError) else error),
                "this could not be checked",
                "see whether --proc-root is a proc file system",
            )
        )
    return findings
