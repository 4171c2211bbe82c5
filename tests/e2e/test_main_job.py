"""From one apply to a served model, and what stops a model from being served."""

import json

import pytest

from e2e.user import User, condition, fine_tune_job, finished, is_true
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import EVENTS, JOBS, PODS

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASK = """
import json, urllib.request
body = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES",
                    "data": ["we saw the old horse and a sheep", "some storm and hail today"]}]}
request = urllib.request.Request("http://NAME/v2/models/NAME/infer", json.dumps(body).encode(),
                                 {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(request, timeout=30))
labels = next(output["data"] for output in answer["outputs"] if output["name"] == "label")
open("/dev/termination-log", "w").write(json.dumps(labels))
"""


async def test_one_apply_trains_evaluates_publishes_and_serves(user: User) -> None:
    await train_and_serve(user)


async def train_and_serve(user: User) -> None:
    """The job `served`, from its apply to the answer of its model."""
    await user.apply(
        fine_tune_job(
            "served",
            evaluation={"gate": [{"metric": "f1", "operator": ">=", "value": 0.8}]},
            publish={"modelName": "served"},
            deploy={"name": "served", "template": {"replicas": 1}},
        )
    )
    job = await user.until(FINE_TUNE_JOBS, "served", finished)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    status = job["status"]
    assert status["metrics"]["f1"] >= 0.8
    assert status["progress"]["text"] == "80/80"
    assert status["data"]["train"] > 8 * status["data"]["validation"] > 0
    assert [attempt["number"] for attempt in status["attempts"]] == [1]
    version = await user.get(MODEL_VERSIONS, status["modelVersion"])
    assert version is not None
    assert version["spec"]["artifact"].items() <= status["artifact"].items()
    await user.until(MODEL_DEPLOYMENTS, "served", is_true("Available"))
    assert json.loads(await user.run("ask-served", ASK.replace("NAME", "served"))) == ["animals", "weather"]


async def test_a_failed_gate_publishes_nothing_and_says_by_how_much_it_missed(user: User) -> None:
    await user.apply(
        fine_tune_job(
            "gated",
            distributed={"nodes": 1, "processesPerNode": 2},  # a single pod, which has no Service
            training={"maxSteps": 2, "batchSize": 24, "learningRate": 1e-6},
            evaluation={"gate": [{"metric": "accuracy", "operator": ">=", "value": 0.999}]},
            publish={"modelName": "gated"},
        )
    )
    job = await user.until(FINE_TUNE_JOBS, "gated", finished)
    assert condition(job, "Failed")["reason"] == "GateFailed", job["status"]
    assert "accuracy" in condition(job, "Failed")["message"]
    assert job["status"].get("modelVersion") is None
    versions = await user.list(MODEL_VERSIONS)
    assert [version for version in versions if version["spec"]["modelName"] == "gated"] == []


async def test_an_invalid_spec_is_refused_with_the_field_or_fails_at_once(user: User) -> None:
    """Refused where the webhooks are installed, as in local mode; told by the status where they are not."""
    body = fine_tune_job("invalid")
    body["spec"]["evaluation"] = {"gate": [{"metric": "bleu", "operator": ">=", "value": 1}]}
    try:
        await user.apply(body)
    except ApiError as refused:
        told = f"{refused.status} {refused.reason}: {refused.message}"
    else:
        job = await user.until(FINE_TUNE_JOBS, "invalid", finished, seconds=20)
        assert condition(job, "Failed")["reason"] == "InvalidSpec"
        told = condition(job, "Failed")["message"]
    assert user.webhooks is told.startswith("422 Invalid")
    assert "evaluation.gate[0].metric" in told
    assert await user.list(JOBS, "finetune-operator.io/job=invalid") == []


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("missing-data", "data/nothing.jsonl", "data/nothing.jsonl"),
        ("empty-data", "data/empty.jsonl", "empty"),
        ("torn-data", "data/torn.jsonl", "line 2"),
    ],
)
async def test_bad_data_fails_on_the_first_attempt_with_the_reason(
    user: User, name: str, source: str, message: str
) -> None:
    body = fine_tune_job(name)
    body["spec"]["dataset"]["train"]["source"] = f"pvc://e2e/{source}"
    await user.apply(body)
    job = await user.until(FINE_TUNE_JOBS, name, finished)
    assert message in condition(job, "Failed")["message"]
    assert len(job["status"]["attempts"]) == 1


async def test_every_transition_leaves_an_event(user: User) -> None:
    events = {
        event["reason"]: event["note"]
        for event in await user.list(EVENTS)
        if event.get("regarding", {}).get("name") == "served" and event["regarding"]["kind"] == "FineTuneJob"
    }
    assert {"AttemptRunning", "Succeeded"} <= set(events), events
    assert "published as ModelVersion" in events["Succeeded"]


async def test_training_pods_are_restricted_and_hold_no_api_token(user: User) -> None:
    pods = await user.list(PODS, "finetune-operator.io/job=served,finetune-operator.io/component=trainer")
    assert len(pods) == 2
    for pod in pods:
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
