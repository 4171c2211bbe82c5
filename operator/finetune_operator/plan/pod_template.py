"""The pod of a training gang."""

from typing import Any

from finetune_api.names import (
    CONFIG_FILE,
    CONFIG_MOUNT,
    ENV_MEMORY_LIMIT,
    ENV_PROGRESS_CA_FILE,
    ENV_PROGRESS_TOKEN_FILE,
    ENV_PROGRESS_URL,
    ENV_STOP_GRACE,
    ENV_TERMINATION_BYTES,
    LABEL_ATTEMPT,
    LABEL_COMPONENT,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_NETWORK,
    MANAGER,
    METRICS_PORT,
    SCRATCH_MOUNT,
    TOKEN_FILE,
    TRAINER_SERVICE_ACCOUNT,
)
from finetune_api.reports import MAX_POD_TERMINATION_BYTES, MAX_TERMINATION_BYTES
from finetune_operator.engines.gang import Gang
from finetune_operator.engines.registry import ENGINES
from finetune_operator.plan.names import ANNOTATION_JOB, short_name
from finetune_operator.plan.network_policy import network_label
from finetune_operator.plan.pod_security import container_security_context, pod_security_context
from finetune_operator.plan.pod_shape import CONTAINER
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.secret_sources import declared_secrets
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.strategic_merge import strategic_merge
from finetune_operator.plan.tolerations import with_node_tolerations
from finetune_operator.plan.volumes import CA_KEY, pod_volumes, volume_mounts
from finetune_operator.schedulers.registry import SCHEDULERS
from finetune_operator.schedulers.scheduler import GangRequest

