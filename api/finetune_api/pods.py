"""Parts of pods that users may set, passed on to Kubernetes as they are."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from finetune_api.base import Schema

PodTemplate = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""A PodTemplateSpec, merged over the generated one by strategic merge."""

Quantities = Annotated[
    dict[str, str | int | float],
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 32,
            "additionalProperties": {"x-kubernetes-int-or-string": True, "maxLength": 64},
        }
    ),
]


class Resources(Schema):
    """Requests and limits of one pod, as in a container."""

    requests: Quantities | None = None
    """What the scheduler reserves."""
    limits: Quantities | None = None
    """What the pod may use at most, GPUs among it."""


class Credentials(Schema):
    """A Secret whose keys become environment variables: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, HF_TOKEN …"""

    secret_name: str = Field(max_length=253)
    """Name of a Secret of this namespace."""
