"""The Secrets without which the pods of a version that is about to be rolled out would not start."""

from typing import Any

from finetune_api.model_deployment import ModelDeploymentSpec
from finetune_operator.plan.model_deployment_versions import VersionRecord
from finetune_operator.plan.secret_references import Reference, secrets_of_pod

Object = dict[str, Any]


def serving_secrets(spec: ModelDeploymentSpec, version: VersionRecord, template: Object) -> list[Reference]:
    """Each Secret that the pod template needs once, with the field that asks for it."""
    fields: dict[str, str] = {}
    if spec.credentials:
        fields[spec.credentials.secret_name] = "spec.credentials.secretName"
    if version.spec.credentials:
        fields.setdefault(version.spec.credentials.secret_name, f"spec.credentials of ModelVersion {version.name!r}")
    for path, name in secrets_of_pod((spec.pod_template or {}).get("spec")):
        fields.setdefault(name, f"spec.podTemplate.spec{path}")
    needed = dict.fromkeys(name for _, name in secrets_of_pod(template["spec"]))
    return [(fields.get(name, "spec.podTemplate"), name) for name in needed]
