"""What the users of cAdvisor ask: expressions of kubernetes-mixin, of Docker dashboards, of alert rules.

Each is written anew from what the source asks for: metrics, labels, selectors, functions. ``$rate`` stands
for the dashboards' interval and ``$instance`` for the chosen agent. To ask more, add a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from msgspec import Struct

CADVISOR, KUBELET = "cadvisor", "kubelet"


class Expression(Struct, frozen=True):
    """One expression, and the labels that it needs."""

    source: str
    promql: str
    scheme: str = CADVISOR
    record: str = ""
    """The name under which its source records it, and other expressions ask for it."""
    empty: str = ""
    """Why there is no answer here; an expression without a reason must have one."""


_NOT_WALKED = "to find how much a container fills of a disk, all of its files would have to be walked through"
_NO_SCHEDULER = (
    "no file of a cgroup tells, unless BFQ has CONFIG_BFQ_CGROUP_DEBUG: the machine's at / are not its"
)
OF_THE_NODE = {
    **dict.fromkeys(
        (f"container_fs_{what}" for what in ("usage_bytes", "limit_bytes", "inodes_total", "inodes_free")),
        _NOT_WALKED,
    ),
    **dict.fromkeys(
        (
            "container_fs_io_current",
            *(f"container_fs_{what}_merged_total" for what in ("reads", "writes")),
            *(
                f"container_fs_{what}_seconds_total"
                for what in ("read", "write", "io_time", "io_time_weighted")
            ),
        ),
        _NO_SCHEDULER,
    ),
}
"""Metrics that ``id="/"`` has and no container, and why."""

# A rate over five minutes of a container that is a few seconds old is small, too.
_WELL = "an alert, and nothing is amiss"
_OTHERS = "no exporter of containers shows this label"


def _all(source: str, *promql: str) -> Iterable[Expression]:
    return (Expression(source, one) for one in promql)


def _alert(
    source: str, value: str, condition: str, scheme: str = CADVISOR, *, fires: bool = False
) -> Iterable[Expression]:
    """An alert's value, which must be there, and the alert, which must not unless ``fires``."""
    yield Expression(source, value, scheme)
    yield Expression(source, f"{value} {condition}", scheme, empty="" if fires else _WELL)


# kubernetes-mixin, with the selector that kube-prometheus gives it; one cluster has no name.
_C = 'job="kubelet",metrics_path="/metrics/cadvisor"'
_POD = 'cluster="",namespace="shop",pod="till-0"'
_NODE = (
    "on (cluster,namespace,pod) group_left(node) "
    'topk by (cluster,namespace,pod) (1, max by (cluster,namespace,pod,node) (kube_pod_info{node!=""}))'
)
_RECORDED = "node_namespace_pod_container:container"
_WITHOUT = "sum without (id,metrics_path,name,image,endpoint,job,node)"
_BY_CONTAINER = "cluster,namespace,pod,container,instance"
_DISKS = "(/dev.+)|mmcblk.p.+|nvme.+|rbd.+|sd.+|vd.+|xvd.+|dm-.+|dasd.+"


def _mixin(*promql: str) -> Iterable[Expression]:
    return (Expression("kubernetes-mixin", one, KUBELET) for one in promql)


def _recording_rules() -> Iterable[Expression]:
    for function in ("rate", "irate"):
        used = f'{function}(container_cpu_usage_seconds_total{{{_C},image!=""}}[5m])'
        value = f"sum by (cluster,namespace,pod,container) ({used}) * {_NODE}"
        record = f"{_RECORDED}_cpu_usage_seconds_total:sum_{function}"
        yield Expression("kubernetes-mixin", value, KUBELET, record + ("5m" if function == "rate" else ""))
    for what in ("working_set_bytes", "rss", "cache", "swap"):
        value = f'container_memory_{what}{{{_C},image!=""}} * {_NODE}'
        yield Expression("kubernetes-mixin", value, KUBELET, f"{_RECORDED}_memory_{what}")


def _throttling(selector: str) -> str:
    return " / ".join(
        f"sum(increase(container_cpu_cfs_{what}_total{{{selector}}}[$rate])) by (container)"
        for what in ("throttled_periods", "periods")
    )


