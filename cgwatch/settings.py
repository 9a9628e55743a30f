"""What can be configured: one class for each section of the file, one annotated field for each key.

A key's name, type, range, default and meaning are said here and nowhere else. The environment's variables,
the command line's flags, the JSON Schema and the comments of ``config/cgwatch.yaml`` follow from it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from msgspec import Meta, Struct, field, structs

from cgwatch.groups import Groups
from cgwatch.keys import (
    ADDRESS,
    DOCKER_SOCKET,
    DURATION,
    GROUP,
    LABEL_RENAME,
    MATCHER,
    PATH,
    SIZE,
    is_section,
    keys_of,
)
from cgwatch.limits_settings import Limits
from cgwatch.notify_settings import Notify

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=Struct)

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json"]
LabelScheme = Literal["cadvisor", "kubelet"]


class Roots(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the kernel's trees are mounted; for a container that sees the host's under another path."""

    cgroup: Annotated[
        str | None,
        Meta(
            description="The cgroup hierarchy's mount point; null: found from mountinfo.",
            extra={"notation": PATH, "flag": "--cgroup-root"},
        ),
    ] = None
    proc: Annotated[
        str,
        Meta(description="The proc file system.", extra={"notation": PATH, "flag": "--proc-root"}),
    ] = "/proc"
    sys: Annotated[
        str,
        Meta(description="The sys file system.", extra={"notation": PATH, "flag": "--sys-root"}),
    ] = "/sys"


class Sampling(Struct, frozen=True, forbid_unknown_fields=True):
    """How often the kernel's files are read, and at what cost."""

    interval_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Time from one sample of every cgroup to the next.",
            extra={"notation": DURATION, "flag": "--interval"},
        ),
    ] = field(name="interval", default=5.0)
    settings_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=86400,
            description="Time until a limit that was changed is seen, at most; at once where Docker tells.",
            extra={"notation": DURATION},
        ),
    ] = field(name="settings_interval", default=30.0)
    machine_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="Time from one look at the node's CPUs and memory modules to the next.",
            extra={"notation": DURATION},
        ),
    ] = field(name="machine_interval", default=300.0)
    processes_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Time from one look at the files of each process to the next (metrics.groups"
            " cpuLoad, process, sched).",
            extra={"notation": DURATION},
        ),
    ] = field(name="processes_interval", default=10.0)
    sockets_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Time from one look at the sockets of each container to the next (metrics.groups tcp,"
            " udp, advtcp): the kernel takes milliseconds for each.",
            extra={"notation": DURATION},
        ),
    ] = field(name="sockets_interval", default=30.0)
    descriptors: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | Literal["auto"],
        Meta(
            description="Kernel files kept open between samples; auto: what the limit on open files leaves."
        ),
    ] = "auto"


class Docker(Struct, frozen=True, forbid_unknown_fields=True):
    """Names, images and labels from Docker's API (or Podman's, which speaks the same)."""

    enabled: Annotated[
        bool,
        Meta(description="Ask the API; without it containers are known by their ids alone."),
    ] = True
    socket: Annotated[
        str,
        Meta(
            description="Where the API listens; DOCKER_HOST is honoured where this key is not set.",
            extra={"notation": DOCKER_SOCKET},
        ),
    ] = "unix:///var/run/docker.sock"
    timeout_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="How long one answer of the API may take.",
            extra={"notation": DURATION},
        ),
    ] = field(name="timeout", default=5.0)


