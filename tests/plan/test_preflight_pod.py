"""While the first gang of a job waits for its place, a pod without GPUs looks instead of pod 0."""

import json
from dataclasses import replace
from typing import Any

import pytest

from finetune_api.names import ENV_MEMORY_LIMIT, ENV_PROGRESS_URL, LABEL_ATTEMPT, LABEL_NETWORK
from finetune_operator.plan.basis import basis
from finetune_operator.plan.evidence import Evidence, event_facts
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.network_policy import network_policy_spec
from finetune_operator.plan.observation import NO_ATTEMPT, observe_attempt
from finetune_operator.plan.preflight import PATIENCE
from finetune_operator.plan.preflight_pod import preflight_job
from finetune_operator.plan.world import Create, Delete, Plan, World
from plan.builders import (
    NOW,
    SETTINGS,
    UID,
    condition,
    created,
    deleted,
    follow,
    indexed_job,
    job,
    message,
    pod,
    reasons,
    snapshot_of,
    world,
)

Resource = dict[str, Any]
LOOK = "Job/tickets-preflight"
SOON, LATER = 1.0, PATIENCE.total_seconds() + 1
BOUND = {"bound_claims": frozenset({"data"})}
PASSED = {"status": "True", "reason": "Passed", "message": "all there"}
WRONG = {"status": "False", "reason": "DataError", "message": "dataset.train.source: d is empty"}
GPU = {"limits": {"nvidia.com/gpu": 1, "memory": "8Gi"}}


def started(**changes: Any) -> Resource:
    item = job(**changes)
    return follow(item, plan_job(world(item, api_groups=frozenset({"kueue.x-k8s.io"}))))


def held() -> Resource:
    return indexed_job(Suspended="JobSuspended: waiting") | {"spec": {"suspend": True}}


def unschedulable() -> list[Resource]:
    return [pod(rank, phase="Pending", unschedulable="0/3 nodes have a GPU") for rank in (0, 1)]


def seen(item: Resource, after: float, pods: list[Resource] | None = None, **more: Any) -> World:
    batch_job = held() if pods is None else indexed_job()
    return world(item, [batch_job], pods, after, snapshot=snapshot_of(item), **BOUND | more)


def looking(
    *, reported: Resource | None = None, waiting: Resource | None = None, **job_conditions: str
) -> dict[str, Any]:
    """The Job that looks, as the cache shows it, and what its pod said."""
    batch_job = indexed_job(**job_conditions)
    batch_job["metadata"] |= {"name": "tickets-preflight", "labels": {}, "uid": "look"}
    pods = [pod(-1, phase="Pending", waiting=waiting)] if waiting else [pod(-1)]
    if reported is not None:
        words = json.dumps({"outcome": "Succeeded", "preflight": reported})
        pods = [pod(-1, phase="Succeeded", terminated={"exitCode": 0, "message": words})]
    for one in pods:
        one["metadata"]["labels"].pop(LABEL_ATTEMPT)
    return {"preflight": observe_attempt(NO_ATTEMPT, [batch_job], pods)}


def built(**changes: Any) -> Resource:
    base = basis(world(job(**changes), runtime={"spec": RUNTIME}))
    return preflight_job(base.job, 1, SETTINGS)


RUNTIME = {
    "podTemplate": {
        "metadata": {"labels": {"azure.workload.identity/use": "true"}},
        "spec": {
            "nodeSelector": {"gpu": "h100", "kubernetes.io/arch": "amd64"},
            "affinity": {"nodeAffinity": {}},
            "runtimeClassName": "nvidia",
            "priorityClassName": "high",
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "initContainers": [{"name": "certificates", "image": "i", "resources": {"limits": {"rdma/ib": 1}}}],
        },
    }
}


@pytest.mark.parametrize("pods", [None, unschedulable()], ids=["held by a queue", "unschedulable"])
def test_a_gang_that_is_not_placed_at_once_is_looked_for_by_another_pod(pods: list[Resource] | None) -> None:
    item = started(queueName="team-a") if pods is None else started()
    early = plan_job(seen(item, SOON, pods))
    assert LOOK not in created(early)
    assert early.requeue_after is not None
    assert early.requeue_after <= PATIENCE.total_seconds()
    late = plan_job(seen(item, LATER, pods))
    assert [made for made in created(late) if made.startswith("Job/")] == [LOOK]
    assert condition(late, "Preflight") == ("Unknown", "Pending")
    (write,) = [one for one in late.writes if isinstance(one, Create) and one.body["kind"] == "Job"]
    assert write.dispensable
    assert LOOK not in created(plan_job(seen(item, LATER + 9, pods, **looking())))


