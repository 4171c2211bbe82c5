"""The webhooks' verdicts, and that the reconciler gives the same ones."""

from dataclasses import dataclass
from typing import Any

import pytest

from finetune_api.errors import field_of
from finetune_operator.plan.admission import Decision, decide, default_patch
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.named_objects import Named, secret
from finetune_operator.plan.references import Surroundings
from finetune_operator.plan.world import World
from plan.builders import NOW, SETTINGS, condition, created, job, message, spec

Resource = dict[str, Any]
EVERYTHING = Surroundings(claims=frozenset({"data", "work"}))


@dataclass
class Known:
    """What the caches would answer."""

    surroundings: Surroundings = EVERYTHING
    snapshot: Resource | None = None

    def started(self, _job: Resource) -> Resource | None:
        return self.snapshot

    def around(self, _job: Resource) -> Surroundings:
        return self.surroundings


def request(new: Resource | None, old: Resource | None = None, kind: str = "FineTuneJob") -> Resource:
    return {
        "uid": "1",
        "kind": {"group": "finetune-operator.io", "version": "v1alpha1", "kind": kind},
        "namespace": "ml",
        "object": new,
        "oldObject": old,
    }


def verdict(new: Resource, old: Resource | None = None, **known: Any) -> Decision:
    return decide(request(new, old), Known(**known))


def version(format_: str) -> Resource:
    return {"spec": {"format": format_, "artifact": {"uri": "pvc://work/v1", "digest": "sha256:x"}}}


def of_task(task: str) -> Resource:
    return {"spec": {"task": task}}


def deployment(model: str) -> Resource:
    return {"metadata": {"name": "tickets"}, "spec": {"modelName": model}}


SERVED = {"publish": {"modelName": "tickets"}, "deploy": {"name": "tickets"}}
RUNTIME = {"spec": {"allowTrustRemoteCode": False, "checkpoint": {"storage": "pvc://shared/c"}}}
KUEUE = "kueue.x-k8s.io/v1beta1"
QUEUE = Named(KUEUE, "LocalQueue", "team-a")
MOUNTED = {"spec": {"volumes": [{"name": "ca", "secret": {"secretName": "certificates"}}]}}
GATE = {"gate": [{"metric": "bleu", "operator": ">", "value": 1}]}

# What is written, what is around it, and the reason of the condition Validated that it gets.
TABLE: dict[str, tuple[Resource, Surroundings, str]] = {
    "right": ({}, EVERYTHING, "Valid"),
    "wrong value": ({"task": "Cooking"}, EVERYTHING, "InvalidSpec"),
    "several wrong fields": (
        {"output": None, "evaluation": GATE, "training": {"batchSize": 7}},
        EVERYTHING,
        "InvalidSpec",
    ),
    "unknown field": ({"bogus": 1}, EVERYTHING, "InvalidSpec"),
    "wrong and without its runtime": ({"runtimeRef": {"name": "gpu"}, "task": "Cooking"}, EVERYTHING, "InvalidSpec"),
    "no runtime": ({"runtimeRef": {"name": "gpu"}, "checkpoint": None}, EVERYTHING, "RuntimeNotFound"),
    "runtime forbids remote code": (
        {"runtimeRef": {"name": "gpu"}, "model": {"source": "hf://a/b", "trustRemoteCode": True}},
        Surroundings(runtime=RUNTIME, claims=frozenset({"data", "work"})),
        "InvalidSpec",
    ),
    "claim of the runtime is missing": (
        {"runtimeRef": {"name": "gpu"}, "checkpoint": None},
        Surroundings(runtime=RUNTIME, claims=frozenset({"data"})),
        "PersistentVolumeClaimNotFound",
    ),
    "claims are missing": ({}, Surroundings(claims=frozenset()), "PersistentVolumeClaimNotFound"),
    "claims are not known": ({}, Surroundings(), "Valid"),
    "secrets are missing": (
        {"credentials": {"secretName": "s3"}, "podTemplate": MOUNTED},
        Surroundings(absent=frozenset({secret("s3"), secret("certificates"), secret("another")})),
        "SecretNotFound",
    ),
    "secret of the runtime is missing": (
        {"runtimeRef": {"name": "gpu"}},
        Surroundings(
            runtime={"spec": {"credentials": {"secretName": "hub"}}},
            absent=frozenset({secret("hub")}),
        ),
        "SecretNotFound",
    ),
    "queue is missing": (
        {"queueName": "team-a"},
        Surroundings(api_groups=frozenset({"kueue.x-k8s.io", KUEUE}), absent=frozenset({QUEUE})),
        "QueueNotFound",
    ),
    "another queue is missing": (
        {"queueName": "team-b"},
        Surroundings(api_groups=frozenset({"kueue.x-k8s.io", KUEUE}), absent=frozenset({QUEUE})),
        "Valid",
    ),
    "no model version": ({"model": {"source": "modelversion://v1"}}, EVERYTHING, "ModelVersionNotFound"),
    "adapter as model": (
        {"model": {"source": "modelversion://v1"}},
        Surroundings(source_versions={"v1": version("Adapter")}),
        "InvalidSpec",
    ),
    "deployment of another model": (SERVED, Surroundings(deployment=deployment("other")), "DeploymentTaken"),
    "deployment of this model": (SERVED, Surroundings(deployment=deployment("tickets")), "Valid"),
    "another job publishes there": (SERVED, Surroundings(rivals=("rival",)), "Valid"),
    "the model has versions": (SERVED, Surroundings(published=of_task("TextClassification")), "Valid"),
    "the model has versions of another task": (SERVED, Surroundings(published=of_task("TextGeneration")), "Valid"),
}