def _top(metric: str, selector: str) -> str:
    return f"{_WITHOUT} (topk by ({_BY_CONTAINER}) (1, increase({metric}{{{selector}}}[5m])))"


KUBERNETES = (
    *_recording_rules(),
    *_alert(
        "kubernetes-mixin",
        _top("container_cpu_cfs_throttled_periods_total", f'container!="",{_C}')
        + f" / on ({_BY_CONTAINER}) group_left "
        + _top("container_cpu_cfs_periods_total", _C),
        "> 0.25",
        KUBELET,
        fires=True,
    ),
    # Resources of a cluster, a namespace, a pod.
    *_mixin(
        f'sum by (namespace) ({_RECORDED}_cpu_usage_seconds_total:sum_rate5m{{cluster=""}})',
        f'sum({_RECORDED}_cpu_usage_seconds_total:sum_irate{{{_POD},container!=""}}) by (container)',
        f'sum by (pod) ({_RECORDED}_cpu_usage_seconds_total:sum_rate5m{{cluster="",namespace="shop"}})'
        ' / sum by (pod) (kube_pod_container_resource_limits{namespace="shop",resource="cpu"})',
        f'sum(container_memory_rss{{{_C},cluster="",container!=""}}) by (namespace)',
        f'sum(container_memory_rss{{{_C},cluster="",container!=""}}) by (namespace)'
        ' / sum(kube_pod_container_resource_limits{resource="memory"}) by (namespace)',
        f'sum(container_memory_working_set_bytes{{{_C},namespace="shop",container!="",image!=""}}) by (pod)',
        f'sum(container_memory_working_set_bytes{{{_C},{_POD},container!="",image!=""}}) by (container)',
        f'sum({_RECORDED}_memory_working_set_bytes{{{_POD},container!=""}}) by (container)',
        *(
            f"sum(max by (cluster,namespace,pod,container) (container_memory_{what}"
            f'{{{_C},{_POD},container!="",container!="POD"}})) by (container)'
            for what in ("rss", "cache", "swap")
        ),
        _throttling(f'{_C},{_POD},container!=""'),
    ),
    # Networking of namespaces and pods.
    *_mixin(
        *(
            f"sum(rate(container_network_{direction}_{what}_total{{{_C},{selector}}}[$rate])) by ({by})"
            + (" * 8" if what == "bytes" else "")
            for selector, by in (('namespace=~".+"', "namespace"), ('namespace="shop",pod="till-0"', "pod"))
            for direction in ("receive", "transmit")
            for what in ("bytes", "packets", "packets_dropped")
        ),
        f"sum(irate(container_network_receive_bytes_total{{{_C},{_POD}}}[$rate])) by (pod)",
        'container_network_receive_packets_total{cluster=""}',
        'count by (namespace) (container_network_receive_packets_total{cluster="",namespace!=""})',
    ),
    # Storage.
    *_mixin(
        *(
            f"sum by (pod) (rate(container_fs_{what}_total"
            f'{{{_C},device=~"{_DISKS}",container!="",cluster="",namespace!=""}}[$rate]))'
            for what in ("reads", "writes", "reads_bytes", "writes_bytes")
        ),
        "ceil(sum by (container) ("
        + " + ".join(
            f'rate(container_fs_{what}_total{{{_C},device=~"{_DISKS}",{_POD}}}[5m])'
            for what in ("reads", "writes")
        )
        + "))",
    ),
    *(
        Expression("prometheus-adapter", promql, KUBELET)
        for promql in (
            'sum(irate(container_cpu_usage_seconds_total{container!="",pod!=""}[5m])) by (pod)',
            'sum(container_memory_working_set_bytes{container!="",pod!=""}) by (pod)',
        )
    ),
    *(
        Expression("dotdc", promql, KUBELET)
        for promql in (
            f'sum(rate(container_cpu_usage_seconds_total{{{_C},image!=""}}[$rate])) by (node)',
            f"sum(machine_cpu_cores{{{_C}}}) by (node)",
            f'sum(container_memory_working_set_bytes{{{_C},image!=""}}) / sum(machine_memory_bytes{{{_C}}})',
            'sum(rate(container_cpu_cfs_throttled_seconds_total{image!=""}[$rate])) by (namespace)',
            "sum(increase(container_oom_events_total[$rate])) by (namespace,pod,container)",
            "sum(rate(container_network_receive_errors_total[$rate])) by (namespace)",
            "sum(rate(container_network_transmit_errors_total[$rate])) by (namespace)",
        )
    ),
)

