"""Columns and cells of built-in kinds, as kubectl get shows them (pkg/printers/internalversion/printers.go)."""

from collections.abc import Callable
from typing import Any

from finetune_local.apiserver.resource_type import Column
from finetune_local.apiserver.tables.durations import age, human_duration, seconds_between
from finetune_local.apiserver.tables.pod_rows import POD_COLUMNS, pod_row

Object = dict[str, Any]
Row = Callable[[Object, float], list[Any]]
NONE = "<none>"


def _columns(text: str) -> tuple[Column, ...]:
    """ "Ready,Status,*IP": a star marks a column of `-o wide`."""
    return tuple(
        Column(name.lstrip("*"), "string", "", "", 1 if name.startswith("*") else 0) for name in text.split(",")
    )


def _age(body: Object, now: float) -> str:
    return age(body["metadata"].get("creationTimestamp"), now)


def _count(body: Object, *path: str) -> int:
    value: Any = body
    for key in path:
        value = (value or {}).get(key)
    return value or 0


def _template(spec: Object) -> list[str]:
    containers = ((spec.get("template") or {}).get("spec") or {}).get("containers") or []
    return [
        ",".join(container.get("name", "") for container in containers),
        ",".join(container.get("image", "") for container in containers),
    ]


def selector_text(selector: Object | None) -> str:
    labels = (selector or {}).get("matchLabels") or {}
    return labels_text(labels)


