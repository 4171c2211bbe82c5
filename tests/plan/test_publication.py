import json
import math
from typing import Any

import pytest

from finetune_api import ModelDeployment, ModelVersion
from finetune_api.reports import ProgressReport, TerminationMessage, TrainingResult
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.progress import progress
from finetune_operator.plan.world import Plan
from plan.builders import (
    DIGEST,
    NOW,
    RESULT,
    UID,
    condition,
    created,
    done_pod,
    follow,
    indexed_job,
    message,
    pod,
    reasons,
    snapshot_of,
    world,
)
from plan.story import Story

PUBLISH = {"publish": {"modelName": "tickets"}}
DEPLOY = {**PUBLISH, "deploy": {"name": "tickets", "template": {"replicas": 2}}}
COMPLETE = [indexed_job(Complete="CompletionsReached: x")]


def completed(
    result: dict | None = None, jobs: list | None = None, pods: list | None = None, **changes: Any
) -> tuple[dict, Plan]:
    """A job whose gang has ended well, and what is planned then."""
    around = {
        name: changes.pop(name) for name in ("serving", "deployed_version", "deployment", "versions") if name in changes
    }
    story = Story(**changes)
    story.step(seconds=0)
    story.step([indexed_job()], [pod(0), pod(1)], 5)
    item = story.item
    pods = [done_pod(0, result=result), done_pod(1)] if pods is None else pods
    return item, story.step(jobs or COMPLETE, pods, 55, **around)


def gate(**fields: Any) -> dict:
    return {"evaluation": {"gate": [{"metric": "f1", **fields}]}}


def version(name: str = "tickets-ab12") -> dict:
    return {"metadata": {"name": name}, "spec": {"metrics": {"f1": 0.95}}}


def test_a_job_that_publishes_nothing_succeeds_with_its_artifact() -> None:
    _, plan = completed()
    assert plan.status["phase"] == "Succeeded"
    assert condition(plan, "Succeeded") == ("True", "Succeeded")
    assert condition(plan, "Ready") == ("True", "Succeeded")
    assert message(plan, "Ready") == message(plan, "Succeeded"), "which `kubectl get -o wide` shows"
    assert plan.status["artifact"]["uri"] == RESULT["artifactUri"]
    assert plan.status["metrics"] == RESULT["metrics"]
    assert plan.status["completionTime"] == "2026-11-22T09:01:00Z"
    assert plan.status["attempts"][-1]["cause"] == "Succeeded"
    assert plan.writes == ()


def test_the_result_counts_although_the_deadline_or_a_suspend_came_meanwhile() -> None:
    assert completed(activeDeadlineSeconds=30)[1].status["phase"] == "Succeeded"
    item, _ = completed()
    item["spec"]["suspend"] = True
    plan = plan_job(world(item, COMPLETE, [done_pod(0), done_pod(1)], 60, snapshot=snapshot_of(item)))
    assert plan.status["phase"] == "Succeeded"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("bye", "rank 0 left no result in its termination message"),
        (json.dumps({"outcome": "Succeeded", "result": {**RESULT, "format": "Holographic"}}), "result.format: Input"),
        (json.dumps({"outcome": "Succeeded"}), "rank 0 left no result in its termination message"),
    ],
    ids=["a log", "a result of another version", "no result"],
)
def test_an_end_without_a_result_is_no_success(words: str, told: str) -> None:
    silent = pod(0, phase="Succeeded", terminated={"exitCode": 0, "message": words})
    _, plan = completed(pods=[silent, done_pod(1)])
    assert condition(plan, "Failed") == ("True", "NoResult")
    assert told in message(plan, "Failed")


def test_a_pod_that_is_gone_with_its_result_is_not_the_users_fault() -> None:
    """Removed by somebody's clean-up while no operator looked: the last checkpoint is exported once more."""
    _, plan = completed(pods=[done_pod(1)])
    assert (plan.status["phase"], plan.status["restarts"]["byCause"]) == ("Restarting", {"PodLost": 1})
    assert "before its result was read" in plan.status["attempts"][-1]["reason"]


