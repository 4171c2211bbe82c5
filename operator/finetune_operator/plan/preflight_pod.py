"""A pod that only looks, while its gang waits for its place: pod 0's preflight, without GPUs, where there is room.

It reads what the gang will read, as the same user, with the same credentials, under the same NetworkPolicy, and says
what it found in its last words. Nothing depends on it: pod 0 looks again when the gang runs.
"""

from typing import Any

from finetune_api.names import (
    CONFIG_FILE,
    ENV_MEMORY_LIMIT,
    ENV_PROGRESS_CA_FILE,
    ENV_PROGRESS_TOKEN_FILE,
    ENV_PROGRESS_URL,
    LABEL_ATTEMPT,
    LABEL_JOB,
)
from finetune_operator.kube.quantities import is_quantity, parse_quantity
from finetune_operator.plan.attempt import gang_of, owned_metadata, recorded_network
from finetune_operator.plan.names import claim_volume, preflight_name
from finetune_operator.plan.pod_shape import CONTAINER
from finetune_operator.plan.pod_template import gang_request, pod_template
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.volumes import TOKEN_VOLUME, claims, claims_read
from finetune_operator.schedulers.registry import SCHEDULERS

Resource = dict[str, Any]
DEADLINE_SECONDS, KEPT_SECONDS = 300, 600
"""Until it is given up, an image to pull included; until it is removed, once it has ended."""
RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
ORDINARY = ("cpu", "memory", "ephemeral-storage")
"""Resources that every node has."""
PLACEMENT = (
    "subdomain",
    "schedulerName",
    "schedulingGroup",
    "affinity",
    "topologySpreadConstraints",
    "priorityClassName",
    "runtimeClassName",
    "resourceClaims",
    "resources",
)
"""What would tie the pod to its gang, or to nodes that it must not occupy."""
PLATFORM = ("kubernetes.io/os", "kubernetes.io/arch")
"""Of a node selector: what the image needs."""
REPORTING = (ENV_PROGRESS_URL, ENV_PROGRESS_TOKEN_FILE, ENV_PROGRESS_CA_FILE)


def preflight_job(job: ResolvedJob, number: int, settings: Settings) -> Resource:
    """A Job with one pod, which is none of the gang's: it has their labels, but for the attempt's number."""
    template = pod_template(job, gang_of(job, number), number, settings)
    gathered = SCHEDULERS[job.scheduler].pod_metadata(gang_request(job))
    metadata = owned_metadata(job, number)
    annotations = metadata["annotations"] | recorded_network(job, settings)
    own = {"name": preflight_name(job.name), "labels": {LABEL_JOB: metadata["labels"][LABEL_JOB]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata | own | {"annotations": annotations},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {
                "metadata": {
                    "labels": _without(template["metadata"]["labels"], LABEL_ATTEMPT, *gathered.get("labels", ())),
                    "annotations": _without(template["metadata"]["annotations"], *gathered.get("annotations", ())),
                },
                "spec": _pod(job, template["spec"]),
            },
        },
    }


def _without(items: Resource, *names: str) -> Resource:
    return {name: value for name, value in items.items() if name not in names}


def _pod(job: ResolvedJob, full: Resource) -> Resource:
    read = {claim_volume(claim) for claim in claims_read(job)}
    written = {claim_volume(claim) for claim in claims(job)} - read
    volumes = [one for one in full["volumes"] if one["name"] not in (TOKEN_VOLUME, *written)]
    kept = {one["name"]: one["name"] in read for one in volumes}
    trainer = next(one for one in full["containers"] if one["name"] == CONTAINER)
    selector = {name: value for name, value in (full.get("nodeSelector") or {}).items() if name in PLATFORM}
    return _without(full, *PLACEMENT) | {
        "nodeSelector": selector,
        "volumes": volumes,
        "initContainers": [_lightened(one, kept) for one in full.get("initContainers") or ()],
        "containers": [_looking(trainer, kept)],
    }


def _looking(trainer: Resource, volumes: dict[str, bool]) -> Resource:
    limit = str(((trainer.get("resources") or {}).get("limits") or {}).get("memory", ""))
    env = [one for one in trainer["env"] if one["name"] not in (*REPORTING, ENV_MEMORY_LIMIT)]
    if is_quantity(limit):
        env.append({"name": ENV_MEMORY_LIMIT, "value": f"{parse_quantity(limit):.0f}"})
    return _lightened(trainer, volumes) | {
        "command": ["finetune-trainer", "--config", CONFIG_FILE, "--preflight"],
        "args": [],
        "env": env,
        "ports": [],
        "resources": RESOURCES,
    }


def _lightened(container: Resource, volumes: dict[str, bool]) -> Resource:
    """With what every node has, and these volumes: those that are True to read only."""
    mounts = [
        one | ({"readOnly": True} if volumes[one["name"]] else {})
        for one in container.get("volumeMounts") or ()
        if one["name"] in volumes
    ]
    asked = {
        kind: {name: amount for name, amount in amounts.items() if name in ORDINARY}
        for kind, amounts in (container.get("resources") or {}).items()
        if kind in ("requests", "limits")
    }
    return container | {"volumeMounts": mounts, "resources": asked}