@pytest.mark.parametrize("told", [PASSED, WRONG, {"status": "True", "reason": "MemoryShort", "message": "9 GiB"}])
def test_what_it_found_becomes_the_condition_while_the_job_goes_on_waiting(told: Resource) -> None:
    item = started(queueName="team-a")
    plan = plan_job(seen(item, LATER, **looking(reported=told)))
    assert condition(plan, "Preflight") == (told["status"], told["reason"])
    assert message(plan, "Preflight") == told["message"]
    assert plan.status["phase"] == "Queued"
    assert ("PreflightFailed" in reasons(plan)) is (told["status"] == "False")
    gone = plan_job(seen(follow(item, plan), LATER + 700))
    assert LOOK not in created(gone), "it looks once, also when its Job has expired"


def test_one_that_cannot_look_says_so_once() -> None:
    item = started(queueName="team-a")
    plan = plan_job(
        seen(item, 400, **looking(Failed="DeadlineExceeded: Job was active longer than specified deadline"))
    )
    assert condition(plan, "Preflight") == ("Unknown", "NotPossible")
    assert "DeadlineExceeded" in message(plan, "Preflight")


def test_one_that_cannot_start_says_what_is_missing() -> None:
    item = started(queueName="team-a")
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}
    plan = plan_job(seen(item, LATER, **looking(waiting=missing)))
    assert condition(plan, "Preflight") == ("Unknown", "Pending")
    assert 'CreateContainerConfigError: pod tickets-1--1-abcde: secret "s3" not found' in message(plan, "Preflight")
    read = plan_job(seen(follow(item, plan), LATER + 9, **looking(reported=PASSED)))
    assert condition(read, "Preflight") == ("True", PASSED["reason"])


def test_what_keeps_the_gangs_pods_from_being_made_is_no_trouble_of_the_one_that_looks() -> None:
    quota = event_facts({"reason": "FailedCreate", "note": "exceeded quota", "regarding": {"name": "tickets-1"}})
    plan = plan_job(seen(started(queueName="team-a"), LATER, evidence=Evidence(events=(quota,))))
    assert LOOK in created(plan)
    assert "exceeded quota" not in message(plan, "Preflight")


def test_it_is_not_the_first_to_use_a_volume() -> None:
    item = started()
    plan = plan_job(seen(item, LATER, unschedulable(), bound_claims=frozenset({"work"})))
    assert LOOK not in created(plan)
    assert "'data' has no volume yet" in message(plan, "Preflight")
    later = plan_job(seen(follow(item, plan), LATER + 30, unschedulable()))
    assert LOOK in created(later)


def test_a_gang_that_has_its_place_needs_no_other_pod() -> None:
    item = started()
    starting = [pod(0, phase="Pending", waiting={"reason": "ErrImagePull"}), pod(1)]
    for pods in (starting, [pod(0), pod(1)]):
        plan = plan_job(seen(item, LATER, pods))
        assert LOOK not in created(plan)
        plan = plan_job(seen(item, LATER, pods, **looking()))
        assert LOOK in deleted(plan)
    assert deletions(plan_job(seen(item, LATER, [pod(0), pod(1)], **looking(reported=PASSED)))) == []


def deletions(plan: Plan) -> list[str]:
    return [write.name for write in plan.writes if isinstance(write, Delete)]


