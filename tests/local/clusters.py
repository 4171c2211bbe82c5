"""What tests of a whole local cluster share: objects to apply and conditions to wait for."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from finetune_local.cluster import Cluster
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import JOBS, PODS, Kind

Object = dict[str, Any]


async def wait_for(
    cluster: Cluster,
    kind: Kind,
    name: str,
    condition: Callable[[Object], Any],
    *,
    namespace: str = "default",
    seconds: float = 30.0,
) -> Object:
    """The object, as soon as it fulfils the condition."""
    deadline = time.monotonic() + seconds
    last: Object = {}
    while time.monotonic() < deadline:
        try:
            last = await cluster.api.get(kind, name, namespace if kind.namespaced else None)
        except ApiError as error:
            if not error.not_found:
                raise
        else:
            if condition(last):
                return last
        await asyncio.sleep(0.02)
    raise AssertionError(f"{kind.kind} {name} did not get there: {last.get('spec')} {last.get('status')}")


async def wait_gone(
    cluster: Cluster, kind: Kind, name: str, *, namespace: str | None = "default", seconds: float = 30.0
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            await cluster.api.get(kind, name, namespace if kind.namespaced else None)
        except ApiError as error:
            if error.not_found:
                return
            raise
        await asyncio.sleep(0.02)
    raise AssertionError(f"{kind.kind} {name} is still there")


async def pods_of(cluster: Cluster, selector: str = "", namespace: str = "default") -> list[Object]:
    listed = await cluster.api.list(PODS, namespace, label_selector=selector)
    items: list[Object] = listed["items"]
    return items


async def wait_pods(
    cluster: Cluster, selector: str, condition: Callable[[list[Object]], Any], *, seconds: float = 30.0
) -> list[Object]:
    deadline = time.monotonic() + seconds
    pods: list[Object] = []
    while time.monotonic() < deadline:
        pods = await pods_of(cluster, selector)
        if condition(pods):
            return pods
        await asyncio.sleep(0.02)
    raise AssertionError(f"pods {selector} did not get there: {[(p['metadata'], p.get('status')) for p in pods]}")


def pod(name: str, script: str, *, container: Object | None = None, **spec: Any) -> Object:
    """A pod whose one container runs a shell script; it is never restarted unless `spec` says otherwise."""
    main = {"name": "main", "image": "none", "command": ["sh", "-c", script], **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "containers": [main], **spec},
    }


def job(name: str, script: str, *, template: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": {**pod(name, script)["spec"], **(template or {})}}, **spec},
    }


def terminated(pod: Object) -> Object | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return (statuses[0].get("state") or {}).get("terminated") if statuses else None


def has_condition(kind: str, status: str = "True") -> Callable[[Object], bool]:
    def holds(item: Object) -> bool:
        conditions = (item.get("status") or {}).get("conditions") or []
        return any(one["type"] == kind and one["status"] == status for one in conditions)

    return holds


async def run_job(cluster: Cluster, body: Object, seconds: float = 30.0) -> Object:
    """Applies a Job and waits until it is finished."""
    await cluster.api.create(JOBS, body, "default")
    done = lambda item: has_condition("Complete")(item) or has_condition("Failed")(item)  # noqa: E731
    return await wait_for(cluster, JOBS, body["metadata"]["name"], done, seconds=seconds)


def log_of(cluster: Cluster, pod: Object, container: str = "main", restart: int = 0) -> str:
    kubelet = cluster.control_plane.kubelet
    assert kubelet is not None
    return kubelet.settings.log_file(pod["metadata"]["uid"], container, restart).read_text()


async def wait_log(cluster: Cluster, pod: Object, text: str, *, seconds: float = 30.0) -> None:
    """Until the pod's first container has written `text`."""
    deadline = time.monotonic() + seconds
    while text not in log_of(cluster, pod):
        assert time.monotonic() < deadline, f"{pod['metadata']['name']} never wrote {text!r}"
        await asyncio.sleep(0.02)
