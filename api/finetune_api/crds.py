"""CustomResourceDefinitions, generated from the models.

The schemas are structural (no `$ref`, no `anyOf`), as `apiextensions.k8s.io/v1` demands: see
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from dataclasses import dataclass, field
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from finetune_api.base import Resource, Schema
from finetune_api.fine_tune_job import FineTuneJob
from finetune_api.model_deployment import ModelDeployment
from finetune_api.model_version import ModelVersion
from finetune_api.names import GROUP, VERSION
from finetune_api.training_runtime import ClusterTrainingRuntime, TrainingRuntime

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; priority 1 shows with `-o wide` only."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0

    def wire(self) -> JsonObject:
        body: JsonObject = {"name": self.name, "type": self.type, "jsonPath": self.json_path}
        return body | ({"priority": self.priority} if self.priority else {})


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True)
class CustomResource:
    """What a kind's CRD says beyond its schema."""

    model: type[Resource]
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    namespaced: bool = True
    scale: JsonObject | None = field(default=None)

    @property
    def kind(self) -> str:
        return self.model.__name__


CUSTOM_RESOURCES = (
    CustomResource(
        FineTuneJob,
        "finetunejobs",
        "ftj",
        (
            Column("State", ".status.phase"),
            Column("Step", ".status.progress.text"),
            Column("Progress", ".status.progress.percentText"),
            Column("Loss", ".status.progress.loss", "number"),
            Column("Attempt", ".status.attempt", "integer"),
            Column("Version", ".status.modelVersion", priority=1),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
            AGE,
        ),
    ),
    CustomResource(TrainingRuntime, "trainingruntimes", "tr", (Column("Image", ".spec.trainerImage"), AGE)),
    CustomResource(
        ClusterTrainingRuntime,
        "clustertrainingruntimes",
        "ctr",
        (Column("Image", ".spec.trainerImage"), AGE),
        namespaced=False,
    ),
    CustomResource(
        ModelVersion,
        "modelversions",
        "mv",
        (
            Column("Model", ".spec.modelName"),
            Column("Task", ".spec.task"),
            Column("Format", ".spec.format"),
            Column("Approved", ".status.approved", "boolean"),
            Column("Artifact", ".spec.artifact.uri", priority=1),
            AGE,
        ),
    ),
    CustomResource(
        ModelDeployment,
        "modeldeployments",
        "mdep",
        (
            Column("Stable", ".status.stable"),
            Column("Candidate", ".status.candidate"),
            Column("Available", ".status.available"),
            Column("URL", ".status.url", priority=1),
            Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
            AGE,
        ),
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
)


def custom_resource_definitions() -> list[JsonObject]:
    """One CustomResourceDefinition a kind, in the order in which to apply them."""
    return [_definition(resource) for resource in CUSTOM_RESOURCES]


def _definition(resource: CustomResource) -> JsonObject:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["finetune"],
            },
            "versions": [_version(resource)],
        },
    }


def _version(resource: CustomResource) -> JsonObject:
    has_status = "status" in resource.model.model_fields
    subresources: JsonObject = {"status": {}} if has_status else {}
    if resource.scale:
        subresources["scale"] = resource.scale
    version: JsonObject = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.wire() for column in resource.columns],
        "schema": {"openAPIV3Schema": structural_schema(resource.model)},
    }
    return version | ({"subresources": subresources} if subresources else {})


def structural_schema(model: type[Resource]) -> JsonObject:
    """The OpenAPI v3 schema of a kind as a CRD may hold it."""
    generated = model.model_json_schema(by_alias=True, schema_generator=_SchemaGenerator)
    definitions = generated.get("$defs", {})
    schema = _structural(generated, definitions)
    schema["properties"] |= {
        "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
        "kind": {"type": "string", "description": "Kind of this object."},
        "metadata": {"type": "object"},
    }
    schema["required"] = ["spec"]
    return schema


class _SchemaGenerator(GenerateJsonSchema):
    """Nested objects default to `{}`, so that the API server fills in their fields' defaults."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        result = super().default_schema(schema)
        factory = schema.get("default_factory")
        if isinstance(factory, type) and issubclass(factory, Schema):
            return {**result, "default": {}}
        return result


DROPPED = ("title", "$defs", "const", "anyOf", "$ref", "exclusiveMinimum", "exclusiveMaximum")


def _structural(node: JsonObject, definitions: JsonObject) -> JsonObject:
    """`node` with references inlined and JSON Schema's dialect turned into Kubernetes'."""
    node = _inlined(node, definitions)
    schema = {key: value for key, value in node.items() if key not in DROPPED}
    if "const" in node:
        schema |= {"type": "string", "enum": [node["const"]]}
    if schema.get("default", ...) is None:
        del schema["default"]
    if schema.pop("additionalProperties", None) is not False and "additionalProperties" in node:
        schema["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    for bound, inclusive in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in node:
            schema |= {inclusive: node[bound], bound: True}
    if "properties" in node:
        schema["properties"] = {name: _structural(part, definitions) for name, part in node["properties"].items()}
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    return schema


def _inlined(node: JsonObject, definitions: JsonObject) -> JsonObject:
    """Follows `$ref` and `anyOf [X, null]` down to one schema; the outer description and default win."""
    outer = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return _inlined(definitions[node["$ref"].rsplit("/", 1)[1]], definitions) | outer
    if "anyOf" in node:
        (inner,) = (option for option in node["anyOf"] if option.get("type") != "null")
        return _inlined(inner, definitions) | outer
    return node