@pytest.mark.parametrize("read", [True, False], ids=["read", "never read"])
def test_what_an_earlier_gang_read_need_not_be_looked_at_again(read: bool) -> None:
    item = started()
    item["status"] |= ({"progress": {"attempt": 1, "stage": "Preparing"}} if read else {}) | {
        "attempt": 2,
        "attempts": [*item["status"]["attempts"], {"number": 2, "cause": "", "reason": ""}],
    }
    pods = [pod(rank, 2, phase="Pending", unschedulable="no room") for rank in (0, 1)]
    plan = plan_job(world(item, [indexed_job(2)], pods, LATER, snapshot=snapshot_of(item), **BOUND))
    assert (LOOK in created(plan)) is not read
    still = looking(reported=WRONG)["preflight"]
    ending = replace(still, pods=tuple(replace(one, deleting_at=NOW) for one in still.pods))
    told = plan_job(world(item, [indexed_job(2)], pods, LATER, snapshot=snapshot_of(item), preflight=ending, **BOUND))
    assert condition(told, "Preflight") == ("Unknown", "Pending"), "what was stopped with the gang before tells nothing"


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({"suspend": True}, "Suspended"),
        ({"activeDeadlineSeconds": 5}, "Failed"),
        ({"startDeadlineSeconds": 5, "failurePolicy": {"maxRestarts": {"infrastructure": 0}}}, "Failed"),
        ({"startDeadlineSeconds": 5}, "Restarting"),
    ],
)
def test_it_ends_with_the_gang_that_it_looks_for(changes: Resource, phase: str) -> None:
    item = started(**{name: value for name, value in changes.items() if name != "suspend"})
    item["spec"] |= changes
    plan = plan_job(seen(item, 2 * LATER, unschedulable(), **looking()))
    assert (plan.status["phase"], LOOK in deleted(plan)) == (phase, True)


def test_none_looks_while_the_job_rests() -> None:
    item = started()
    item["spec"]["suspend"] = True
    item = follow(item, plan_job(seen(item, LATER, unschedulable())))
    plan = plan_job(world(item, [], [], LATER + 9, snapshot=snapshot_of(item), **looking()))
    assert (condition(plan, "Suspended"), deleted(plan)) == (("True", "Suspended"), [LOOK])


def test_it_goes_with_the_job() -> None:
    (owner,) = built()["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (UID, True)


def test_it_takes_no_gpu_and_no_place_of_the_gang() -> None:
    spec = built(resources=GPU, runtimeRef={"name": "r"})["spec"]["template"]["spec"]
    trainer, before = spec["containers"][0], spec["initContainers"][0]
    assert "nvidia.com/gpu" not in str(trainer["resources"])
    assert before["resources"] == {"limits": {}}
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in spec["tolerations"]
    assert not {"affinity", "runtimeClassName", "priorityClassName", "subdomain"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert trainer["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("nodes", [1, 2])
def test_it_speaks_to_what_the_gang_speaks_to_and_is_none_of_its_pods(nodes: int) -> None:
    changes = {"runtimeRef": {"name": "r"}, "distributed": {"nodes": nodes}}
    base = basis(world(job(**changes), runtime={"spec": RUNTIME}))
    labels = built(**changes)["spec"]["template"]["metadata"]["labels"]
    policy = network_policy_spec(base.job, SETTINGS)
    assert policy is not None
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert LABEL_ATTEMPT not in labels
    assert LABEL_NETWORK in labels
    assert labels["azure.workload.identity/use"] == "true"


def test_it_reads_what_the_gang_reads_with_the_gangs_memory_and_credentials_in_mind() -> None:
    changes = {"resources": GPU, "runtimeRef": {"name": "r"}, "credentials": {"secretName": "s3"}}
    spec = built(**changes)["spec"]["template"]["spec"]
    trainer = spec["containers"][0]
    assert trainer["command"][-1] == "--preflight"
    assert trainer["envFrom"] == [{"secretRef": {"name": "s3"}}]
    env = {one["name"]: one.get("value") for one in trainer["env"]}
    assert env[ENV_MEMORY_LIMIT] == str(8 * 2**30)
    assert ENV_PROGRESS_URL not in env
    claims = [one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "persistentVolumeClaim" in one]
    assert claims == ["data"], "that of the checkpoints is only written"
    (mount,) = [one for one in trainer["volumeMounts"] if one["name"] == "pvc-data"]
    assert mount["readOnly"] is True
    assert {one["name"] for one in trainer["volumeMounts"]} <= {one["name"] for one in spec["volumes"]}


@pytest.mark.parametrize("scheduler", ["Volcano", "Coscheduling", "Native"])
def test_no_gang_scheduler_takes_it_for_one_of_the_gang(scheduler: str) -> None:
    base = basis(world(job(runtimeRef={"name": "r"}), runtime={"spec": {"scheduler": scheduler}}))
    template = preflight_job(base.job, 1, SETTINGS)["spec"]["template"]
    assert not {"schedulerName", "schedulingGroup"} & template["spec"].keys()
    named = [*template["metadata"]["labels"], *template["metadata"]["annotations"]]
    assert not [name for name in named if "scheduling" in name]
