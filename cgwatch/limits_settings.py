"""The section ``limits`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from cgwatch.keys import DURATION, PATH, SIZE


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits that are changed by hand (cgwatch set-limit); read_only: true above forbids it altogether."""

    on_exit: Annotated[
        Literal["keep", "restore"],
        Meta(
            description="What becomes of changed limits when the agent ends: keep leaves them, and what"
            " expires in the meantime is restored at the next start; restore brings back what was before."
        ),
    ] = "keep"
    follow_restarts: Annotated[
        bool,
        Meta(
            description="A container that is started again gets its changed limits again, for the time that"
            " is left."
        ),
    ] = True
    protect: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Cgroups that are never limited, as globs over their paths; beside the root,"
            " cgwatch's own cgroup, init.scope and kubepods, which never are."
        ),
    ] = ()
    verify_after_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="Time after a write until the limit is read again, to see that it stays.",
            extra={"notation": DURATION},
        ),
    ] = field(name="verify_after", default=1.0)
    deadline_seconds: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="How long one write may take, as the kernel reclaims memory meanwhile; and an owner's"
            " API call.",
            extra={"notation": DURATION},
        ),
    ] = field(name="deadline", default=10.0)
    host_reserve_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 50,
            description="Memory of the node that no cgroup's limit is raised into.",
            extra={"notation": SIZE},
        ),
    ] = field(name="host_reserve", default=0)
    floor_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1 << 40,
            description="The least memory that a cgroup with processes may be limited to, unless forced.",
            extra={"notation": SIZE},
        ),
    ] = field(name="floor", default=6 << 20)
    lock: Annotated[
        str,
        Meta(
            description="The file whose lock says who writes limits on this host; limits.lock in state_dir"
            " where its directory cannot be written to. In a container, name a file of the host.",
            extra={"notation": PATH},
        ),
    ] = "/run/cgwatch/limits.lock"
    keep_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3650 * 86400,
            description="How long changes of limits are stored in the state directory.",
            extra={"notation": DURATION},
        ),
    ] = field(name="keep", default=90 * 86400.0)
