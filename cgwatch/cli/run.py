"""``cgwatch run``."""

from __future__ import annotations

import logging

import click

from cgwatch import agent, assembly
from cgwatch.cli.options import setting_option, settings_options
from cgwatch.errors import KernelFileError
from cgwatch.settings import Settings

LOG = logging.getLogger(__name__)


@click.command()
@setting_option("listen")
@setting_option("sampling.interval")
@setting_option("read_only")
@click.option("--once", is_flag=True, help="Sample once, log what was found, and end.")
@settings_options
def run(settings: Settings, *, once: bool) -> None:
    """Run the agent: sample, and serve metrics."""
    if not once:
        agent.run(settings)
        return
    failures: list[KernelFileError] = []
    sampler, _ = assembly.open_sampler(settings, failures.append)
    try:
        snapshot = sampler.sample(0)
    finally:
        sampler.close()
    for failure in failures:
        LOG.warning(
            "a kernel file could not be read", extra={"path": failure.path, "problem": failure.problem}
        )
    LOG.info(
        "sampled once",
        extra={
            "cgroups": len(snapshot.samples),
            "layout": str(snapshot.layout),
            "seconds": round(snapshot.duration_seconds, 6),
            "failures": len(failures),
        },
    )
