"""What a runtime says of pods and containers in the CRI, as protobuf's JSON has it (an int64 is a string).

Written, not asked: a client of the CRI would say the same (kubernetes/cri-api, runtime/v1). Three things are
added, which other answers of the CRI hold: the pid, the sandbox of a container and the image of a sandbox.
"""

from __future__ import annotations

import time
from typing import Any

from tests.real.pods import App, Pod
from tests.real.runc import identity_of

PAUSE_IMAGE = "example.test/pause:3.9"


def _labels(pod: Pod) -> dict[str, str]:
    prefix = "io.kubernetes.pod"
    return {f"{prefix}.name": pod.name, f"{prefix}.namespace": pod.namespace, f"{prefix}.uid": pod.uid}


def sandbox(runtime: str, pod: Pod, identity: str, pid: int) -> dict[str, Any]:
    """Give a pod's sandbox as PodSandboxStatus has it."""
    labels = _labels(pod) | ({} if pod.is_static else {"app": pod.name.partition("-")[0]})
    if runtime == "crio":  # it labels the infra container as Docker's shim did
        labels["io.kubernetes.container.name"] = "POD"
    source = {"kubernetes.io/config.source": "file" if pod.is_static else "api"}
    return {
        "id": identity,
        "metadata": {"name": pod.name, "uid": pod.uid, "namespace": pod.namespace, "attempt": 0},
        "state": "SANDBOX_READY",
        "createdAt": str(time.time_ns()),
        "network": {} if pod.host_network else {"ip": "192.0.2.1"},
        "linux": {"namespaces": {"options": {"network": "NODE" if pod.host_network else "POD"}}},
        "labels": labels,
        "annotations": source | ({"kubernetes.io/config.hash": pod.uid} if pod.is_static else {}),
        "image": {"image": PAUSE_IMAGE},
        "pid": pid,
    }


def container(pod: Pod, app: App, pod_sandbox: str, identity: str, attempt: int, pid: int) -> dict[str, Any]:
    """Give a container as ContainerStatus has it."""
    moment = time.time_ns()
    return {
        "id": identity,
        "podSandboxId": pod_sandbox,
        "metadata": {"name": app.name, "attempt": attempt},
        "state": "CONTAINER_RUNNING",
        "createdAt": str(moment - 50_000_000),
        "startedAt": str(moment),
        "finishedAt": "0",
        "exitCode": 0,
        "image": {"image": app.image},
        "imageRef": f"sha256:{identity_of(app.image)}",
        "labels": _labels(pod) | {"io.kubernetes.container.name": app.name},
        "annotations": {
            "io.kubernetes.container.restartCount": str(attempt),
            "io.kubernetes.pod.terminationGracePeriod": "30",
        },
        "pid": pid,
    }