@pytest.mark.parametrize(
    "more",
    [
        {"newField": 1},
        {"metrics": {f"m{number}": 0.1 for number in range(65)}},
        {"metrics": {"f1": 0.9, "perplexity": None}},
        {"metrics": {"f1": 0.9, "perplexity": "Infinity"}},
        {
            "postprocess": [
                {"name": "merge", "artifactDigest": "d", "format": "Full", "metrics": {"f1": None}, "new": 1}
            ]
        },
    ],
    ids=["a newer trainer", "many metrics", "an older trainer's NaN", "an infinite metric", "of a step"],
)
def test_an_odd_result_is_one_all_the_same(more: dict[str, Any]) -> None:
    _, plan = completed(result=RESULT | more)
    assert plan.status["phase"] == "Succeeded"
    assert all(math.isfinite(value) for value in plan.status["metrics"].values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_a_trainer_says_of_a_number_that_is_none_reaches_the_gate(value: float) -> None:
    result = TrainingResult.model_validate(RESULT).model_copy(update={"metrics": {"f1": value, "accuracy": 0.9}})
    told = TerminationMessage(outcome="Succeeded", result=result).model_dump_json(by_alias=True)
    _, plan = completed(
        pods=[pod(0, phase="Succeeded", terminated={"exitCode": 0, "message": told}), done_pod(1)],
        **gate(operator=">=", value=0),
    )
    assert condition(plan, "Failed") == ("True", "GateFailed")
    assert f"f1 is {value}" in message(plan, "Failed")
    assert plan.status["metrics"] == {"accuracy": 0.9}


def test_a_missed_gate_publishes_nothing_and_says_by_how_much() -> None:
    _, plan = completed(**DEPLOY, **gate(operator=">=", value=0.95))
    assert condition(plan, "Evaluated") == ("False", "GateFailed")
    assert condition(plan, "Failed") == ("True", "GateFailed")
    assert message(plan, "Evaluated") == "f1 is 0.91, required >= 0.95: missed by 0.04"
    assert plan.status["gates"] == [
        {"metric": "f1", "passed": False, "message": "f1 is 0.91, required >= 0.95: missed by 0.04"}
    ]
    assert plan.status["metrics"]["f1"] == 0.91
    assert plan.writes == ()
    assert reasons(plan) == ["GateFailed", "Failed"]


def test_a_worse_model_than_the_deployed_one_is_not_published() -> None:
    serving = {"metadata": {"name": "tickets"}, "status": {"stable": "tickets-1f3a"}}
    regression = gate(baseline="Deployed", maxRegression=0.01)
    _, plan = completed(**PUBLISH, **regression, serving=serving, deployed_version=version("tickets-1f3a"))
    assert condition(plan, "Failed") == ("True", "GateFailed")
    assert "tickets-1f3a" in message(plan, "Failed")
    _, plan = completed(
        **PUBLISH, **gate(baseline="Deployed", maxRegression=0.1), serving=serving, deployed_version=version()
    )
    assert condition(plan, "Evaluated") == ("True", "GatesPassed")


def test_a_passed_gate_publishes_an_immutable_version() -> None:
    _, plan = completed(**PUBLISH, **gate(operator=">=", value=0.9), credentials={"secretName": "s3"})
    assert plan.status["phase"] == "Publishing"
    assert condition(plan, "Evaluated") == ("True", "GatesPassed")
    assert reasons(plan) == ["GatesPassed"]
    assert created(plan) == ["ModelVersion/tickets-ab12"]
    made = ModelVersion.model_validate(plan.writes[0].body)
    assert made.spec.artifact.digest == DIGEST
    assert made.spec.job
    assert made.spec.job.uid == UID
    assert made.spec.versions == {"torch": "2.13.0", "image": "trainer:test"}
    assert made.spec.credentials
    assert made.spec.credentials.secret_name == "s3"
    assert made.spec.dataset_fingerprint == "sha256:data"
    assert made.spec.base_model
    assert made.spec.base_model.revision == "0123abcd"
    assert "ownerReferences" not in plan.writes[0].body["metadata"]
    assert plan.writes[0].fallback["metadata"]["name"] == "tickets-ab12ab12ab12"


def test_the_job_succeeds_once_the_version_is_there() -> None:
    item, plan = completed(**PUBLISH)
    assert reasons(plan) == []  # without a gate nothing was passed
    item = follow(item, plan)
    again = plan_job(world(item, [], [], 61, snapshot=snapshot_of(item)))
    assert created(again) == ["ModelVersion/tickets-ab12"]
    assert again.status == item["status"]
    done = plan_job(world(item, [], [], 62, snapshot=snapshot_of(item), versions=(version(),)))
    assert done.status["phase"] == "Succeeded"
    assert done.status["modelVersion"] == "tickets-ab12"
    assert condition(done, "Published") == ("True", "Published")
    assert [(e.reason, e.note) for e in done.events] == [
        ("Succeeded", "published as ModelVersion tickets-ab12 of tickets")
    ]


@pytest.mark.parametrize(
    ("stage", "step", "told"), [("Exporting", 90, True), ("Exporting", 120, False), ("Training", 90, False)]
)
def test_a_job_whose_training_stopped_early_says_so(stage: str, step: int, told: bool) -> None:
    """A last report that did not arrive says nothing of the end."""
    story = Story()
    story.step(seconds=0)
    story.step([indexed_job()], [pod(0), pod(1)], 5)
    report = ProgressReport(attempt=1, stage=stage, step=step, total_steps=120)
    story.item["status"]["progress"] = progress(report, NOW, stage)
    plan = story.step(COMPLETE, [done_pod(0), done_pod(1)], 55)
    assert ("training stopped early, at step 90 of 120" in message(plan, "Succeeded")) == told


def test_deploy_creates_the_deployment_if_there_is_none() -> None:
    item, plan = completed(**DEPLOY)
    assert created(plan) == ["ModelVersion/tickets-ab12", "ModelDeployment/tickets"]
    made = ModelDeployment.model_validate(plan.writes[1].body)
    assert (made.spec.model_name, made.spec.replicas) == ("tickets", 2)
    item = follow(item, plan)
    half = plan_job(world(item, [], [], 61, snapshot=snapshot_of(item), versions=(version(),)))
    assert created(half) == ["ModelDeployment/tickets"]
    assert half.status["phase"] == "Publishing"
    ours = {"metadata": {"name": "tickets", "labels": plan.writes[1].body["metadata"]["labels"]}, "spec": {}}
    done = plan_job(world(item, [], [], 62, snapshot=snapshot_of(item), versions=(version(),), deployment=ours))
    assert [e.note.partition("; ")[2] for e in done.events] == ["ModelDeployment tickets created"]


def test_deploy_never_changes_one_that_exists() -> None:
    theirs = {"metadata": {"name": "tickets"}, "spec": {"replicas": 9}}
    item, plan = completed(**DEPLOY, deployment=theirs)
    assert created(plan) == ["ModelVersion/tickets-ab12"]
    done = plan_job(
        world(follow(item, plan), [], [], 62, snapshot=snapshot_of(item), versions=(version(),), deployment=theirs)
    )
    assert done.events[0].note.endswith("; ModelDeployment tickets exists and is left as it is")


def test_the_runtimes_serving_image_is_the_deployments_default() -> None:
    item, plan = completed(**DEPLOY)
    snapshot = snapshot_of(item, {"servingImage": "serve:1"})
    again = plan_job(world(follow(item, plan), [], [], 61, snapshot=snapshot, versions=(version(),)))
    assert again.writes[0].body["spec"]["image"] == "serve:1"