class Discovery(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose cgroup is which."""

    docker: Docker = Docker()


class Shown(Struct, frozen=True, forbid_unknown_fields=True):
    """Which cgroups the metrics page shows: those to which any of include and none of exclude applies.

    Each is a glob over one thing: cgroup=PATH, kind=container, runtime=docker, name=, image= or label.KEY=.
    """

    include: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Show these alone; without any, all of them.", extra={"notation": MATCHER}),
    ] = ()
    exclude: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Never show these; systemd makes a cgroup for each mount, in which nothing runs.",
            extra={"notation": MATCHER},
        ),
    ] = ("cgroup=*.mount",)


class PageBounds(Struct, frozen=True, forbid_unknown_fields=True):
    """How large the metrics page may become, whatever containers and their labels are like."""

    series: Annotated[
        int,
        Meta(
            ge=1000,
            le=100_000_000,
            description="Series of all cgroups; beyond, plain cgroups are left out first, containers last.",
        ),
    ] = 500_000
    page_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=1 << 34,
            description="Size of the same, before compression.",
            extra={"notation": SIZE},
        ),
    ] = field(name="page", default=128 << 20)
    labels: Annotated[
        int,
        Meta(ge=0, le=10_000, description="Labels of containers, by name; the first in alphabetical order."),
    ] = 64
    label_bytes: Annotated[
        int,
        Meta(
            ge=16,
            le=1 << 20,
            description="Length of the value of a container's label, name or image; the rest is cut off.",
            extra={"notation": SIZE},
        ),
    ] = field(name="label", default=1024)


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """What the metrics page shows."""

    groups: Groups = Groups()
    include: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Metrics to show of groups that are off, as globs over their names."),
    ] = ()
    exclude: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Metrics not to show, as globs over their names."),
    ] = ()
    cgroups: Shown = Shown()
    scheme: Annotated[
        LabelScheme,
        Meta(
            description="Labels of series: cAdvisor's (id, name, image, container_label_*) or the kubelet's"
            " (id, name, image, pod, namespace, container)."
        ),
    ] = "cadvisor"
    container_labels: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="Labels of a container to expose as container_label_*, as globs; none by default."),
    ] = ()
    rename_labels: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Labels of a container to expose under a name of your own, as KEY=NAME.",
            extra={"notation": LABEL_RENAME},
        ),
    ] = ()
    bounds: PageBounds = PageBounds()
    timestamps: Annotated[
        bool,
        Meta(description="Write the time of the sample beside each value."),
    ] = False
    strict_cadvisor: Annotated[
        bool,
        Meta(
            description="cAdvisor's own values where cgwatch departs from them; the README's table has them."
        ),
    ] = False


class Oom(Struct, frozen=True, forbid_unknown_fields=True):
    """The ledger of OOM kills: each is counted once, whoever tells of it."""

    enabled: Annotated[bool, Meta(description="Keep the ledger.")] = True
    kernel_log: Annotated[
        bool,
        Meta(description="Read /dev/kmsg, which says which process was killed and by whose limit."),
    ] = True
    retain_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=30 * 86400,
            description="How long cgwatch_oom_kills_total shows a container after its last kill.",
            extra={"notation": DURATION},
        ),
    ] = field(name="retain", default=86400.0)
    series: Annotated[
        int,
        Meta(ge=10, le=100_000, description="Series of cgwatch_oom_kills_total; the quietest goes first."),
    ] = 1000
    image_label: Annotated[
        bool, Meta(description="Give cgwatch_oom_kills_total the image of the container, too.")
    ] = False
    keep_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3650 * 86400,
            description="How long kills are stored in the state directory.",
            extra={"notation": DURATION},
        ),
    ] = field(name="keep", default=30 * 86400.0)
    keep_kills: Annotated[
        int, Meta(ge=10, le=10_000_000, description="How many kills are stored; the oldest goes first.")
    ] = 10_000


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP server."""

    max_requests: Annotated[
        int,
        Meta(ge=1, le=10_000, description="Requests answered at the same time."),
    ] = 40
    compression: Annotated[bool, Meta(description="Compress for clients that accept gzip.")] = True


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    """The socket by which the command line talks to the agent."""

    group: Annotated[
        str | None,
        Meta(
            description="Members of this group may use it, too, and so change limits as root does; they may"
            " pass through state_dir, then.",
            extra={"notation": GROUP},
        ),
    ] = None


class Log(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard error."""

    level: Annotated[
        LogLevel,
        Meta(description="The least level that is written; tracebacks are written at debug alone."),
    ] = "info"
    format: Annotated[
        LogFormat,
        Meta(description="One line for each event either way."),
    ] = "logfmt"


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    listen: Annotated[
        str,
        Meta(
            description="Address to serve metrics on: host:port, [::1]:port, or :port for every interface.",
            extra={"notation": ADDRESS},
        ),
    ] = "127.0.0.1:9753"
    state_dir: Annotated[
        str,
        Meta(
            description="Directory for what outlives a restart; without root, cgwatch in $XDG_STATE_HOME or"
            " ~/.local/state.",
            extra={"notation": PATH},
        ),
    ] = "/var/lib/cgwatch"
    read_only: Annotated[bool, Meta(description="Observe only: never write a limit.")] = False
    roots: Roots = Roots()
    sampling: Sampling = Sampling()
    discovery: Discovery = Discovery()
    metrics: Metrics = Metrics()
    oom: Oom = Oom()
    notify: Notify = Notify()
    limits: Limits = Limits()
    server: Server = Server()
    control: Control = Control()
    log: Log = Log()


KEYS: Final = MappingProxyType({key.path: key for key in keys_of(Settings)})
"""Every key by its dotted path, in the order of the file."""


def assemble(values: Mapping[str, object]) -> Settings:
    """Make ``Settings`` of one checked value for each key in ``KEYS``."""
    return _assembled(Settings, values, "")


def _assembled(section: type[T], values: Mapping[str, object], prefix: str) -> T:
    return section(
        **{
            field.name: _assembled(field.type, values, f"{prefix}{field.encode_name}.")
            if is_section(field.type)
            else values[prefix + field.encode_name]
            for field in structs.fields(section)
        }
    )


def schema() -> dict[str, object]:
    """JSON Schema (2020-12) of the configuration file, for editors and for checks without cgwatch."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of cgwatch",
        **_section_schema(Settings, ""),
    }


def _section_schema(section: type[Struct], prefix: str) -> dict[str, object]:
    return {
        "description": section.__doc__,
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            field.encode_name: _section_schema(field.type, f"{prefix}{field.encode_name}.")
            if is_section(field.type)
            else KEYS[prefix + field.encode_name].schema()
            for field in structs.fields(section)
        },
    }
