"""Writes schemas.json: the OpenAPI definitions of the built-in kinds, taken from the official Python client's models.

The client is generated from the OpenAPI document of the Kubernetes release, so its models carry every field, type and
description. What they lack (merge keys, defaults, enums) is added from annotations.py when the schemas are loaded.
The texts are those of the Kubernetes authors, under the Apache License 2.0.
Run `python -m finetune_local.apiserver.builtin.generate_schemas` after an upgrade of the `kubernetes` package.
"""

import importlib
import pathlib
import re
from typing import Any

import orjson

SCHEMAS = pathlib.Path(__file__).with_name("schemas.json")

ROOTS = [
    "V1Namespace",
    "V1Pod",
    "V1PodTemplate",
    "V1Service",
    "V1ConfigMap",
    "V1Secret",
    "V1ServiceAccount",
    "V1Endpoints",
    "V1PersistentVolumeClaim",
    "V1PersistentVolume",
    "V1Node",
    "V1LimitRange",
    "V1ResourceQuota",
    "V1ReplicationController",
    "CoreV1Event",
    "V1Binding",
    "V1Lease",
    "V1Job",
    "V1CronJob",
    "V1Deployment",
    "V1ReplicaSet",
    "V1StatefulSet",
    "V1DaemonSet",
    "V1ControllerRevision",
    "EventsV1Event",
    "V1EndpointSlice",
    "V1Ingress",
    "V1IngressClass",
    "V1NetworkPolicy",
    "V1PodDisruptionBudget",
    "V1Eviction",
    "V1Role",
    "V1RoleBinding",
    "V1ClusterRole",
    "V1ClusterRoleBinding",
    "V1PriorityClass",
    "V1StorageClass",
    "V1CustomResourceDefinition",
    "V1ValidatingWebhookConfiguration",
    "V1MutatingWebhookConfiguration",
    "V1TokenReview",
    "AuthenticationV1TokenRequest",
    "V1SelfSubjectAccessReview",
    "V1SubjectAccessReview",
    "V1LocalSubjectAccessReview",
    "V1SelfSubjectRulesReview",
    "V1SelfSubjectReview",
    "V1Scale",
    "V2HorizontalPodAutoscaler",
    "V1RuntimeClass",
    "V1DeleteOptions",
    "V1Status",
]


def module_name(model: str) -> str:
    """The client's file of a model: V1HTTPGetAction lives in v1_http_get_action."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", model))
    return words.lower()


def convert(schema: dict[str, Any]) -> dict[str, Any]:
    """One pydantic JSON schema as the OpenAPI v2 schema that it was generated from."""
    described = {"description": schema["description"]} if schema.get("description") else {}
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    if {"type": "integer"} in choices and {"type": "string"} in choices:
        return described | {"x-kubernetes-int-or-string": True}
    if choices:
        return convert(choices[0]) | described
    if "$ref" in schema:
        return described | {"$ref": schema["$ref"].replace("#/$defs/", "#/definitions/")}
    return described | _typed(schema)


def _typed(schema: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: schema[key] for key in ("type", "format") if key in schema}
    if "items" in schema:
        kept["items"] = convert(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = convert(schema["additionalProperties"])
    if "properties" in schema:
        kept["properties"] = {name: convert(value) for name, value in sorted(schema["properties"].items())}
    if schema.get("required"):
        kept["required"] = sorted(schema["required"])
    return kept


def definition(schema: dict[str, Any]) -> dict[str, Any]:
    converted = convert(schema)
    text = str(converted.get("description", "")).split("\n\nAttributes:")[0].strip()
    return converted | {"description": text}


def definitions() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in ROOTS:
        module = importlib.import_module(f"kubernetes.client.models.{module_name(model)}")
        schema = getattr(module, model).model_json_schema(by_alias=True)
        for name, nested in schema.pop("$defs", {}).items():
            found.setdefault(name, definition(nested))
        found[model] = definition(schema)
    return dict(sorted(found.items()))


def main() -> None:
    SCHEMAS.write_bytes(orjson.dumps(definitions(), option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
