"""Whether pod templates leave a pod that the operator can finish: what is added to it must find its place."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from finetune_api.errors import field_errors
from finetune_operator.plan.strategic_merge import MergeError, strategic_merge

CONTAINER = "trainer"
LISTS, MAPS = ("command", "env", "ports", "volumeMounts"), ("securityContext",)


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Metadata(_Part):
    labels: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    annotations: dict[StrictStr, StrictStr] = Field(default_factory=dict)


class _Named(_Part):
    name: StrictStr


class _Container(_Named):
    env: list[_Named]
    volume_mounts: list[dict[str, Any]] = Field(alias="volumeMounts", default_factory=list)
    ports: list[dict[str, Any]] = Field(default_factory=list)


class _Spec(_Part):
    containers: list[_Named]
    init_containers: list[_Named] = Field(alias="initContainers", default_factory=list)
    volumes: list[_Named] = Field(default_factory=list)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    priority_class_name: StrictStr | None = Field(alias="priorityClassName", default=None)
    grace: StrictInt | None = Field(alias="terminationGracePeriodSeconds", default=None, ge=0)


class _Template(_Part):
    metadata: _Metadata
    spec: _Spec


def generated(container: str) -> dict[str, Any]:
    """The lists and maps of a pod before anything is merged over them."""
    parts: dict[str, Any] = {"name": container} | {name: [] for name in LISTS} | {name: {} for name in MAPS}
    return {"metadata": {}, "spec": {"securityContext": {}, "volumes": [], "containers": [parts]}}


def template_errors(templates: Mapping[str, Mapping[str, Any] | None], container: str = CONTAINER) -> Iterator[str]:
    """What is wrong with templates, by the places where they stand, when they are merged one after the other."""
    pod = generated(container)
    for root, template in templates.items():
        try:
            pod = strategic_merge(pod, dict(template or {}))
        except MergeError as error:
            yield f"{root}.{error}"
            return
        if wrong := list(_shape_errors(pod, container)):
            yield from (f"{root}.{each}" for each in wrong)
            return


def _shape_errors(pod: dict[str, Any], container: str) -> Iterator[str]:
    try:
        _Template.model_validate(pod)
    except ValidationError as error:
        yield from map(str, field_errors(error, _Template))
        return
    own = next((one for one in pod["spec"]["containers"] if one["name"] == container), None)
    if own is None:
        yield f"spec.containers: {container!r} must stay; it is the one that the operator makes, and cannot be deleted"
        return
    try:
        _Container.model_validate(own)
    except ValidationError as error:
        mend = "leave out null and $patch: replace, which take away what the operator makes"
        yield from (f"spec.containers[{container}].{each}; {mend}" for each in field_errors(error, _Container))
