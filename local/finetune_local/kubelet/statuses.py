"""Pod status from what is known of its containers, as the kubelet derives it (pkg/kubelet/kubelet_pods.go)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from finetune_local import timestamps

Object = dict[str, Any]


@dataclass
class ContainerRecord:
    """What is known of one container."""

    name: str
    image: str
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Object = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    container_id: str = ""
    sidecar: bool = False
    """An init container with restartPolicy Always: it runs beside the others."""

    @property
    def terminated(self) -> Object | None:
        found: Object | None = self.state.get("terminated")
        return found

    @property
    def running(self) -> bool:
        return "running" in self.state

    def wait(self, reason: str, message: str = "") -> None:
        if self.terminated is not None:
            self.last_state = self.state
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        self.ready = self.started = False

    def as_status(self) -> Object:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"local://{self.image}",
            "containerID": self.container_id,
            "state": self.state,
            "lastState": self.last_state,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restart_count,
        }


@dataclass
class PodRecord:
    """What is known of a pod beside its containers."""

    init: list[ContainerRecord]
    containers: list[ContainerRecord]
    ip: str = ""
    host_ip: str = "127.0.0.1"
    start_time: str = ""
    sandbox_ready: bool = False
    reason: str = ""
    """Set when the pod was ended as a whole: Evicted, DeadlineExceeded."""
    message: str = ""
    ending: bool = False
    """The pod is being stopped as a whole: its phase stays until every container has ended."""
    terminal: bool = False
    """Nothing of the pod will run again, whatever its restartPolicy says."""
    disruption: str = ""
    """Reason of the DisruptionTarget condition: somebody else than the pod itself ends it."""


def _is_done(init: ContainerRecord) -> bool:
    """Whether the next container may start (or could have)."""
    if init.sidecar:
        return init.started or init.terminated is not None or bool(init.last_state)
    return init.terminated is not None and init.terminated["exitCode"] == 0


def initialized(record: PodRecord) -> bool:
    return all(map(_is_done, record.init))


def phase(record: PodRecord, restart_policy: str) -> str:
    if record.terminal and record.reason:
        return "Failed"
    found = _phase(record, restart_policy)
    if record.ending and not record.terminal and found in ("Succeeded", "Failed"):
        return "Running"
    return found


def _phase(record: PodRecord, restart_policy: str) -> str:
    if not initialized(record):
        ended = [one.terminated for one in record.init if not one.sidecar and one.terminated is not None]
        failed = any(state["exitCode"] != 0 for state in ended)
        return "Failed" if record.terminal or (failed and restart_policy == "Never") else "Pending"
    waiting = [one for one in record.containers if "waiting" in one.state and not one.last_state]
    if waiting:
        return "Pending"
    sidecars = [one for one in record.init if one.sidecar]
    if any(one.running for one in [*record.containers, *sidecars]) or (
        restart_policy == "Always" and not record.terminal
    ):
        return "Running"
    ends = [(one.terminated or one.last_state.get("terminated", {})).get("exitCode") for one in record.containers]
    if all(code == 0 for code in ends):
        return "Succeeded"
    return "Failed" if restart_policy == "Never" or record.terminal else "Running"


def pod_status(pod: Object, record: PodRecord) -> Object:
    """The whole status; conditions of others (PodScheduled, DisruptionTarget) are kept as they are."""
    now_phase = phase(record, pod["spec"].get("restartPolicy", "Always"))
    current = pod.get("status") or {}
    status: Object = {
        "phase": now_phase,
        "conditions": _conditions(current.get("conditions") or [], record, now_phase),
        "hostIP": record.host_ip,
        "hostIPs": [{"ip": record.host_ip}],
        "startTime": record.start_time,
        "qosClass": current.get("qosClass") or "BestEffort",
        "containerStatuses": [one.as_status() for one in record.containers],
    }
    if record.ip:
        status |= {"podIP": record.ip, "podIPs": [{"ip": record.ip}]}
    if record.init:
        status["initContainerStatuses"] = [one.as_status() for one in record.init]
    if record.terminal and record.reason:
        status |= {"reason": record.reason, "message": record.message}
    if "observedGeneration" in current:
        status["observedGeneration"] = current["observedGeneration"]
    return status


def _conditions(current: list[Object], record: PodRecord, now_phase: str) -> list[Object]:
    wanted = [
        ("PodReadyToStartContainers", record.sandbox_ready and now_phase not in ("Succeeded", "Failed"), "", ""),
        ("Initialized", *_initialized(record, now_phase)),
        ("Ready", *_ready(record, now_phase)),
        ("ContainersReady", *_ready(record, now_phase)),
    ]
    conditions = [condition(current, kind, truth, reason, text) for kind, truth, reason, text in wanted]
    if record.disruption:
        made = condition(current, "DisruptionTarget", True, record.disruption, record.message)
        conditions.append(made)
    own = {one["type"] for one in conditions}
    return conditions + [one for one in current if one["type"] not in own]


def _initialized(record: PodRecord, now_phase: str) -> tuple[bool, str, str]:
    if initialized(record):
        return True, "PodCompleted" if now_phase == "Succeeded" else "", ""
    names = _names(one for one in record.init if not _is_done(one))
    return False, "ContainersNotInitialized", f"containers with incomplete status: {names}"


def _ready(record: PodRecord, now_phase: str) -> tuple[bool, str, str]:
    if now_phase == "Succeeded":
        return False, "PodCompleted", ""
    if now_phase == "Failed":
        return False, "PodFailed", ""
    if all(one.ready for one in record.containers):
        return True, "", ""
    names = _names(one for one in record.containers if not one.ready)
    return False, "ContainersNotReady", f"containers with unready status: {names}"


def _names(records: Iterable[ContainerRecord]) -> str:
    return f"[{' '.join(one.name for one in records)}]"


def condition(current: Iterable[Object], kind: str, truth: bool, reason: str = "", message: str = "") -> Object:
    """A condition whose lastTransitionTime moves only when its status does."""
    status = "True" if truth else "False"
    before = next((one for one in current if one["type"] == kind), None)
    same = before is not None and before["status"] == status
    since = before["lastTransitionTime"] if before is not None and same else timestamps.now()
    made = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
    return made | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
