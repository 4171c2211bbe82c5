"""Base classes of the resource models: camelCase on the wire, unknown fields refused."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from finetune_api.names import API_VERSION


class Schema(BaseModel):
    """A part of a resource. Python names are snake_case, the wire is camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", use_attribute_docstrings=True
    )

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, nothing that is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(expression: str, message: str) -> dict[str, str]:
    """One CEL rule of `x-kubernetes-validations`."""
    return {"rule": expression, "message": message}


def schema_with(**extensions: Any) -> ConfigDict:
    """A model configuration that adds `x-kubernetes-*` extensions to the generated CRD.

    Underscores stand for dashes: `x_kubernetes_validations=[rule(...)]`.
    """
    return ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        json_schema_extra={name.replace("_", "-"): value for name, value in extensions.items()},
    )


class Metadata(BaseModel):
    """The part of ObjectMeta that we read; the API server owns the rest."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Resource(Schema):
    """A whole custom resource; `spec` and `status` come with the kinds."""

    api_version: Literal["finetune-operator.io/v1alpha1"] = API_VERSION
    kind: str
    metadata: Metadata = Field(default_factory=Metadata)
    """Standard object metadata."""


class Condition(Schema):
    """metav1.Condition."""

    type: str
    """Name of the condition, unique in the list."""
    status: str
    """True, False or Unknown."""
    reason: str
    """Why, as one CamelCase word for programs."""
    message: str = ""
    """Why, as a sentence for people."""
    last_transition_time: str
    """When `status` last changed."""
    observed_generation: int | None = None
    """Generation of the spec that was judged."""
