"""Parts of pods that users may set, passed on to Kubernetes as they are."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from finetune_api.base import Schema

PodTemplate = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
"""A PodTemplateSpec, merged over the generated one by strategic merge."""

QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
"""As Kubernetes writes it for CRDs, without a minus: nothing here can be less than none."""


def _quantities(amounts: dict[str, str | int | float]) -> dict[str, str | int | float]:
    for name, amount in amounts.items():
        if not re.search(QUANTITY, str(amount)):
            raise ValueError(f"{name}: {amount!r} is not a quantity; write a number such as 2, 500m or 16Gi")
    return amounts


Quantities = Annotated[
    dict[str, str | int | float],
    AfterValidator(_quantities),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 32,
            "additionalProperties": {"x-kubernetes-int-or-string": True, "maxLength": 64, "pattern": QUANTITY},
        }
    ),
]
"""Amounts by resource."""


class Resources(Schema):
    """Requests and limits of one pod, as in a container."""

    requests: Quantities | None = None
    """What the scheduler reserves."""
    limits: Quantities | None = None
    """What the pod may use at most, GPUs among it."""


class Credentials(Schema):
    """A Secret whose keys become environment variables: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, HF_TOKEN …"""

    secret_name: str = Field(min_length=1, max_length=253)
    """Name of a Secret of this namespace."""
