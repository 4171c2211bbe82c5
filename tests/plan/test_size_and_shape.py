"""Specs that are too large or too deep, and pod templates that leave no pod to finish, are refused by one verdict."""

from typing import Any

import pytest

from finetune_operator.kube.packing import Packing
from finetune_operator.plan.admission import MODELS, decide, errors_of
from finetune_operator.plan.lifecycle import at_a_loss, plan_job
from finetune_operator.plan.pod_shape import CONTAINER, LISTS
from plan.builders import condition, created, follow, job, message, reasons, world
from plan.test_admission import Known, request, verdict


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"inner": value}
    return value


@pytest.mark.parametrize("levels", [100, 250, 300, 5000])
def test_what_is_nested_too_deeply_is_refused_by_webhook_and_reconciler(levels: int) -> None:
    deep = job(podTemplate={"spec": {"affinity": nested(levels)}})
    assert verdict(deep).errors == ("spec: nested more than 64 levels deep; take what is too deep out of it",)
    seen = world(Packing().unpack(Packing().pack(deep)))
    assert condition(plan_job(seen), "Failed") == ("True", "InvalidSpec")


def test_an_edit_after_the_start_is_held_to_the_same_sizes() -> None:
    started, deep = (running(job(**changes)) for changes in ({}, {"podTemplate": nested(900)}))
    (refused,) = decide(request(deep, started), Known()).errors
    assert refused.startswith("spec: nested more than 64 levels deep")
    assert decide(request(started, deep), Known(snapshot=started["spec"])).errors == (), "it may be mended"
    edited = decide(request(many_labels("a"), many_labels("b")), Known()).errors
    assert (len(edited), edited[-1]) == (51, "and 450 errors more, told once these are mended")


def running(started: dict[str, Any]) -> dict[str, Any]:
    return started | {"status": {"attempt": 1}}


def many_labels(value: str) -> dict[str, Any]:
    template = {"metadata": {"labels": {f"l{number}": value for number in range(500)}}}
    return running(job(podTemplate=template))


def test_an_object_that_is_too_deep_is_cached_without_its_depths() -> None:
    packing = Packing()
    kept = packing.unpack(packing.pack({"metadata": {"name": "deep"}, "spec": nested(900)}))
    assert kept["metadata"] == {"name": "deep"}
    assert kept["spec"]["inner"]["inner"]


def test_what_is_too_long_is_refused() -> None:
    long = job(podTemplate={"metadata": {"annotations": {"text": "x" * 300_000}}})
    (error,) = verdict(long).errors
    assert error.startswith("spec: 29")
    assert "at most 256 are read" in error


@pytest.mark.parametrize("field", ["postprocess", "gate"])
def test_thousands_of_wrong_entries_are_told_as_a_few_errors(field: str) -> None:
    wrong = [{"merge": {"a": 1}}] * 10_000
    changes = {"postprocess": wrong} if field == "postprocess" else {"evaluation": {"gate": wrong}}
    errors = verdict(job(**changes)).errors
    assert 1 <= len(errors) <= 51
    assert any("at most" in error for error in errors)


def test_of_many_errors_the_first_are_told() -> None:
    bogus = {f"bogus{number:02}": 1 for number in range(60)}
    errors = verdict(job(**bogus)).errors
    assert len(errors) == 51
    assert errors[-1] == "and 10 errors more, told once these are mended"


