"""The FineTuneJob controller against a real API server, Job controller and garbage collector."""

import asyncio
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from finetune_api.names import LABEL_ATTEMPT, LABEL_JOB
from finetune_local.cluster import Cluster
from finetune_operator.kinds import (
    CLUSTER_TRAINING_RUNTIMES,
    FINE_TUNE_JOBS,
    MODEL_DEPLOYMENTS,
    MODEL_VERSIONS,
)
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import (
    CONFIG_MAPS,
    JOBS,
    NETWORK_POLICIES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICES,
)
from finetune_operator.plan.attempt import SNAPSHOT_KEY, Snapshot
from finetune_operator.plan.ownership import owner_reference
from plan.builders import RESULT, last_words

CHILDREN = (CONFIG_MAPS, SERVICES, JOBS)
PUBLISH = {"publish": {"modelName": "tickets"}}


def conditions(job: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in job["status"]["conditions"]}


async def attempt_runs(user: ClusterUser, number: int = 1, **changes: Any) -> dict[str, Any]:
    if number == 1:
        await user.apply(**changes)
    return await user.phase("Running", attempt=number)


async def quiet(user: ClusterUser, operator: OperatorUnderTest) -> None:
    """Until the controller has nothing left to do: a full round without a request."""
    before = -1
    while before != (before := operator.api.requests.total()):
        await asyncio.sleep(0.5)