_14282 = '{instance=~"$instance",name=~".*",name=~".+"}'
_193 = '{image!="",instance=~"$instance"}'
_NAMED = '{name=~".+"}'
_13946 = '{job="cadvisor",image!="",instance=~"$instance"}'
_19792 = '{instance=~"$instance",name=~".+",container_label_com_docker_compose_project=~".*"}'
_MIXIN = '{job!="kubelet",name!=""}'
_DIRECTIONS = ("receive", "transmit")
_NETWORK = ("bytes", "packets", "packets_dropped", "errors")


def _of_19792(metrics: str, by: str = "name") -> Iterable[str]:
    for metric in metrics.split():
        one = f"container_{metric}{_19792}"
        yield f"max by ({by}) ({f'rate({one}[$rate])' if metric.endswith(('_total', 'failcnt')) else one})"


DOCKER = (
    *_all(
        "dashboard 14282",
        'count by (instance) ({__name__=~"container.*"})',
        'count by (name) ({__name__=~"container.*",name!=""})',
        f"sum(rate(container_cpu_usage_seconds_total{_14282}[5m])) by (name) * 100",
        f"sum(container_memory_rss{_14282}) by (name)",
        f"sum(container_memory_cache{_14282}) by (name)",
        *(f"sum(rate(container_network_{way}_bytes_total{_14282}[5m])) by (name)" for way in _DIRECTIONS),
        f"(time() - container_start_time_seconds{_14282}) / 86400",
        "count by (container_label_com_docker_compose_project,container_label_com_docker_compose_service)"
        ' (container_start_time_seconds{container_label_com_docker_compose_service!=""})',
    ),
    *_all(
        "dashboard 193",
        "count by (instance) (container_scrape_error)",
        f"count(container_last_seen{_193})",
        f"sum(container_memory_usage_bytes{_193}) / 1024 / 1024",
        f"sum(rate(container_cpu_user_seconds_total{_193}[5m]) * 100)",
        f"sum by (name) (rate(container_cpu_user_seconds_total{_193}[5m]) * 100)",
        f"container_memory_usage_bytes{_193}",
        *(f"irate(container_network_{way}_bytes_total{_193}[5m])" for way in _DIRECTIONS),
    ),
    *_all(
        "dashboard 893",
        f"count(rate(container_last_seen{_NAMED}[$rate]))",
        *(f'sum(rate(container_network_{way}_bytes_total{{id="/"}}[$rate])) by (id)' for way in _DIRECTIONS),
        *(f"sum(rate(container_network_{way}_bytes_total{_NAMED}[$rate])) by (name)" for way in _DIRECTIONS),
        'sum(rate(container_cpu_system_seconds_total{id="/"}[1m]))',
        f"sum(rate(container_cpu_system_seconds_total{_NAMED}[1m]))",
        f"sum(rate(container_cpu_usage_seconds_total{_NAMED}[$rate])) by (name) * 100",
        *(f"sum(container_memory_{what}{_NAMED}) by (name)" for what in ("rss", "swap")),
        f"sum(container_spec_memory_limit_bytes{_NAMED} - container_memory_usage_bytes{_NAMED}) by (name)",
        f"sum(100 - ((container_spec_memory_limit_bytes{_NAMED} - container_memory_usage_bytes{_NAMED})"
        f" * 100 / container_spec_memory_limit_bytes{_NAMED})) by (name)",
    ),
    Expression("dashboard 893", 'count(container_last_seen{container_group!=""})', empty=_OTHERS),
    *_all(
        "dashboard 11600",
        "count by (job) (container_cpu_user_seconds_total)",
        "count by (cadvisorVersion,osVersion,kernelVersion) (cadvisor_version_info)",
        f"sum(rate(container_cpu_usage_seconds_total{_14282}[$rate])) by (name) * 100",
    ),
    *_all(
        "dashboard 179",
        'count(rate(container_last_seen{job="cadvisor",name!=""}[5m]))',
        'sum(rate(container_cpu_usage_seconds_total{image!=""}[1m])) by (id,name)',
        'container_memory_max_usage_bytes{image!=""}',
        'sum(container_fs_limit_bytes{device=~"/dev/.+",id="/"})',
        'sum(container_fs_usage_bytes{device=~"/dev/.+",id="/"})',
        'sum(container_fs_usage_bytes{device=~"/dev/.+",id="/"})'
        ' / sum(container_fs_limit_bytes{device=~"/dev/.+",id="/"}) * 100',
        *(f'sum(rate(container_network_{way}_bytes_total{{id="/"}}[1m]))' for way in _DIRECTIONS),
    ),
    Expression(
        "dashboard 179",
        'sum(container_memory_usage_bytes{container_label_com_docker_swarm_service_name=~".+"})',
        empty="no container here belongs to a swarm",
    ),
    *_all(
        "dashboard 13946",
        f"count(container_last_seen{_13946}) by (instance)",
        f"sum(irate(container_cpu_user_seconds_total{_13946}[5m]) * 100) by (instance)"
        ' / sum(machine_cpu_cores{job="cadvisor"}) by (instance)',
        f"(sum(container_memory_usage_bytes{_13946}) - sum(container_memory_cache{_13946}))"
        ' / sum(machine_memory_bytes{job="cadvisor"})',
        *(
            f'irate(container_fs_{what}_bytes_total{{job="cadvisor",image!="",device!~"/dev/dm.*"}}[5m])'
            for what in ("reads", "writes")
        ),
        *(
            f"sum by (interface) (irate(container_network_{way}_bytes_total{_13946}[5m]))"
            for way in _DIRECTIONS
        ),
        "sum without (dc,from,id,instance,image,container_label_restartcount,device)"
        f" (irate(container_fs_writes_bytes_total{_13946}[5m]))",
    ),
    *_all(
        "dashboard 19792",
        *_of_19792(
            "cpu_usage_seconds_total cpu_user_seconds_total cpu_system_seconds_total cpu_load_average_10s "
            "cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total "
            "memory_usage_bytes memory_working_set_bytes memory_rss memory_cache memory_swap "
            "memory_mapped_file memory_max_usage_bytes memory_failcnt spec_memory_limit_bytes "
            "spec_memory_reservation_limit_bytes spec_memory_swap_limit_bytes spec_cpu_period spec_cpu_quota "
            "spec_cpu_shares start_time_seconds last_seen oom_events_total processes threads threads_max "
            "file_descriptors sockets fs_inodes_free fs_inodes_total fs_limit_bytes fs_usage_bytes "
            "fs_io_current fs_io_time_seconds_total fs_io_time_weighted_seconds_total fs_read_seconds_total "
            "fs_write_seconds_total fs_sector_reads_total fs_sector_writes_total fs_reads_merged_total "
            "fs_writes_merged_total fs_reads_total fs_writes_total fs_reads_bytes_total fs_writes_bytes_total"
        ),
        *_of_19792("tasks_state", "name,state"),
        *_of_19792("memory_failures_total", "name,failure_type,scope"),
        *_of_19792("blkio_device_usage_total", "name,device,operation"),
        *_of_19792(
            " ".join(f"network_{way}_{what}_total" for way in _DIRECTIONS for what in _NETWORK),
            "name,interface",
        ),
        'max by (instance) (container_scrape_error{instance=~"$instance"})',
        "count by (container_label_com_docker_compose_version,container_label_com_docker_compose_oneoff,"
        "container_label_com_docker_compose_container_number,container_label_maintainer)"
        ' (container_last_seen{container_label_com_docker_compose_project!=""})',
    ),
    *_all(
        "docker-mixin",
        f"count(container_last_seen{_MIXIN})",
        f"count(sum by (image) (container_last_seen{_MIXIN}))",
        f"100 * rate(container_cpu_usage_seconds_total{_MIXIN}[$rate])",
        f"container_memory_usage_bytes{_MIXIN}",
        f"sum(container_spec_memory_reservation_limit_bytes{_MIXIN})"
        ' / avg(machine_memory_bytes{job!="kubelet"}) * 100',
        f"sum by (name) (container_memory_usage_bytes{_MIXIN})"
        ' / on () group_left avg(machine_memory_bytes{job!="kubelet"}) * 100',
        *(
            f"{'8 * ' if what == 'bytes' else ''}rate(container_network_{way}_{what}_total{_MIXIN}[$rate])"
            for way in _DIRECTIONS
            for what in ("bytes", "errors", "packets_dropped")
        ),
        'sum by (device) (container_fs_usage_bytes{job!="kubelet",id="/",device=~"/dev.+"})',
        *(f"sum by (device) (rate(container_fs_{way}_total{_MIXIN}[$rate]))" for way in ("reads", "writes")),
    ),
    *_all(
        "dockprom",
        'sum(rate(container_cpu_user_seconds_total{image!=""}[1m])) / count(machine_cpu_cores) * 100',
        'sum by (name) (rate(container_cpu_usage_seconds_total{image!="",'
        'container_label_org_label_schema_group=""}[1m])) / scalar(count(machine_cpu_cores)) * 100',
        'sum by (name) (container_memory_usage_bytes{image!="",container_label_org_label_schema_group=""})',
        'sum by (name) (container_memory_cache{image!="",container_label_org_label_schema_group=""})',
        'count(rate(container_last_seen{image!=""}[5m]))',
        'sum(container_fs_usage_bytes{id="/"})',
    ),
    Expression(
        "dockprom",
        'container_memory_usage_bytes{image!="",container_label_org_label_schema_group="monitoring"}',
        empty="no container here has this label",
    ),
)

