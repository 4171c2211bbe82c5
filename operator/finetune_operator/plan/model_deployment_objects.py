"""The Deployment and the Service of a ModelDeployment."""

from typing import Any

from finetune_api.model_deployment import ModelDeploymentSpec
from finetune_api.names import (
    ANNOTATION_DESIRED_HASH,
    API_VERSION,
    LABEL_COMPONENT,
    LABEL_DEPLOYMENT,
    LABEL_MANAGED_BY,
    LABEL_MODEL,
    LABEL_VERSION,
    MANAGER,
    PVC_MOUNT,
    SCRATCH_MOUNT,
)
from finetune_operator.plan.attempt import desired_hash
from finetune_operator.plan.model_deployment_rollout import ANNOTATION_VERSION
from finetune_operator.plan.model_deployment_versions import ANNOTATION_RECORDS
from finetune_operator.plan.names import claim_volume, short_name
from finetune_operator.plan.pod_security import container_security_context, pod_security_context
from finetune_operator.plan.strategic_merge import strategic_merge
from finetune_operator.serving.builtin import PORT_NAME, BuiltinServer
from finetune_operator.serving.served_model import ServedModel, Server

Object = dict[str, Any]


def selector_labels(name: str) -> dict[str, str]:
    """What selects the pods of a ModelDeployment, whatever version they serve."""
    return {LABEL_COMPONENT: "server", LABEL_DEPLOYMENT: short_name(name)}


def selector(name: str) -> str:
    """The same as a label selector in text form, for the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(name).items()))


def serving_objects(
    owner: Object, spec: ModelDeploymentSpec, model: ServedModel, default_image: str, records: str
) -> list[Object]:
    """The Service and the Deployment that serve `model`. Raises MergeError for a podTemplate that does not fit."""
    return [_service(owner), _deployment(owner, spec, model, default_image, records)]


def _metadata(owner: Object) -> Object:
    metadata = owner["metadata"]
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "labels": selector_labels(metadata["name"]) | {LABEL_MANAGED_BY: MANAGER},
        "annotations": {},
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "ModelDeployment",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def _service(owner: Object) -> Object:
    spec = {
        "type": "ClusterIP",
        "selector": selector_labels(owner["metadata"]["name"]),
        "ports": [{"name": PORT_NAME, "port": 80, "targetPort": PORT_NAME, "protocol": "TCP"}],
    }
    return _hashed({"apiVersion": "v1", "kind": "Service", "metadata": _metadata(owner), "spec": spec})


def _deployment(
    owner: Object, spec: ModelDeploymentSpec, model: ServedModel, default_image: str, records: str
) -> Object:
    name = owner["metadata"]["name"]
    metadata = _metadata(owner)
    metadata["annotations"] = {ANNOTATION_VERSION: model.version, ANNOTATION_RECORDS: records}
    content = {
        "replicas": spec.replicas,
        "selector": {"matchLabels": selector_labels(name)},
        # Never below the ready count: a new pod is ready before an old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": spec.progress_deadline_seconds,
        "revisionHistoryLimit": 3,
        "template": pod_template(name, spec, model, spec.image or default_image, BuiltinServer()),
    }
    return _hashed({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": content})


def _hashed(item: Object) -> Object:
    item["metadata"]["annotations"][ANNOTATION_DESIRED_HASH] = desired_hash(item)
    return item


def pod_template(name: str, spec: ModelDeploymentSpec, model: ServedModel, image: str, server: Server) -> Object:
    """Generated, then the user's template merged over it. Identity is not negotiable."""
    merged = strategic_merge(_generated(name, spec, model, image, server), spec.pod_template or {})
    labels = selector_labels(name) | {
        LABEL_MODEL: model.model_name,
        LABEL_VERSION: short_name(model.version),
        LABEL_MANAGED_BY: MANAGER,
    }
    template = strategic_merge(
        merged, {"metadata": {"labels": labels, "annotations": {ANNOTATION_VERSION: model.version}}}
    )
    return _hashed(template)


def _generated(name: str, spec: ModelDeploymentSpec, model: ServedModel, image: str, server: Server) -> Object:
    return {
        "metadata": {},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": server.grace_seconds,
            "securityContext": pod_security_context(),
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector_labels(name)},
                    # Spread each version by itself, or the pods that go push the new ones together.
                    "matchLabelKeys": ["pod-template-hash"],
                }
            ],
            "containers": [_container(spec, model, image, server)],
            "volumes": _volumes(model),
        },
    }


def _container(spec: ModelDeploymentSpec, model: ServedModel, image: str, server: Server) -> Object:
    container: Object = {
        "name": server.container_name,
        "image": image,
        "command": server.command(model),
        "env": _environment(spec),
        "ports": [{"name": PORT_NAME, "containerPort": server.port, "protocol": "TCP"}],
        "volumeMounts": _volume_mounts(model),
        "securityContext": container_security_context(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **server.probes(),
    }
    if spec.resources:
        container["resources"] = spec.resources.wire()
    if model.credentials:
        container["envFrom"] = [{"secretRef": {"name": secret}} for secret in model.credentials]
    return container


def _environment(spec: ModelDeploymentSpec) -> list[Object]:
    """Everything that libraries like to write goes to the scratch volume: the root is read-only."""
    values = {
        "HOME": SCRATCH_MOUNT,
        "TMPDIR": "/tmp",
        "HF_HOME": f"{SCRATCH_MOUNT}/huggingface",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if threads := _cpu_limit(spec):
        # PyTorch counts the node's cores, not the container's share of them.
        values["OMP_NUM_THREADS"] = str(threads)
    return [{"name": name, "value": value} for name, value in values.items()]


def _cpu_limit(spec: ModelDeploymentSpec) -> int | None:
    limits = (spec.resources.limits if spec.resources else None) or {}
    text = str(limits.get("cpu", ""))
    try:
        cores = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        return None
    return max(1, int(cores))


def _volumes(model: ServedModel) -> list[Object]:
    volumes: list[Object] = [{"name": "scratch", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    for claim in model.claims:
        source = {"claimName": claim, "readOnly": True}
        volumes.append({"name": claim_volume(claim), "persistentVolumeClaim": source})
    return volumes


def _volume_mounts(model: ServedModel) -> list[Object]:
    mounts: list[Object] = [
        {"name": "scratch", "mountPath": SCRATCH_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    for claim in model.claims:
        mounts.append({"name": claim_volume(claim), "mountPath": f"{PVC_MOUNT}/{claim}", "readOnly": True})
    return mounts
