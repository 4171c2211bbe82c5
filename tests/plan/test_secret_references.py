"""Which Secrets the pods of a job cannot start without, and which field says so."""

from typing import Any

import pytest

from finetune_operator.plan.secret_references import named_secrets
from finetune_operator.plan.validation import validate
from plan.builders import spec

Resource = dict[str, Any]
CREDENTIALS = {"credentials": {"secretName": "s3"}}
KEY = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}


def template(**fields: Any) -> Resource:
    return {"podTemplate": {"spec": fields}}


def trainer(**fields: Any) -> Resource:
    return template(containers=[{"name": "trainer"} | fields])


def volumes(*sources: Resource) -> Resource:
    return template(volumes=[{"name": f"v{number}"} | source for number, source in enumerate(sources)])


CASES: dict[str, tuple[Resource, Resource, list[tuple[str, str]]]] = {
    "none": ({}, {}, []),
    "credentials": (CREDENTIALS, {}, [("spec.credentials.secretName", "s3")]),
    "the runtime's": ({}, CREDENTIALS, [("runtime.spec.credentials.secretName", "s3")]),
    "the job's own instead of the runtime's": (
        {"credentials": {"secretName": "mine"}},
        CREDENTIALS,
        [("spec.credentials.secretName", "mine")],
    ),
    "a variable, as well": (
        CREDENTIALS,
        trainer(env=[KEY, {"name": "PLAIN", "value": "1"}]),
        [
            ("spec.credentials.secretName", "s3"),
            ("runtime.spec.podTemplate.spec.containers[trainer].env[KEY]", "keys"),
        ],
    ),
    "a template's envFrom takes the place of the credentials": (
        CREDENTIALS | trainer(envFrom=[{"secretRef": {"name": "other"}}, {"configMapRef": {"name": "c"}}]),
        {},
        [("spec.podTemplate.spec.containers[trainer].envFrom", "other")],
    ),
    "volumes": (
        volumes(
            {"secret": {"secretName": "files"}},
            {"projected": {"sources": [{"secret": {"name": "parts"}}, {"configMap": {"name": "c"}}]}},
        ),
        {},
        [
            ("spec.podTemplate.spec.volumes[v0].secret.secretName", "files"),
            ("spec.podTemplate.spec.volumes[v1].projected", "parts"),
        ],
    ),
    "an init container": (
        template(initContainers=[{"name": "fetch", "env": [KEY]}]),
        {},
        [("spec.podTemplate.spec.initContainers[fetch].env[KEY]", "keys")],
    ),
    "named twice": (
        trainer(env=[KEY]),
        volumes({"secret": {"secretName": "keys"}}),
        [
            ("runtime.spec.podTemplate.spec.volumes[v0].secret.secretName", "keys"),
        ],
    ),
    "what the job takes away from its runtime": (
        volumes({"$patch": "delete"}),
        volumes({"secret": {"secretName": "files"}}),
        [],
    ),
    "what may be missing": (
        volumes({"secret": {"secretName": "files", "optional": True}}),
        trainer(envFrom=[{"secretRef": {"name": "other", "optional": True}}])
        | {"podTemplate": {"spec": {"imagePullSecrets": [{"name": "registry"}]}}},
        [],
    ),
    "what has not the shape of a pod": (
        template(initContainers=[{"name": "odd", "envFrom": [7]}], volumes=[{"name": "v", "secret": "x"}]),
        {},
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_secrets_that_the_pods_need(name: str) -> None:
    own, inherited, wanted = CASES[name]
    valid = validate(spec(**own, runtimeRef={"name": "gpu"}), inherited)
    assert sorted(named_secrets(valid.spec, valid.runtime)) == sorted(wanted)