def _trainer(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": CONTAINER} | fields]}}


def _init(**fields: Any) -> dict[str, Any]:
    return {"spec": {"initContainers": [{"name": "init"} | fields]}}


SHAPES: dict[str, tuple[Any, str]] = {
    "deleted trainer": ({"spec": {"containers": [{"name": CONTAINER, "$patch": "delete"}]}}, "'trainer' must stay"),
    "replaced trainer": ({"spec": {"containers": [{"name": CONTAINER, "$patch": "replace"}]}}, "[trainer].env"),
    "no environment": ({"spec": {"containers": [{"name": CONTAINER, "env": None}]}}, "[trainer].env"),
    "environment as map": ({"spec": {"containers": [{"name": CONTAINER, "env": {"a": 1}}]}}, "must not be an object"),
    "no containers": ({"spec": {"containers": None}}, "spec.containers"),
    "no spec": ({"spec": None}, "podTemplate.spec"),
    "replaced spec": ({"spec": {"$patch": "replace"}}, "spec.containers"),
    "tolerations as text": ({"spec": {"tolerations": "x"}}, "spec.tolerations"),
    "tolerations of text": ({"spec": {"tolerations": ["x"]}}, "spec.tolerations[0]"),
    "grace as text": ({"spec": {"terminationGracePeriodSeconds": "abc"}}, "spec.terminationGracePeriodSeconds"),
    "labels as list": ({"metadata": {"labels": ["a"]}}, "metadata.labels"),
    "a name that is none": ({"spec": {"containers": [{"name": {}}]}}, "containers[0].name: must be text"),
    "mounts without a name": (_trainer(volumeMounts=[{"mountPath": "/x"}]), "volumeMounts[0].name: required"),
    "mounts of an init container": (_init(volumeMounts="x"), "volumeMounts: must be a list; got 'x'"),
    "a variable from nowhere": (
        _trainer(env=[{"name": "A", "valueFrom": True}]),
        "env[0].valueFrom: must be an object; got True",
    ),
    "resources as text": (_trainer(resources="1Gi"), "containers[0].resources"),
    "limits as text": (_init(resources={"limits": "1Gi"}), "initContainers[0].resources.limits"),
    "an image that is none": (_trainer(image={}), "containers[0].image: must not be an object"),
    "another kind of policy": ({"spec": {"restartPolicy": {}}}, "spec.restartPolicy: must not be an object"),
    "a group that is none": ({"spec": {"securityContext": {"fsGroup": {}}}}, "fsGroup: must not be an object"),
    "projected text": ({"spec": {"volumes": [{"name": "v", "projected": "x"}]}}, "volumes[0].projected"),
    "no volumes": ({"spec": {"volumes": None}}, "spec.volumes"),
    "selector as text": ({"spec": {"nodeSelector": "gpu"}}, "spec.nodeSelector"),
    "thousands of tolerations": ({"spec": {"tolerations": ["x"] * 5000}}, "at most 1000 items"),
    "volumes as map": ({"spec": {"volumes": {"a": 1}}}, "spec.volumes: must not be an object"),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("runtime", [False, True], ids=["job", "runtime"])
def test_templates_that_leave_no_pod_are_refused_before_one_is_made(name: str, runtime: bool) -> None:
    template, told = SHAPES[name]
    if runtime:
        body = {"metadata": {"name": "gpu"}, "spec": {"podTemplate": template}}
        errors = errors_of(MODELS["ClusterTrainingRuntime"], body)
    else:
        errors = list(verdict(job(podTemplate=template)).errors)
        plan = plan_job(world(job(podTemplate=template)))
        assert message(plan, "Failed").startswith(errors[0])
        assert created(plan) == []
    assert all(error.startswith("spec.podTemplate.") for error in errors)
    assert told in errors[0]


def test_what_the_shape_is_held_against_is_what_is_generated() -> None:
    plan = plan_job(world(job()))
    (gang,) = (write.body for write in plan.writes if getattr(write, "body", {}).get("kind") == "Job")
    (trainer,) = gang["spec"]["template"]["spec"]["containers"]
    assert {name for name, value in trainer.items() if isinstance(value, list)} == {*LISTS}
    assert {name for name, value in trainer.items() if isinstance(value, dict)} == {"securityContext"}


def test_a_server_template_is_held_against_the_server() -> None:
    template = {"spec": {"containers": [{"name": "server", "$patch": "delete"}]}}
    body = {"metadata": {"name": "tickets"}, "spec": {"modelName": "tickets", "podTemplate": template}}
    (error,) = errors_of(MODELS["ModelDeployment"], body)
    assert "'server' must stay" in error


def test_python_names_of_fields_are_no_names_of_the_api() -> None:
    wrong = job(training={"batch_size": 8}, start_deadline_seconds=5)
    assert [error.partition(":")[0] for error in verdict(wrong).errors] == [
        "spec.training.batch_size",
        "spec.start_deadline_seconds",
    ]


def test_a_job_for_which_no_step_is_found_says_so_until_one_is() -> None:
    lost = at_a_loss(world(job()), KeyError("env"))
    assert condition(lost, "Planned") == ("False", "InternalError")
    assert "KeyError: 'env'" in message(lost, "Ready")
    assert reasons(lost) == ["InternalError"]
    again = follow(job(), lost)
    assert reasons(at_a_loss(world(again), KeyError("env"))) == []
    assert condition(plan_job(world(again)), "Planned") == ("True", "Valid")