@pytest.mark.parametrize("name", TABLE)
def test_webhook_and_reconciler_agree(name: str) -> None:
    changes, around, reason = TABLE[name]
    new = job(**changes)
    decision = verdict(new, surroundings=around)
    plan = plan_job(
        World(
            job=new,
            now=NOW,
            settings=SETTINGS,
            around=around,
        )
    )
    assert condition(plan, "Validated") == ("True" if reason == "Valid" else "False", reason)
    told = decision.errors or decision.warnings
    assert message(plan, "Validated").splitlines() == list(told)
    assert bool(decision.errors) == (reason == "InvalidSpec")
    assert bool(decision.errors) == (condition(plan, "Failed") is not None)
    assert bool(created(plan)) == (reason == "Valid")
    assert bool(told) == (reason != "Valid" or bool(around.rivals) or around.published == of_task("TextGeneration"))


def test_every_error_is_a_cause_of_its_own() -> None:
    response = verdict(job(**TABLE["several wrong fields"][0])).response("FineTuneJob", "tickets")
    status = response["status"]
    assert (response["allowed"], status["code"], status["reason"]) == (False, 422, "Invalid")
    fields = [cause["field"] for cause in status["details"]["causes"]]
    assert fields == ["spec.evaluation.gate[0].metric", "spec.training.batchSize", "spec.output.storage"]
    assert all(field in status["message"] for field in fields)


def running(**changes: Any) -> Resource:
    return job(**changes) | {"status": {"attempt": 1}}


@pytest.mark.parametrize(
    ("edit", "refused"),
    [
        ({"suspend": True}, []),
        ({"ttlSecondsAfterFinished": 5, "activeDeadlineSeconds": 60}, []),
        ({"training": {"epochs": 9}, "suspend": True}, ["spec.training.epochs"]),
        (
            {"distributed": {"nodes": 4}, "output": {"storage": "s3://b"}},
            ["spec.distributed.nodes", "spec.output.storage"],
        ),
        ({"training": {}}, []),  # a default written out is no change
    ],
)
def test_a_job_that_has_started_keeps_what_it_started_with(edit: Resource, refused: list[str]) -> None:
    decision = verdict(running(**edit), running(), snapshot=spec())
    assert [field_of(error) for error in decision.errors] == refused
    assert [field_of(error) for error in verdict(running(**edit), running()).errors] == refused


def test_an_edit_that_slipped_in_may_be_taken_back() -> None:
    changed = running(training={"epochs": 9})
    assert verdict(running(), changed, snapshot=spec()).errors == ()
    assert verdict(running(training={"epochs": 9}, suspend=True), changed, snapshot=spec()).errors == ()


def test_what_is_stored_stays_editable_in_its_metadata() -> None:
    wrong = job(task="Cooking")
    labelled = wrong | {"metadata": wrong["metadata"] | {"labels": {"a": "b"}}}
    assert verdict(labelled, wrong) == Decision()
    assert verdict(wrong | {"metadata": wrong["metadata"] | {"deletionTimestamp": "now"}}, job()) == Decision()


def test_mending_a_failed_job_is_told_to_be_useless() -> None:
    failed = job(task="Cooking") | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    decision = verdict(job(), failed)
    assert decision.errors == ()
    assert "never runs again" in decision.warnings[0]


@pytest.mark.parametrize(
    ("kind", "body", "fields"),
    [
        ("ModelDeployment", {"spec": {"modelName": "Big", "replicas": -1}}, ["spec.replicas", "spec.modelName"]),
        (
            "TrainingRuntime",
            {"spec": {"podTemplate": {"spec": {"volumes": [{}]}}}},
            ["spec.podTemplate.spec.volumes[0]"],
        ),
        ("ModelVersion", {"spec": {"modelName": "m"}}, ["spec.artifact", "spec.task"]),
    ],
)
def test_the_other_kinds_are_judged_by_their_models(kind: str, body: Resource, fields: list[str]) -> None:
    whole = {"apiVersion": "finetune-operator.io/v1alpha1", "kind": kind, "metadata": {"name": "x"}} | body
    assert [field_of(error) for error in decide(request(whole, kind=kind), Known()).errors] == fields


def test_defaults_are_written_where_the_schema_has_not() -> None:
    patch = {operation["path"]: operation["value"] for operation in default_patch(request(job()))}
    assert patch["/spec/suspend"] is False
    assert patch["/spec/training"]["batchSize"] == 32
    assert patch["/spec/method/lora/dropout"] == 0
    assert "/spec/distributed/nodes" not in patch
    assert patch["/spec/distributed/engine"] == "Torchrun"
    assert default_patch(request(job(task="Cooking"))) == []