def labels_text(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def job_row(body: Object, now: float) -> list[Any]:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    wanted = spec.get("completions")
    done = status.get("succeeded", 0)
    if wanted is not None:
        completions = f"{done}/{wanted}"
    else:
        parallel = spec.get("parallelism", 0)
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    return [
        _job_status(body),
        completions,
        _job_duration(status, now),
        _age(body, now),
        *_template(spec),
        selector_text(spec.get("selector")),
    ]


def _job_status(body: Object) -> str:
    held = {one["type"] for one in (body.get("status") or {}).get("conditions") or () if one.get("status") == "True"}
    if "Complete" in held or "Failed" in held:
        return "Complete" if "Complete" in held else "Failed"
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for condition, shown in (
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ):
        if condition in held:
            return shown
    return "Running"


def _job_duration(status: Object, now: float) -> str:
    if not status.get("startTime"):
        return ""
    return human_duration(seconds_between(status["startTime"], status.get("completionTime"), now))


def cron_job_row(body: Object, now: float) -> list[Any]:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    last = status.get("lastScheduleTime")
    return [
        spec.get("schedule", ""),
        spec.get("timeZone") or NONE,
        str(spec.get("suspend", False)),
        len(status.get("active") or ()),
        age(last, now) if last else NONE,
        _age(body, now),
    ]


def deployment_row(body: Object, now: float) -> list[Any]:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    return [
        ready,
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(body, now),
        *_template(spec),
        selector_text(spec.get("selector")),
    ]


def replica_set_row(body: Object, now: float) -> list[Any]:
    spec = body.get("spec") or {}
    return [
        spec.get("replicas", 0),
        _count(body, "status", "replicas"),
        _count(body, "status", "readyReplicas"),
        _age(body, now),
        *_template(spec),
        selector_text(spec.get("selector")),
    ]


def stateful_set_row(body: Object, now: float) -> list[Any]:
    spec = body.get("spec") or {}
    return [f"{_count(body, 'status', 'readyReplicas')}/{spec.get('replicas', 0)}", _age(body, now), *_template(spec)]


def daemon_set_row(body: Object, now: float) -> list[Any]:
    fields = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [*(_count(body, "status", field) for field in fields), _age(body, now)]


def service_row(body: Object, now: float) -> list[Any]:
    spec = body.get("spec") or {}
    ports = ",".join(_port_text(port) for port in spec.get("ports") or ()) or NONE
    external = spec.get("externalName") or ",".join(spec.get("externalIPs") or ()) or NONE
    return [
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        external,
        ports,
        _age(body, now),
        labels_text(spec.get("selector")),
    ]


def _port_text(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}"


ACCESS = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def claim_row(body: Object, now: float) -> list[Any]:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    phase = "Terminating" if body["metadata"].get("deletionTimestamp") else status.get("phase", "")
    return [
        phase,
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", ""),
        ",".join(ACCESS.get(mode, mode) for mode in status.get("accessModes") or ()),
        spec.get("storageClassName", ""),
        _age(body, now),
        spec.get("volumeMode", ""),
    ]


def node_row(body: Object, now: float) -> list[Any]:
    status, spec = body.get("status") or {}, body.get("spec") or {}
    ready: Object = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    state = {"True": "Ready", "False": "NotReady"}.get(ready.get("status", ""), "Unknown")
    state += ",SchedulingDisabled" if spec.get("unschedulable") else ""
    prefix = "node-role.kubernetes.io/"
    labels = body["metadata"].get("labels") or {}
    roles = ",".join(sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))) or NONE
    info = status.get("nodeInfo") or {}
    addresses = {one["type"]: one["address"] for one in status.get("addresses") or ()}
    return [
        state,
        roles,
        _age(body, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def event_row(body: Object, now: float) -> list[Any]:
    subject = body.get("involvedObject") or body.get("regarding") or {}
    last = _event_time(body)
    source = (body.get("source") or body.get("deprecatedSource") or {}).get("component") or body.get(
        "reportingComponent", body.get("reportingController", "")
    )
    count = (body.get("series") or {}).get("count") or body.get("count") or body.get("deprecatedCount") or 1
    return [
        age(last, now),
        body.get("type", ""),
        body.get("reason", ""),
        f"{subject.get('kind', '').lower()}/{subject.get('name', '')}",
        body.get("message") or body.get("note", ""),
        source,
        age(body.get("firstTimestamp") or body.get("deprecatedFirstTimestamp") or body.get("eventTime"), now),
        count,
        body["metadata"]["name"],
    ]


def _event_time(body: Object) -> str | None:
    series = body.get("series") or {}
    for time in (
        series.get("lastObservedTime"),
        body.get("lastTimestamp"),
        body.get("deprecatedLastTimestamp"),
        body.get("eventTime"),
    ):
        if time:
            return str(time)
    return body["metadata"].get("creationTimestamp")


def _simple(*cells: Callable[[Object], Any]) -> Row:
    return lambda body, now: [*(cell(body) for cell in cells), _age(body, now)]


def _role_ref(body: Object) -> str:
    role = body.get("roleRef") or {}
    return f"{role.get('kind')}/{role.get('name')}"


def binding_row(body: Object, now: float) -> list[Any]:
    return [_role_ref(body), _age(body, now)]


def lease_row(body: Object, now: float) -> list[Any]:
    return [(body.get("spec") or {}).get("holderIdentity", ""), _age(body, now)]


def slice_row(body: Object, now: float) -> list[Any]:
    ports = ",".join(str(port.get("port")) for port in body.get("ports") or ()) or "<unset>"
    addresses = ",".join(address for one in body.get("endpoints") or () for address in one.get("addresses") or ())
    return [body.get("addressType", ""), ports, addresses or "<unset>", _age(body, now)]


def budget_row(body: Object, now: float) -> list[Any]:
    spec = body.get("spec") or {}
    return [
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        _count(body, "status", "disruptionsAllowed"),
        _age(body, now),
    ]


EVENT_COLUMNS = (
    *_columns("Last Seen,Type,Reason,Object,Message,*Source,*First Seen,*Count"),
    Column("Name", format="name", priority=1),
)

TABLES: dict[tuple[str, str], tuple[tuple[Column, ...], Row]] = {
    ("", "pods"): (POD_COLUMNS, pod_row),
    ("", "namespaces"): (_columns("Status,Age"), _simple(lambda body: (body.get("status") or {}).get("phase", ""))),
    ("", "configmaps"): (
        _columns("Data,Age"),
        _simple(lambda body: len(body.get("data") or ()) + len(body.get("binaryData") or ())),
    ),
    ("", "secrets"): (
        _columns("Type,Data,Age"),
        _simple(lambda body: body.get("type", ""), lambda body: len(body.get("data") or ())),
    ),
    ("", "serviceaccounts"): (_columns("Secrets,Age"), _simple(lambda body: len(body.get("secrets") or ()))),
    ("", "services"): (_columns("Type,Cluster-IP,External-IP,Port(s),Age,*Selector"), service_row),
    ("", "persistentvolumeclaims"): (
        _columns("Status,Volume,Capacity,Access Modes,StorageClass,Age,*VolumeMode"),
        claim_row,
    ),
    ("", "nodes"): (
        _columns("Status,Roles,Age,Version,*Internal-IP,*OS-Image,*Kernel-Version,*Container-Runtime"),
        node_row,
    ),
    ("", "events"): (EVENT_COLUMNS, event_row),
    ("events.k8s.io", "events"): (EVENT_COLUMNS, event_row),
    ("apps", "deployments"): (
        _columns("Ready,Up-to-date,Available,Age,*Containers,*Images,*Selector"),
        deployment_row,
    ),
    ("apps", "replicasets"): (_columns("Desired,Current,Ready,Age,*Containers,*Images,*Selector"), replica_set_row),
    ("apps", "statefulsets"): (_columns("Ready,Age,*Containers,*Images"), stateful_set_row),
    ("apps", "daemonsets"): (_columns("Desired,Current,Ready,Up-to-date,Available,Age"), daemon_set_row),
    ("batch", "jobs"): (_columns("Status,Completions,Duration,Age,*Containers,*Images,*Selector"), job_row),
    ("batch", "cronjobs"): (_columns("Schedule,Timezone,Suspend,Active,Last Schedule,Age"), cron_job_row),
    ("coordination.k8s.io", "leases"): (_columns("Holder,Age"), lease_row),
    ("discovery.k8s.io", "endpointslices"): (_columns("AddressType,Ports,Endpoints,Age"), slice_row),
    ("policy", "poddisruptionbudgets"): (
        _columns("Min Available,Max Unavailable,Allowed Disruptions,Age"),
        budget_row,
    ),
    ("rbac.authorization.k8s.io", "rolebindings"): (_columns("Role,Age"), binding_row),
    ("rbac.authorization.k8s.io", "clusterrolebindings"): (_columns("Role,Age"), binding_row),
}