_AWESOME = "awesome-prometheus-alerts"
_CPU_OF_LIMIT = (
    'sum(rate(container_cpu_usage_seconds_total{container!=""}[5m])) by (pod,container)'
    " / sum(container_spec_cpu_quota / container_spec_cpu_period) by (pod,container) * 100"
)
_MEMORY_OF_LIMIT = (
    'sum(container_memory_working_set_bytes{name!=""}) by (instance,name)'
    " / sum(container_spec_memory_limit_bytes > 0) by (instance,name) * 100"
)
_THROTTLED = " / ".join(
    f'sum(increase(container_cpu_cfs_{what}_total{{name!=""}}[5m])) by (instance,name)'
    for what in ("throttled_periods", "periods")
)
ALERTS = (
    *_alert(_AWESOME, "time() - container_last_seen", "> 60"),
    Expression(_AWESOME, "absent(container_last_seen)", empty=_WELL),
    *_alert(_AWESOME, _CPU_OF_LIMIT, "> 80", KUBELET),
    *_alert(_AWESOME, _MEMORY_OF_LIMIT, "> 99"),
    *_alert(_AWESOME, _THROTTLED, "> 0.25", fires=True),
    *_alert(
        _AWESOME,
        '(1 - sum(container_fs_inodes_free{id="/"}) by (instance)'
        ' / sum(container_fs_inodes_total{id="/"}) by (instance)) * 100',
        "> 99",
    ),
    Expression(
        _AWESOME, 'sum(rate(container_cpu_usage_seconds_total{name!=""}[7d])) by (instance,name) * 100 < 20'
    ),
    Expression(_AWESOME, "container_health_state"),
    Expression(_AWESOME, "container_health_state == 0", empty=_WELL),
    Expression(
        "restarts",
        "count by (instance,name) (count_over_time(container_last_seen"
        '{name!="",container_label_restartcount!=""}[15m])) - 1 >= 5',
        empty="restarts are never a label, as that would begin every series anew",
    ),
)

EXPRESSIONS = tuple(chain(KUBERNETES, DOCKER, ALERTS))
