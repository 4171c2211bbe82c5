"""The progress receiver against a real API server: who may report, and what becomes of a report."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from finetune_api.names import PROGRESS_FIELD_MANAGER, progress_audience
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import PODS, SERVICE_ACCOUNTS
from finetune_operator.web import progress_token
from finetune_operator.web.progress_token import REVIEWS_OF_ONE_JOB
from plan.builders import last_words
from web.receiver_under_test import ReceiverUnderTest, projected_token

Resource = dict[str, Any]


async def running_job(user: ClusterUser, name: str = "tickets") -> tuple[Resource, Resource]:
    """The job, and the pod of its rank 0."""
    await user.apply(name)
    job = await user.phase("Running", name)
    return job, (await user.pods(name=name))[0]


async def progressed(user: ClusterUser, step: int) -> Resource:
    async def there() -> Resource | None:
        status = (await user.job())["status"]
        return status if (status.get("progress") or {}).get("step") == step else None

    return await eventually(there, f"step {step}", user.dump)


async def unchanged(user: ClusterUser, receiver: ReceiverUnderTest, before: Resource) -> bool:
    """Nothing was taken, so nothing is written."""
    await receiver.writer.flush()
    return (await user.job())["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_a_report_reaches_the_status(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    fields = {
        "loss": 0.412,
        "learningRate": 0.0005,
        "tokensPerSecond": 900.0,
        "etaSeconds": 61,
        "epoch": 0.5,
        "bestMetric": {"f1": 0.8},
        "checkpoint": {"step": 10, "uri": "s3://checkpoints/10"},
    }
    assert await receiver.post(token, **fields) == 204
    status = await progressed(user, 10)
    assert status["progress"]["text"] == "10/100"
    assert status["progress"]["percent"] == 10
    assert status["progress"]["loss"] == 0.412
    assert status["lastCheckpoint"]["uri"] == "s3://checkpoints/10"
    assert status["bestMetric"] == {"f1": 0.8}
    assert status["phase"] == "Running"
    managers = {entry["manager"] for entry in (await user.job())["metadata"]["managedFields"]}
    assert {PROGRESS_FIELD_MANAGER, "finetune-operator"} <= managers


async def test_what_the_preflight_found_is_a_condition(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    found = {"status": "True", "reason": "Passed", "message": "the model is there"}
    assert await receiver.post(token, step=0, stage="Preparing", preflight=found) == 204

    async def told() -> bool:
        conditions = {one["type"]: one for one in (await user.job())["status"]["conditions"]}
        return found.items() <= conditions["Preflight"].items() and conditions["Running"]["status"] == "True"

    await eventually(told, "the condition", user.dump)
    assert await receiver.post(token, preflight=found | {"reason": "no reason"}) == 400


async def test_reports_are_coalesced(
    user: ClusterUser, operator: OperatorUnderTest, receiver: ReceiverUnderTest
) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    before = operator.api.requests["patch"]
    for step in range(1, 101):
        assert await receiver.post(token, step=step) == 204
    await progressed(user, 100)
    assert operator.api.requests["patch"] - before < 30
    assert operator.api.requests["post"] == 1  # one TokenReview, remembered


async def test_the_last_step_is_written_at_once(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    """The pods may be gone before the next round."""
    receiver.writer._interval = 3600.0
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    await asyncio.sleep(0.3)  # into the long round
    assert await receiver.post(token, step=99) == 204
    await progressed(user, 99)
    assert await receiver.post(token, step=100) == 204
    await progressed(user, 100)


async def test_the_step_never_goes_back(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    assert await receiver.post(token, step=50) == 204
    await progressed(user, 50)
    before = await user.job()
    assert await receiver.post(token, step=49) == 204
    assert await unchanged(user, receiver, before)


async def test_a_token_of_another_job_is_refused(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, _ = await running_job(user)
    other, other_pod = await running_job(user, "other")
    theirs = await projected_token(user.api, other, other_pod)
    assert await receiver.post(theirs) == 401
    # The audience anyone may ask for; the pod is what counts.
    forged = await projected_token(user.api, job, other_pod)
    assert await receiver.post(forged) == 403
    assert await unchanged(user, receiver, await user.job())
    assert "progress" not in (await user.job())["status"]


@pytest.mark.parametrize(
    "audience", ["https://kubernetes.default.svc", "finetune-operator.io/jobs/ml/tickets/other-uid"]
)
async def test_a_token_for_another_audience_is_refused(
    user: ClusterUser, receiver: ReceiverUnderTest, audience: str
) -> None:
    job, pod = await running_job(user)
    before = await user.job()
    assert await receiver.post(await projected_token(user.api, job, pod, audience=audience)) == 401
    assert await unchanged(user, receiver, before)


async def test_an_expired_token_is_refused(cluster: Cluster, user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    before = await user.job()
    account = await user.api.get(SERVICE_ACCOUNTS, "default", NAMESPACE)
    audience = progress_audience(NAMESPACE, "tickets", job["metadata"]["uid"])
    valid, _ = cluster.server.cluster.tokens.issue(account, (audience,), 60, pod)
    expired, _ = cluster.server.cluster.tokens.issue(account, (audience,), -60, pod)
    assert await receiver.post(expired, step=99) == 401
    assert await unchanged(user, receiver, before)
    assert await receiver.post(valid, step=5) == 204, "only its age was wrong"


async def test_a_token_that_is_bound_to_no_pod_is_refused(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, _ = await running_job(user)
    assert await receiver.post(await projected_token(user.api, job, None)) == 401


async def test_no_token_and_nonsense_are_refused(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    await running_job(user)
    assert await receiver.post(None) == 401
    assert await receiver.post("not.a.token") == 401


async def test_a_pod_with_copied_labels_is_refused(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    copied = {key: pod["metadata"][key] for key in ("labels", "annotations")}
    forged = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "forged", "namespace": NAMESPACE, **copied},
        "spec": {"containers": [{"name": "trainer", "image": "x"}]},
    }
    made = await user.api.create(PODS, forged, NAMESPACE)
    token = await projected_token(user.api, job, made)
    assert await receiver.post(token) == 403


async def test_a_token_of_a_pod_that_is_gone_is_refused(
    user: ClusterUser, operator: OperatorUnderTest, receiver: ReceiverUnderTest
) -> None:
    """Also while the positive verdict is still remembered: the pod must be in the cache."""
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    assert await receiver.post(token) == 204
    await user.api.delete(PODS, pod["metadata"]["name"], NAMESPACE)
    await user.phase("Running", attempt=2)
    assert await receiver.post(token, step=99) in (401, 403)
    receiver.wait(61)
    assert await receiver.post(token, step=99) == 401
    assert (await user.job())["status"]["progress"]["step"] != 99


async def test_a_report_for_another_attempt_is_refused(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    assert await receiver.post(token, attempt=2) == 409


async def test_a_finished_job_is_not_touched(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    await user.end_pod((await user.pods())[1], 3, last_words("DataError", "x", 1))
    before = await user.phase("Failed")
    assert await receiver.post(token, step=99) in (401, 403, 409)
    await receiver.writer.flush()
    assert (await user.job())["status"] == before["status"]


async def test_an_unknown_job(receiver: ReceiverUnderTest) -> None:
    assert await receiver.post("x", job="nobody") == 404


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'{"attempt": 0}',
        b'{"attempt": 1, "step": -1}',
        b'{"attempt": 1, "bestMetric": {"' + b"x" * 65 + b'": 1}}',
        b"{}",
    ],
)
async def test_what_is_no_report(user: ClusterUser, receiver: ReceiverUnderTest, body: bytes) -> None:
    job, pod = await running_job(user)
    before = await user.job()
    assert await receiver.post(await projected_token(user.api, job, pod), body) == 400
    assert await unchanged(user, receiver, before)


async def test_a_report_that_is_too_large(user: ClusterUser, receiver: ReceiverUnderTest) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    assert await receiver.post(token, b"x" * (64 * 1024 + 1)) == 413


async def test_a_verdict_is_remembered_for_a_minute(
    user: ClusterUser, operator: OperatorUnderTest, receiver: ReceiverUnderTest
) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    for _ in range(3):
        assert await receiver.post(token) == 204
    assert operator.api.requests["post"] == 1
    receiver.wait(61)
    assert await receiver.post(token) == 204
    assert operator.api.requests["post"] == 2


async def test_a_refusal_is_remembered_for_some_seconds_and_drives_no_verdict_out(
    user: ClusterUser, operator: OperatorUnderTest, receiver: ReceiverUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_token, "REMEMBERED_TOKENS", 2)
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    assert await receiver.post(token) == 204
    for nonsense in ("a.a.a", "a.a.a", "b.b.b", "c.c.c", "c.c.c"):
        assert await receiver.post(nonsense) == 401
    assert await receiver.post(token) == 204
    assert operator.api.requests["post"] == 1 + 3
    receiver.wait(11)
    assert await receiver.post("c.c.c") == 401
    assert operator.api.requests["post"] == 1 + 4


async def test_a_flood_of_unknown_tokens_holds_up_one_job_alone(
    cluster: Cluster, user: ClusterUser, operator: OperatorUnderTest, receiver: ReceiverUnderTest
) -> None:
    job, pod = await running_job(user)
    other, other_pod = await running_job(user, "other")
    token, theirs = await projected_token(user.api, job, pod), await projected_token(user.api, other, other_pod)
    before = operator.api.requests["post"]
    cluster.server.cluster.faults.delay_seconds = 0.5
    flood = [asyncio.create_task(receiver.post(f"{number}.x.x")) for number in range(40)]
    assert await asyncio.wait_for(flood[-1], 10) == 503
    assert await receiver.post(theirs, job="other") == 204
    codes = Counter(await asyncio.gather(*flood))
    assert codes == {401: REVIEWS_OF_ONE_JOB, 503: 40 - REVIEWS_OF_ONE_JOB}
    assert operator.api.requests["post"] - before == REVIEWS_OF_ONE_JOB + 1
    assert await receiver.post(token) == 204, "and that one only while it lasts"


async def test_a_report_survives_a_conflicting_write(
    cluster: Cluster, user: ClusterUser, receiver: ReceiverUnderTest
) -> None:
    job, pod = await running_job(user)
    token = await projected_token(user.api, job, pod)
    for step in range(5):
        assert await receiver.post(token, step=step) == 204
        await user.api.patch(FINE_TUNE_JOBS, "tickets", {"metadata": {"labels": {"n": str(step)}}}, NAMESPACE)
        await receiver.writer.flush()
        await asyncio.sleep(0)
    await progressed(user, 4)