async def test_from_apply_to_success(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    for kind in CHILDREN:
        assert await user.names(kind) == ["tickets-1"]
    assert len(await user.names(PODS)) == 2
    await user.finish_gang()
    job = await user.phase("Succeeded")
    assert job["status"]["artifact"]["uri"] == RESULT["artifactUri"]
    assert conditions(job)["Ready"] == ("True", "Succeeded")

    async def told() -> bool:
        return {"AttemptRunning", "Succeeded"} <= set(await user.events())

    await eventually(told, "events", user.dump)


async def test_a_job_starts_with_five_requests_and_one_for_the_account(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await user.apply()

    async def made() -> bool:
        return await user.names(JOBS) == ["tickets-1"]

    await eventually(made, "the Job", user.dump)
    assert operator.api.requests["create"] == 5
    assert operator.api.requests.total() <= 7
    await user.apply("second")

    async def both() -> bool:
        return await user.names(JOBS) == ["second-1", "tickets-1"]

    await eventually(both, "the second Job", user.dump)
    assert operator.api.requests["create"] == 9  # the account is there already


@pytest.mark.parametrize("nodes", [1, 2])
async def test_a_network_policy_that_is_edited_or_deleted_comes_back(
    user: ClusterUser, operator: OperatorUnderTest, nodes: int
) -> None:
    await attempt_runs(user, distributed={"nodes": nodes})
    (policy,) = (await user.api.list(NETWORK_POLICIES, NAMESPACE))["items"]
    name, spec = policy["metadata"]["name"], policy["spec"]

    async def as_made() -> bool:
        found = (await user.api.list(NETWORK_POLICIES, NAMESPACE))["items"]
        return [one["spec"] for one in found] == [spec]

    await user.api.patch(NETWORK_POLICIES, name, {"spec": {"egress": [{}]}}, NAMESPACE)
    await eventually(as_made, "the rules", user.dump)
    await user.api.delete(NETWORK_POLICIES, name, NAMESPACE)
    await eventually(as_made, "the policy", user.dump)


async def test_pods_without_peers_share_one_network_policy(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await asyncio.gather(*(user.apply(name, distributed={"nodes": 1}) for name in ("one", "two", "three")))
    for name in ("one", "two", "three"):
        await user.phase("Running", name)
    (policy,) = await user.names(NETWORK_POLICIES)
    await user.api.delete(FINE_TUNE_JOBS, "one", NAMESPACE)
    await user.gone(JOBS, "one-1")
    assert await user.names(NETWORK_POLICIES) == [policy]


async def test_meaningless_edits_cost_no_write(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    await quiet(user, operator)
    before = operator.api.requests.total()
    for number in range(50):
        await user.api.patch(FINE_TUNE_JOBS, "tickets", {"metadata": {"labels": {"n": str(number)}}}, NAMESPACE)

    async def seen() -> bool:
        cached = operator.caches.fine_tune_jobs.get(NAMESPACE, "tickets")
        return bool(cached and cached["metadata"].get("labels") == {"n": "49"})

    await eventually(seen, "the edits", user.dump)
    await quiet(user, operator)
    assert operator.api.requests.total() == before


async def test_an_invalid_spec_fails_and_starts_nothing(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(output=None)
    job = await user.phase("Failed")
    assert conditions(job)["Failed"] == ("True", "InvalidSpec")
    await user.edit(output={"storage": "s3://models"})
    await user.observed(2)
    assert (await user.job())["status"]["phase"] == "Failed"
    for kind in CHILDREN:
        assert await user.names(kind) == []


async def test_a_pod_template_that_kubernetes_refuses_fails_the_job(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await user.apply(podTemplate={"spec": {"containers": [{"name": "trainer", "imagePullPolicy": "Sometimes"}]}})
    job = await user.phase("Failed")
    assert conditions(job)["Failed"] == ("True", "InvalidSpec")
    failed = next(c for c in job["status"]["conditions"] if c["type"] == "Failed")
    assert "imagePullPolicy" in failed["message"]
    assert await user.names(JOBS) == []


async def test_what_keeps_pods_from_running_is_shown(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(resources={"requests": {"cpu": "10k"}})

    async def shown() -> bool:
        status = (await user.job()).get("status") or {}
        return any(
            c["type"] == "Running" and c["reason"] == "Unschedulable" and "Insufficient cpu" in c["message"]
            for c in status.get("conditions", [])
        )

    await eventually(shown, "Unschedulable", user.dump)


async def test_a_missing_claim_is_waited_for(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(checkpoint={"storage": "pvc://later/c"})
    job = await user.phase("Pending")
    assert conditions(job)["Validated"] == ("False", "PersistentVolumeClaimNotFound")
    assert await user.names(JOBS) == []
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "later"}, "spec": spec}
    await user.api.create(PERSISTENT_VOLUME_CLAIMS, claim, NAMESPACE)
    await user.phase("Running")


async def test_a_queue_holds_the_job_back_and_takes_it_back(user: ClusterUser, operator: OperatorUnderTest) -> None:
    """With a Job that is let go, and suspended again, as Kueue does it."""
    await user.apply(queueName="team-a")
    await user.phase("Queued")
    assert await user.pods() == []
    await suspend(user, "tickets-1", False)
    await user.phase("Running")
    await suspend(user, "tickets-1", True)
    job = await user.phase("Queued", attempt=2)
    assert job["status"]["attempts"][0]["cause"] == "Preempted"
    await suspend(user, "tickets-2", False)
    await user.phase("Running", attempt=2)


async def suspend(user: ClusterUser, name: str, suspended: bool) -> None:
    async def made() -> bool:
        return name in await user.names(JOBS)

    await eventually(made, name, user.dump)
    await user.api.patch(JOBS, name, {"spec": {"suspend": suspended}}, NAMESPACE)


async def test_a_job_of_another_controller_is_left_alone(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply("remote", managedBy="kueue.x-k8s.io/multikueue")
    await user.apply("ours")
    await user.phase("Running", "ours")
    assert "status" not in await user.job("remote")
    with pytest.raises(ApiError, match="managedBy is fixed at creation"):
        await user.edit("remote", managedBy=None)


async def test_a_lost_pod_restarts_the_gang_from_the_checkpoint(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    await user.report_checkpoint(40)
    first = await user.pods()
    await user.api.delete(PODS, first[1]["metadata"]["name"], NAMESPACE)
    job = await attempt_runs(user, 2)
    old, new = job["status"]["attempts"]
    assert (old["cause"], old["rank"]) == ("PodLost", 1)
    assert new["resumedFromStep"] == 40
    assert job["status"]["restarts"] == {"total": 1, "byCause": {"PodLost": 1}}
    assert await user.names(JOBS) == ["tickets-2"]
    assert await user.names(SERVICES) == ["tickets-2"]
    await user.finish_gang(2)
    await user.phase("Succeeded")


async def test_two_gangs_never_exist_at_once(cluster: Cluster, user: ClusterUser, operator: OperatorUnderTest) -> None:
    """Every pod of an attempt is gone before the next one's Job is made."""
    await attempt_runs(user)
    overlaps: list[Any] = []

    def check(old: Any, new: Any) -> None:
        if old is None and new is not None:
            pods = operator.caches.pods.list()
            numbers = {pod["metadata"]["labels"]["finetune-operator.io/attempt"] for pod in pods}
            if numbers - {new["metadata"]["labels"]["finetune-operator.io/attempt"]}:
                overlaps.append((new["metadata"]["name"], numbers))

    operator.caches.jobs.add_handler(check)
    overlaps.clear()
    for number in (1, 2):
        pods = await user.pods(number)
        await user.end_pod(pods[0], 1, last_words("Crash", "x"))
        await attempt_runs(user, number + 1)
    assert overlaps == []


async def test_the_budget_runs_out(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(failurePolicy={"backoffSeconds": 0, "maxRestarts": {"infrastructure": 1}})
    for number in (1, 2):
        await user.phase("Running", attempt=number)
        pods = await user.pods(number)
        await user.end_pod(pods[1], 1, last_words("Crash", "CUDA error", 1))
    job = await user.phase("Failed")
    assert conditions(job)["Failed"] == ("True", "RestartsExhausted")
    assert [a["cause"] for a in job["status"]["attempts"]] == ["Crash", "Crash"]


async def test_user_errors_are_not_tried_again(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    await user.end_pod((await user.pods())[0], 3, last_words("DataError", "train.jsonl:7: not JSON"))
    job = await user.phase("Failed")
    (attempt,) = job["status"]["attempts"]
    assert (attempt["cause"], attempt["exitCode"]) == ("BadData", 3)
    assert attempt["lastLogLines"] == "train.jsonl:7: not JSON"


async def test_suspend_and_resume(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    await user.edit(suspend=True)

    async def stopped() -> bool:
        job = await user.job()
        return conditions(job).get("Suspended") == ("True", "Suspended")

    await eventually(stopped, "Suspended", user.dump)
    assert await user.names(PODS) == []
    await user.edit(suspend=False)
    job = await attempt_runs(user, 2)
    assert job["status"]["restarts"]["total"] == 0
    assert job["status"]["attempts"][0]["cause"] == "Suspended"


async def test_a_job_whose_name_no_label_can_hold_ends_and_starts_as_others(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    name = "llama-3.1-8b-instruct-" + "tickets-of-the-support-" * 3 + "2026"
    await user.apply(name)
    await user.phase("Running", name)
    await user.edit(name, suspend=True)
    await user.phase("Suspended", name)
    await user.edit(name, suspend=False)
    await user.phase("Running", name, attempt=2)


async def test_an_edit_after_the_start_is_ignored_also_by_later_attempts(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await attempt_runs(user)
    await user.edit(distributed={"nodes": 1})
    job = await user.observed(2)
    assert conditions(job)["Validated"] == ("True", "SpecChangeIgnored")
    await user.api.delete(PODS, (await user.pods())[0]["metadata"]["name"], NAMESPACE)
    await attempt_runs(user, 2)
    assert len(await user.pods(2)) == 2


async def test_a_runtime_is_waited_for_and_then_kept(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(runtimeRef={"name": "gpu"}, output=None)

    async def waits() -> bool:
        status = (await user.job()).get("status") or {}
        return any(c["reason"] == "RuntimeNotFound" for c in status.get("conditions", []))

    await eventually(waits, "RuntimeNotFound", user.dump)
    runtime = {
        "apiVersion": CLUSTER_TRAINING_RUNTIMES.api_version,
        "kind": "ClusterTrainingRuntime",
        "metadata": {"name": "gpu"},
        "spec": {"trainerImage": "old:1", "output": {"storage": "s3://o"}},
    }
    await user.api.create(CLUSTER_TRAINING_RUNTIMES, runtime)
    await user.phase("Running", attempt=1)
    await user.api.patch(CLUSTER_TRAINING_RUNTIMES, "gpu", {"spec": {"trainerImage": "new:2"}})
    await user.api.delete(PODS, (await user.pods())[0]["metadata"]["name"], NAMESPACE)
    await user.phase("Running", attempt=2)
    assert {pod["spec"]["containers"][0]["image"] for pod in await user.pods(2)} == {"old:1"}


async def test_the_deadline_ends_the_job(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(activeDeadlineSeconds=2)
    job = await user.phase("Failed")
    assert conditions(job)["Failed"] == ("True", "DeadlineExceeded")
    await user.gone(JOBS, "tickets-1")


async def test_ttl_removes_the_job_and_its_children_but_not_the_model(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await attempt_runs(user, ttlSecondsAfterFinished=1, **PUBLISH)
    await user.finish_gang()
    await user.gone(FINE_TUNE_JOBS, "tickets")
    for kind in CHILDREN:
        await user.gone(kind, "tickets-1")
    assert await user.names(MODEL_VERSIONS) == ["tickets-ab12"]


async def test_a_job_deleted_while_it_trains_leaves_nothing(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    await user.api.delete(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    for kind in CHILDREN:
        await user.gone(kind, "tickets-1")

    async def no_pods() -> bool:
        return await user.names(PODS) == []

    await eventually(no_pods, "no pods", user.dump)


async def test_a_missed_gate_publishes_nothing(user: ClusterUser, operator: OperatorUnderTest) -> None:
    gate = {"gate": [{"metric": "f1", "operator": ">=", "value": 0.95}]}
    await attempt_runs(user, evaluation=gate, deploy={"name": "tickets"}, **PUBLISH)
    await user.finish_gang()
    job = await user.phase("Failed")
    assert conditions(job)["Evaluated"] == ("False", "GateFailed")
    assert job["status"]["gates"][0]["message"] == "f1 is 0.91, required >= 0.95: missed by 0.04"
    assert await user.names(MODEL_VERSIONS) == await user.names(MODEL_DEPLOYMENTS) == []


async def test_publish_and_deploy(user: ClusterUser, operator: OperatorUnderTest) -> None:
    gate = {"gate": [{"metric": "f1", "baseline": "Deployed"}]}
    await attempt_runs(user, evaluation=gate, deploy={"name": "tickets", "template": {"replicas": 2}}, **PUBLISH)
    await user.finish_gang()
    job = await user.phase("Succeeded")
    assert job["status"]["modelVersion"] == "tickets-ab12"
    assert conditions(job)["Published"] == ("True", "Published")
    version = await user.api.get(MODEL_VERSIONS, "tickets-ab12", NAMESPACE)
    assert version["spec"]["artifact"]["digest"] == RESULT["artifactDigest"]
    deployment = await user.api.get(MODEL_DEPLOYMENTS, "tickets", NAMESPACE)
    assert deployment["spec"]["replicas"] == 2


async def test_deploy_leaves_an_existing_deployment_alone(user: ClusterUser, operator: OperatorUnderTest) -> None:
    theirs = {
        "apiVersion": MODEL_DEPLOYMENTS.api_version,
        "kind": "ModelDeployment",
        "metadata": {"name": "tickets", "namespace": NAMESPACE},
        "spec": {"modelName": "tickets", "replicas": 5},
    }
    made = await user.api.create(MODEL_DEPLOYMENTS, theirs, NAMESPACE)
    await attempt_runs(user, deploy={"name": "tickets"}, **PUBLISH)
    await user.finish_gang()
    await user.phase("Succeeded")
    assert await user.api.get(MODEL_DEPLOYMENTS, "tickets", NAMESPACE) == made


async def test_a_version_of_another_job_keeps_its_name(user: ClusterUser, operator: OperatorUnderTest) -> None:
    """Another artifact with the same first digits: the name gets longer, nothing is overwritten."""
    other = {
        "apiVersion": MODEL_VERSIONS.api_version,
        "kind": "ModelVersion",
        "metadata": {"name": "tickets-ab12", "namespace": NAMESPACE},
        "spec": {
            "modelName": "other",
            "artifact": {"uri": "s3://x", "digest": "sha256:" + "0" * 64},
            "task": "TextClassification",
            "job": {"name": "other", "uid": "another"},
        },
    }
    made = await user.api.create(MODEL_VERSIONS, other, NAMESPACE)
    await attempt_runs(user, **PUBLISH)
    await user.finish_gang()
    job = await user.phase("Succeeded")
    assert job["status"]["modelVersion"] == "tickets-ab12ab12ab12"
    assert await user.api.get(MODEL_VERSIONS, "tickets-ab12", NAMESPACE) == made


async def test_an_object_of_someone_else_is_never_taken(user: ClusterUser, operator: OperatorUnderTest) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "tickets-1", "namespace": NAMESPACE},
        "data": {"precious": "1"},
    }
    made = await user.api.create(CONFIG_MAPS, theirs, NAMESPACE)
    await user.apply()

    async def told() -> bool:
        status = (await user.job()).get("status") or {}
        return any(c["reason"] == "CreateFailed" for c in status.get("conditions", []))

    await eventually(told, "CreateFailed", user.dump)
    assert await user.api.get(CONFIG_MAPS, "tickets-1", NAMESPACE) == made
    await user.api.delete(CONFIG_MAPS, "tickets-1", NAMESPACE)
    await user.phase("Running")


async def test_a_service_that_someone_deletes_does_not_disturb_the_gang(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await attempt_runs(user)
    await user.api.delete(SERVICES, "tickets-1", NAMESPACE)

    async def healed() -> bool:
        return await user.names(SERVICES) == ["tickets-1"]

    await eventually(healed, "the Service", user.dump)
    assert (await user.job())["status"]["attempt"] == 1


async def test_what_somebody_else_calls_a_jobs_own_is_not_believed(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    """Who may make ConfigMaps and Jobs may also write owner references."""
    remote_code = {"source": "hf://a/b", "trustRemoteCode": True}
    job = await user.apply("forged", model=remote_code, runtimeRef={"name": "gpu"})
    metadata = {
        "name": "0-first-of-all",
        "namespace": NAMESPACE,
        "labels": {LABEL_JOB: "forged", LABEL_ATTEMPT: "first"},
        "ownerReferences": [owner_reference("forged", job["metadata"]["uid"])],
    }
    pod = {"restartPolicy": "Never", "containers": [{"name": "any", "image": "any"}]}
    gang = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}
    await user.api.create(JOBS, gang | {"spec": {"suspend": True, "template": {"spec": pod}}}, NAMESPACE)
    runtime = {"allowTrustRemoteCode": True, "network": {"isolation": "None"}}
    for name, text in (("0-garbage", "garbage"), ("1-runtime", Snapshot(job["spec"], runtime, {}).dump())):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"name": name}}
        await user.api.create(CONFIG_MAPS, body | {"data": {SNAPSHOT_KEY: text}}, NAMESPACE)
    await user.edit("forged", ttlSecondsAfterFinished=100_000)
    waiting = await user.observed(2, "forged")
    assert conditions(waiting)["Validated"] == ("False", "RuntimeNotFound")
    body = {"apiVersion": FINE_TUNE_JOBS.api_version, "kind": "ClusterTrainingRuntime", "metadata": {"name": "gpu"}}
    await user.api.create(CLUSTER_TRAINING_RUNTIMES, body | {"spec": {}})
    refused = await user.phase("Failed", "forged")
    assert conditions(refused)["Failed"] == ("True", "InvalidSpec")
    assert refused["status"].get("attempt", 0) == 0
