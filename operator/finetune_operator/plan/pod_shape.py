"""Whether pod templates leave a pod that the operator can finish: what is added to it must find its place."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from finetune_api.errors import field_errors
from finetune_operator.plan.pod_security import container_security_context, pod_security_context
from finetune_operator.plan.strategic_merge import MergeError, strategic_merge

CONTAINER = "trainer"
LISTS = ("command", "env", "ports", "volumeMounts")
VALUES = ("image", "terminationMessagePolicy")
POD_VALUES = ("restartPolicy", "serviceAccountName", "automountServiceAccountToken", "enableServiceLinks")
"""What has one value each, in a container and in a pod: no object can be merged over it."""


MOST_ENTRIES = 1000
"""Of a list in a pod: of longer ones only that is told, and not what is wrong with each entry."""
Entry = TypeVar("Entry")
Entries = Annotated[list[Entry], Field(max_length=MOST_ENTRIES)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Metadata(_Part):
    labels: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    annotations: dict[StrictStr, StrictStr] = Field(default_factory=dict)


class _Named(_Part):
    name: StrictStr


class _Variable(_Named):
    value_from: dict[str, Any] = Field(alias="valueFrom", default_factory=dict)


class _Mount(_Named):
    mount_path: StrictStr = Field(alias="mountPath")


class _Resources(_Part):
    limits: dict[str, Any] = Field(default_factory=dict)
    requests: dict[str, Any] = Field(default_factory=dict)


class _AnyContainer(_Named):
    env: Entries[_Variable] = Field(default_factory=list)
    volume_mounts: Entries[_Mount] = Field(alias="volumeMounts", default_factory=list)
    resources: _Resources = Field(default_factory=_Resources)


class _Container(_Named):
    """The operator's own, from which nothing may be taken."""

    env: Entries[Any]
    ports: Entries[dict[str, Any]] = Field(default_factory=list)


class _Projected(_Part):
    sources: Entries[dict[str, Any]] = Field(default_factory=list)


class _Volume(_Named):
    projected: _Projected = Field(default_factory=_Projected)
    csi: dict[str, Any] = Field(default_factory=dict)


class _Spec(_Part):
    containers: Entries[_AnyContainer]
    init_containers: Entries[_AnyContainer] = Field(alias="initContainers", default_factory=list)
    volumes: Entries[_Volume]
    tolerations: Entries[dict[str, Any]] = Field(default_factory=list)
    node_selector: dict[StrictStr, StrictStr] = Field(alias="nodeSelector", default_factory=dict)
    priority_class_name: StrictStr | None = Field(alias="priorityClassName", default=None)
    grace: StrictInt | None = Field(alias="terminationGracePeriodSeconds", default=None, ge=0)


class _Template(_Part):
    metadata: _Metadata
    spec: _Spec


def generated(container: str) -> dict[str, Any]:
    """The lists and maps of a pod before anything is merged over them."""
    parts: dict[str, Any] = dict.fromkeys(("name", *VALUES), container)
    parts |= {name: [] for name in LISTS} | {"securityContext": container_security_context()}
    spec = dict.fromkeys(POD_VALUES, "") | {"securityContext": pod_security_context()}
    return {"metadata": {}, "spec": spec | {"volumes": [], "containers": [parts]}}


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
