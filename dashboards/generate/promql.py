"""The expressions that panels share: whose series, over what time, and shares of a whole.

Series are joined by ``instance`` and ``id``, the cgroup's path: a name may occur twice on one node. There is
one ``job`` at a time, so it need not be matched.
"""

from __future__ import annotations

TARGET = 'job="$job", instance=~"$instance"'
"""The agent, and what it says of its machine."""
NODE = f'{TARGET}, id="/"'
CONTAINERS = f'{TARGET}, name!=""'
"""Every container; the cgroups of pods, systemd units and others have no name."""
CHOSEN = f'{TARGET}, name=~"$name", name!=""'
"""The containers of the variable. While there is none it is empty, and would match whatever has no name."""

NODES = "instance"
NAMES = "instance, name"


def series(metric: str, where: str) -> str:
    """Return the last value of each series."""
    return f"{metric}{{{where}}}"


def rate(metric: str, where: str) -> str:
    """Return the growth of a counter, per second."""
    return f"rate({series(metric, where)}[$__rate_interval])"


def increase(metric: str, where: str) -> str:
    """Return the growth of a counter over a few scrapes: for events that are rare."""
    return f"increase({series(metric, where)}[$__rate_interval])"


def total(by: str, expr: str) -> str:
    """Return the sums, with no labels but ``by``."""
    return f"sum by ({by}) ({expr})"


def worst(by: str, expr: str) -> str:
    """Return the maxima, with no labels but ``by``."""
    return f"max by ({by}) ({expr})"


def top(expr: str) -> str:
    """Return the highest series at each point of the panel."""
    return f"topk($top, {expr})"


def share(part: str, whole: str, by: str = "instance, id") -> str:
    """Return part / whole by cgroup, with the labels of ``part``; no series where the whole is 0 or absent.

    cAdvisor's names say "no limit" by 0.
    """
    return f"{part} / on ({by}) group_left () ({whole} > 0)"


def cpu_usage(where: str) -> str:
    """Return the CPUs in use by container; on cgroup v1 there is a series for each CPU."""
    return total("instance, id, name", rate("container_cpu_usage_seconds_total", where))


def cpu_limit(where: str) -> str:
    """Return the CPUs that a quota allows; no series without one."""
    return f"{series('container_spec_cpu_quota', where)} / {series('container_spec_cpu_period', where)}"


def memory_share(where: str) -> str:
    """Return the working set as a share of the memory limit, by cgroup."""
    return share(
        series("container_memory_working_set_bytes", where),
        series("container_spec_memory_limit_bytes", where),
    )


def throttled_share(where: str) -> str:
    """Return the share of CPU quota periods in which the quota was used up, by cgroup."""
    return share(
        rate("container_cpu_cfs_throttled_periods_total", where),
        rate("container_cpu_cfs_periods_total", where),
    )


def quantile(ratio: float, by: str, histogram: str, where: str) -> str:
    """Return a quantile (0..1) of a histogram's observations."""
    return f"histogram_quantile({ratio}, {total(f'le, {by}', rate(f'{histogram}_bucket', where))})"


def mean(by: str, histogram: str, where: str) -> str:
    """Return the mean of a histogram's observations; no series where nothing was observed."""
    observed = total(by, rate(f"{histogram}_count", where))
    return f"{total(by, rate(f'{histogram}_sum', where))} / ({observed} > 0)"
