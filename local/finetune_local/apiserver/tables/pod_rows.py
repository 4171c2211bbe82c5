"""The row of a pod: its STATUS column sums up phase, container states and deletion."""

from typing import Any

from finetune_local.apiserver.resource_type import Column
from finetune_local.apiserver.tables.durations import age

Object = dict[str, Any]
NONE = "<none>"
POD_COLUMNS = (
    Column("Ready", "string", "", "The aggregate readiness state of this pod for accepting traffic."),
    Column("Status", "string", "", "The aggregate status of the containers in this pod."),
    Column("Restarts", "string", "", "The number of times the containers in this pod have been restarted."),
    Column("Age", "string"),
    Column("IP", "string", "", "", 1),
    Column("Node", "string", "", "", 1),
    Column("Nominated Node", "string", "", "", 1),
    Column("Readiness Gates", "string", "", "", 1),
)


def pod_row(body: Object, now: float) -> list[Any]:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    containers = status.get("containerStatuses") or []
    ready = sum(bool(one.get("ready")) for one in containers)
    restarts = sum(one.get("restartCount", 0) for one in containers)
    return [
        f"{ready}/{len(spec.get('containers') or ())}",
        pod_reason(body),
        str(restarts),
        age(body["metadata"].get("creationTimestamp"), now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        NONE,
    ]


def pod_reason(body: Object) -> str:
    status = body.get("status") or {}
    reason = status.get("reason") or status.get("phase", "")
    if any(one.get("reason") == "SchedulingGated" for one in status.get("conditions") or ()):
        reason = "SchedulingGated"
    initializing = _init_reason(body, status)
    if initializing:
        reason = initializing
    else:
        reason = _container_reason(status, reason)
    if body["metadata"].get("deletionTimestamp") and status.get("phase") not in ("Succeeded", "Failed"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _init_reason(body: Object, status: Object) -> str:
    total = len((body.get("spec") or {}).get("initContainers") or ())
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated and terminated.get("exitCode") == 0:
            continue
        if terminated:
            return "Init:" + (terminated.get("reason") or _exit(terminated))
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{total}"
    return ""


def _container_reason(status: Object, reason: str) -> str:
    running = False
    for container in reversed(status.get("containerStatuses") or ()):
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            reason = terminated.get("reason") or _exit(terminated)
        elif container.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        return "Running"
    return reason


def _exit(terminated: Object) -> str:
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode')}"