GRACE_SECONDS = 120
"""Time to agree on a step, save and verify a checkpoint."""
REPORT_SECONDS = 10
"""Left after the workers' grace to end what still runs, and to say how it ended."""
INJECTED_CONTAINERS = 2
"""Room for what webhooks add to a pod later, as meshes do: an init container and a proxy."""
Env = list[dict[str, Any]]
IDENTITY: Env = [
    {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    for name, path in (
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_IP", "status.podIP"),
    )
]
MEMORY: Env = [{"name": ENV_MEMORY_LIMIT, "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}}]
PATHS: Env = [
    {"name": name, "value": value}
    for name, value in (
        ("HOME", SCRATCH_MOUNT),
        ("TMPDIR", "/tmp"),
        ("XDG_CACHE_HOME", f"{SCRATCH_MOUNT}/cache"),
        ("HF_HOME", f"{SCRATCH_MOUNT}/huggingface"),
        ("TORCHINDUCTOR_CACHE_DIR", f"{SCRATCH_MOUNT}/torchinductor"),
        ("TRITON_CACHE_DIR", f"{SCRATCH_MOUNT}/triton"),
        ("PYTHONUNBUFFERED", "1"),
    )
]
"""Everything that libraries like to write goes to the scratch volume: the root is read-only."""


def attempt_labels(job: str, number: int) -> dict[str, str]:
    """Labels of everything that belongs to one attempt."""
    return {
        LABEL_JOB: short_name(job),
        LABEL_ATTEMPT: str(number),
        LABEL_COMPONENT: "trainer",
        LABEL_MANAGED_BY: MANAGER,
    }


def gang_request(job: ResolvedJob) -> GangRequest:
    """The gang as schedulers see it; the group has the job's name, whatever the attempt."""
    priorities = [(template.get("spec") or {}).get("priorityClassName") for template in job.pod_templates]
    priority = next((one for one in reversed(priorities) if one), None)
    return GangRequest(short_name(job.name), job.spec.distributed.nodes, job.queue, priority, job.served)


def pod_template(job: ResolvedJob, gang: Gang, number: int, settings: Settings) -> dict[str, Any]:
    """Generated, then the runtime's template merged over it, then the job's. Identity is not negotiable."""
    merged = _generated(job, gang, settings)
    labels = attempt_labels(job.name, number) | {LABEL_NETWORK: network_label(job, settings)}
    placed = SCHEDULERS[job.scheduler].pod_metadata(gang_request(job))
    for template in job.pod_templates:
        merged = strategic_merge(merged, template)
    _set_stop_grace(merged)
    _declare_secrets(merged["spec"])
    _share_termination_message(merged["spec"])
    merged["spec"]["tolerations"] = with_node_tolerations(merged["spec"].get("tolerations") or [])
    return strategic_merge(
        merged,
        {
            "metadata": {
                "labels": labels | placed.get("labels", {}),
                "annotations": {ANNOTATION_JOB: job.name} | placed.get("annotations", {}),
            },
            # A pod that restarts by itself would meet a gang that has moved on.
            "spec": {"restartPolicy": "Never"} | _named(gang),
        },
    )


def _named(gang: Gang) -> dict[str, Any]:
    """The headless Service by which the pods find each other."""
    return {} if gang.alone else {"subdomain": gang.name}


def _set_stop_grace(template: dict[str, Any]) -> None:
    """Lets the workers' grace follow the pod's, unless a template sets it."""
    container = _trainer(template["spec"])
    if any(variable["name"] == ENV_STOP_GRACE for variable in container["env"]):
        return
    grace = template["spec"].get("terminationGracePeriodSeconds") or GRACE_SECONDS
    container["env"] = [*container["env"], {"name": ENV_STOP_GRACE, "value": f"{stop_grace(grace):g}"}]


def _trainer(pod: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in pod["containers"] if one["name"] == CONTAINER)


def _declare_secrets(pod: dict[str, Any]) -> None:
    container = _trainer(pod)
    container["env"] = [*container["env"], *declared_secrets(container, pod.get("volumes") or [])]


def _share_termination_message(pod: dict[str, Any]) -> None:
    """Tells the trainer how much of its last words the kubelet keeps beside those of the other containers.

    A result that is cut is no result, and the trainer knows what it can leave out.
    """
    containers = len(pod["containers"]) + len(pod.get("initContainers") or ()) + INJECTED_CONTAINERS
    share = MAX_POD_TERMINATION_BYTES // containers
    if share < MAX_TERMINATION_BYTES:
        container = _trainer(pod)
        container["env"] = [*container["env"], {"name": ENV_TERMINATION_BYTES, "value": str(share)}]


def stop_grace(pod_grace: float) -> float:
    """Seconds for saving a checkpoint, of the pod's seconds; of a short grace half."""
    return max(pod_grace - REPORT_SECONDS, pod_grace / 2)


def _generated(job: ResolvedJob, gang: Gang, settings: Settings) -> dict[str, Any]:
    progress = settings.progress_url is not None
    return {
        "metadata": {},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": TRAINER_SERVICE_ACCOUNT,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": pod_security_context(),
            "containers": [_container(job, gang, settings)],
            "volumes": pod_volumes(
                job, gang.name, progress=progress, with_ca=progress and settings.progress_ca is not None
            ),
            **SCHEDULERS[job.scheduler].pod_fields(gang_request(job)),
        },
    }


def _container(job: ResolvedJob, gang: Gang, settings: Settings) -> dict[str, Any]:
    engine = ENGINES[job.spec.distributed.engine]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": job.trainer_image,
        "command": ["finetune-trainer", "--config", CONFIG_FILE],
        "env": [*engine.environment(gang), *IDENTITY, *MEMORY, *PATHS, *_progress(job, settings)],
        "ports": [
            *engine.ports(gang),
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "volumeMounts": volume_mounts(job, progress=settings.progress_url is not None),
        "securityContext": container_security_context(),
        # Without a message of its own, a crash still leaves its last lines in the pod's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if job.resources:
        container["resources"] = job.resources.wire()
    if job.credentials:
        container["envFrom"] = [{"secretRef": {"name": job.credentials.secret_name}}]
    return container


def _progress(job: ResolvedJob, settings: Settings) -> Env:
    if settings.progress_url is None:
        return []
    url = f"{settings.progress_url.rstrip('/')}/v1/jobs/{job.namespace}/{job.name}/progress"
    env = [
        {"name": ENV_PROGRESS_URL, "value": url},
        {"name": ENV_PROGRESS_TOKEN_FILE, "value": TOKEN_FILE},
    ]
    if settings.progress_ca is not None:
        env.append({"name": ENV_PROGRESS_CA_FILE, "value": f"{CONFIG_MOUNT}/{CA_KEY}"})
    return env
