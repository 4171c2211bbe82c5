"""The Secrets without which the kubelet does not start the pods of a job: of its credentials and of pod templates.

Not those of `imagePullSecrets`, which the kubelet does without, nor what is `optional`.
"""

from collections.abc import Iterator
from typing import Any

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.training_runtime import TrainingRuntimeSpec
from finetune_operator.plan.pod_shape import CONTAINER, generated
from finetune_operator.plan.strategic_merge import strategic_merge

Resource = dict[str, Any]
Reference = tuple[str, str]
"""Field, and name of the Secret."""


def not_found_words(name: str, namespace: str) -> str:
    """What to say of one that is not there."""
    return f"there is no Secret {name!r} in namespace {namespace}; create it, or correct the name"


def named_secrets(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[Reference]:
    """Of a valid job and its runtime: each Secret that the pods need once, with the field that says so first.

    A template may take away what another one, or the credentials, ask for: what counts is the pod that comes of them.
    """
    pod = generated(CONTAINER)
    fields: dict[str, str] = {}
    own, inherited = job.credentials, runtime.credentials if runtime else None
    if credentials := own or inherited:
        name = credentials.secret_name
        container = {"name": CONTAINER, "envFrom": [{"secretRef": {"name": name}}]}
        pod = strategic_merge(pod, {"spec": {"containers": [container]}})
        fields[name] = f"{'' if own else 'runtime.'}spec.credentials.secretName"
    templates = {"runtime.spec": runtime.pod_template if runtime else None, "spec": job.pod_template}
    for root, template in templates.items():
        pod = strategic_merge(pod, template or {})
        for path, name in secrets_of_pod((template or {}).get("spec")):
            fields.setdefault(name, f"{root}.podTemplate.spec{path}")
    needed = dict.fromkeys(name for _, name in secrets_of_pod(pod["spec"]))
    return [(fields.get(name, "spec.podTemplate"), name) for name in needed]


def secrets_of_pod(spec: Any) -> Iterator[Reference]:
    """Field below the pod's spec, and name. Whatever has not the shape of a pod names nothing."""
    pod = _object(spec)
    for field in ("initContainers", "containers"):
        for container in _objects(pod.get(field)):
            where = f".{field}[{container.get('name')}]"
            yield from _of_container(container, where)
    for volume in _objects(pod.get("volumes")):
        where = f".volumes[{volume.get('name')}]"
        yield from _named(volume.get("secret"), f"{where}.secret.secretName", "secretName")
        for source in _objects(_object(volume.get("projected")).get("sources")):
            yield from _named(source.get("secret"), f"{where}.projected")


def _of_container(container: Resource, where: str) -> Iterator[Reference]:
    for source in _objects(container.get("envFrom")):
        yield from _named(source.get("secretRef"), f"{where}.envFrom")
    for variable in _objects(container.get("env")):
        key = _object(variable.get("valueFrom")).get("secretKeyRef")
        yield from _named(key, f"{where}.env[{variable.get('name')}]")


def _named(reference: Any, path: str, key: str = "name") -> Iterator[Reference]:
    found = _object(reference)
    name = found.get(key)
    if isinstance(name, str) and name and found.get("optional") is not True:
        yield path, name


def _object(value: Any) -> Resource:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Iterator[Resource]:
    return (one for one in (value if isinstance(value, list) else ()) if isinstance(one, dict))
