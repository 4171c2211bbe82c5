"""Gangs that Kueue, Volcano or the coscheduling plugin places."""

from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.attempt import attempt_objects
from finetune_operator.plan.basis import basis
from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.plan.validation import InvalidSpec, validate
from finetune_operator.schedulers.registry import SCHEDULERS
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
    spec,
    world,
)
from plan.story import Story

Resource = dict[str, Any]
QUEUED = {"queueName": "team-a"}
KUEUE = frozenset({"kueue.x-k8s.io"})


def objects(runtime: Resource | None = None, **changes: Any) -> list[Resource]:
    named = {"runtimeRef": {"name": "r"}} if runtime is not None else {}
    base = basis(world(job(**(changes | named)), runtime={"spec": runtime} if runtime is not None else None))
    return attempt_objects(base.job, base.snapshot, 1, SETTINGS)


def test_without_a_queue_nothing_is_added() -> None:
    *_, batch_job = objects()
    assert "suspend" not in batch_job["spec"]
    assert "schedulerName" not in batch_job["spec"]["template"]["spec"]


def test_a_queue_means_kueue_which_lets_the_suspended_job_go() -> None:
    *_, batch_job = objects(**QUEUED)
    assert batch_job["spec"]["suspend"] is True
    assert batch_job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert objects(runtime={"queueName": "shared"})[-1]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "shared"


def test_volcano_gets_a_pod_group_of_all_nodes_with_queue_and_priority() -> None:
    runtime = {"scheduler": "Volcano", "podTemplate": {"spec": {"priorityClassName": "batch"}}}
    _, _, group, batch_job = objects(runtime=runtime, **QUEUED)
    assert (group["apiVersion"], group["kind"]) == ("scheduling.volcano.sh/v1beta1", "PodGroup")
    assert group["spec"] == {"minMember": 2, "queue": "team-a", "priorityClassName": "batch"}
    assert group["metadata"]["ownerReferences"][0]["uid"] == UID
    template = batch_job["spec"]["template"]
    assert template["spec"]["schedulerName"] == "volcano"
    assert template["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == group["metadata"]["name"]
    assert "suspend" not in batch_job["spec"]


def test_coscheduling_gets_a_pod_group_and_its_label() -> None:
    _, _, group, batch_job = objects(runtime={"scheduler": "Coscheduling"})
    assert (group["apiVersion"], group["spec"]["minMember"]) == ("scheduling.x-k8s.io/v1alpha1", 2)
    template = batch_job["spec"]["template"]
    assert template["spec"]["schedulerName"] == "scheduler-plugins-scheduler"
    assert template["metadata"]["labels"]["scheduling.x-k8s.io/pod-group"] == group["metadata"]["name"]


@pytest.mark.parametrize(
    ("served", "version"),
    [
        ({"scheduling.k8s.io", "scheduling.k8s.io/v1", "scheduling.k8s.io/v1beta1"}, "v1beta1"),
        ({"scheduling.k8s.io/v1alpha2", "scheduling.k8s.io/v1alpha3"}, "v1alpha3"),
        ({"scheduling.k8s.io/v1", "scheduling.k8s.io/v1alpha2"}, "v1alpha2"),
        (None, "v1beta1"),
    ],
)
def test_the_clusters_own_scheduler_gets_a_pod_group_in_the_version_that_it_has(
    served: set[str] | None, version: str
) -> None:
    runtime = {"scheduler": "Native", "podTemplate": {"spec": {"priorityClassName": "batch"}}}
    around = {"api_groups": served if served is None else frozenset(served), "runtime": {"spec": runtime}}
    base = basis(world(job(runtimeRef={"name": "r"}), **around))
    *_, group, batch_job = attempt_objects(base.job, base.snapshot, 1, SETTINGS)
    assert (group["apiVersion"], group["kind"]) == (f"scheduling.k8s.io/{version}", "PodGroup")
    assert group["spec"] == {"schedulingPolicy": {"gang": {"minCount": 2}}, "priorityClassName": "batch"}
    assert group["metadata"]["ownerReferences"][0]["uid"] == UID
    pod_spec = batch_job["spec"]["template"]["spec"]
    assert pod_spec["schedulingGroup"] == {"podGroupName": group["metadata"]["name"]}
    assert "schedulerName" not in pod_spec


def test_placement_comes_from_the_runtimes_pod_template() -> None:
    placement = {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "schedulerName": "my-volcano",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
    }
    *_, batch_job = objects(runtime={"scheduler": "Volcano", "podTemplate": {"spec": placement}})
    placed = batch_job["spec"]["template"]["spec"]
    assert placement.pop("tolerations")[0] in placed["tolerations"]
    assert placement.items() <= placed.items()


@pytest.mark.parametrize(
    ("changes", "runtime", "text"),
    [
        ({}, {"scheduler": "Kueue"}, "spec.queueName: required, since the runtime's scheduler is Kueue"),
        (QUEUED, {"scheduler": "Coscheduling"}, "Coscheduling has no queues; remove it (got 'team-a')"),
        (QUEUED, {"scheduler": "Default"}, "Default has no queues"),
        (QUEUED, {"scheduler": "Native"}, "Native has no queues"),
    ],
)
def test_a_queue_and_a_scheduler_must_fit(changes: Resource, runtime: Resource, text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        validate(spec(**changes), runtime)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("runtime", "changes", "named"),
    [
        (None, QUEUED, "spec.queueName: Kueue is not installed"),
        ({"scheduler": "Volcano"}, {}, "runtime.spec.scheduler: Volcano is not installed"),
        ({"scheduler": "Coscheduling"}, {}, "does not serve scheduling.x-k8s.io"),
        ({"scheduler": "Native"}, {}, "does not serve scheduling.k8s.io/v1beta1 or scheduling.k8s.io/v1alpha3 or"),
    ],
)
def test_a_scheduler_that_is_not_there_is_waited_for(runtime: Resource | None, changes: Resource, named: str) -> None:
    reference = {"runtimeRef": {"name": "r"}} if runtime is not None else {}
    waiting = job(**(changes | reference))
    around = {"runtime": {"spec": runtime}} if runtime is not None else {}
    plan = plan_job(world(waiting, api_groups=frozenset({"apps", "scheduling.k8s.io"}), **around))
    assert condition(plan, "Validated") == ("False", "SchedulerNotFound")
    assert named in message(plan, "Validated")
    assert (plan.writes, plan.requeue_after) == ((), 30)
    everything = frozenset(scheduler.apis[0] for scheduler in SCHEDULERS.values() if scheduler.apis)
    assert created(plan_job(world(follow(waiting, plan), api_groups=everything, **around)))


def held(suspended: bool, number: int = 1) -> Resource:
    return indexed_job(number) | {"spec": {"suspend": suspended}}


def queued(**changes: Any) -> Story:
    return Story({"api_groups": KUEUE}, **QUEUED, **changes)


def test_time_in_the_queue_does_not_count_for_the_deadline() -> None:
    story = queued(activeDeadlineSeconds=100)
    story.step([])
    assert story.step([held(True)], seconds=3600).status["phase"] == "Queued"
    let_go = story.step([held(False)])
    assert let_go.status["suspendedSeconds"] == 3610
    assert story.step([held(False)], [pod(0), pod(1)], seconds=90).status["phase"] == "Running"
    over = story.step([held(False)], [pod(0), pod(1)], seconds=11)
    assert condition(over, "Failed") == ("True", "DeadlineExceeded")


def test_time_suspended_in_the_queue_is_not_counted_twice() -> None:
    story = queued(activeDeadlineSeconds=100)
    story.step([])
    story.item["spec"]["suspend"] = True
    story.step([held(True)], seconds=50)
    story.step([], seconds=50)
    story.item["spec"]["suspend"] = False
    story.step([], seconds=50)
    assert story.step([held(False, 2)], seconds=50).status["suspendedSeconds"] == 200


def test_a_gang_waits_in_the_queue_runs_and_queues_again_when_it_must_yield() -> None:
    story = queued()
    started = story.step([])
    assert created(started)[-1] == "Job/tickets-1"
    waiting = story.step([held(True)])
    for plan in (started, waiting):
        assert plan.status["phase"] == "Queued"
        assert condition(plan, "Admitted") == ("False", "Queued")
        assert "Kueue holds the Job until the queue 'team-a' has room for 2 pods" in message(plan, "Ready")
    patient = story.step([held(True)], seconds=3600)  # however long it takes
    assert "Job/tickets-1" not in created(patient)
    assert (deleted(patient), patient.status["phase"]) == ([], "Queued")
    let_go = story.step([held(False)])
    assert condition(let_go, "Admitted") == ("True", "Admitted")
    assert let_go.status["phase"] == "Starting"
    assert "Admitted" in reasons(let_go)
    running = story.step([held(False)], [pod(0), pod(1)])
    assert running.status["phase"] == "Running"
    yielding = story.step([held(True)], [pod(0, deleting=NOW), pod(1, deleting=NOW)])
    assert yielding.status["attempts"][0]["cause"] == "Preempted"
    assert "the queue took the quota back" in yielding.status["attempts"][0]["reason"]
    again = yielding
    for _ in range(3):
        if len(again.status["attempts"]) == 2:
            break
        again = story.step([], seconds=600)
    assert again.status["restarts"] == {"total": 1, "byCause": {"Preempted": 1}}
    assert created(again)[-1] == "Job/tickets-2"
    assert condition(again, "Admitted") == ("False", "Queued")


def test_pods_that_are_seen_to_go_before_their_job_is_suspended_are_the_queues_all_the_same() -> None:
    """Jobs and pods come by watches of their own."""
    story = queued()
    story.step([])
    story.step([held(True)])
    story.step([held(False)], [pod(0), pod(1)])
    going = [pod(rank, deleting=NOW + timedelta(seconds=180)) for rank in (0, 1)]
    assert story.step([held(False)], going, seconds=1).status["attempts"][-1]["cause"] == "PodLost"
    plan = story.step([held(True)], going, seconds=1)
    assert plan.status["attempts"][-1]["cause"] == "Preempted"
    over = story.step([held(True)], seconds=300)
    assert over.status["restarts"]["byCause"] == {"Preempted": 1}


def test_a_job_that_names_no_queue_may_be_queued_all_the_same() -> None:
    """Kueue takes it where the namespace has a LocalQueue named default."""
    story = Story(activeDeadlineSeconds=100, startDeadlineSeconds=60)
    assert condition(story.step([]), "Admitted") == ("True", "NotQueued")
    waiting = story.step([held(True)])
    assert (waiting.status["phase"], condition(waiting, "Admitted")) == ("Queued", ("False", "Queued"))
    assert "LocalQueue named default" in message(waiting, "Ready")
    assert story.step([held(True)], seconds=3600).status["phase"] == "Queued"
    free = held(False)
    free["status"]["startTime"] = rfc3339(NOW + timedelta(seconds=3630))
    let_go = story.step([free])
    assert (condition(let_go, "Admitted"), let_go.status["suspendedSeconds"]) == (("True", "Admitted"), 3610)
    assert "Admitted" in reasons(let_go)
    assert story.step([free], [pod(0), pod(1)]).status["phase"] == "Running"
    yielding = story.step([held(True)], [pod(0, deleting=NOW), pod(1, deleting=NOW)])
    assert yielding.status["attempts"][-1]["cause"] == "Preempted"


def test_a_job_that_someone_suspends_while_it_runs_is_preempted() -> None:
    story = Story()
    story.step([])
    story.step([held(False)], [pod(0), pod(1)])
    assert story.step([held(True)], []).status["attempts"][-1]["cause"] == "Preempted"
    again = story.step([], seconds=600)
    again = story.step([], seconds=600)
    assert (condition(again, "Admitted"), created(again)[-1]) == (("True", "NotQueued"), "Job/tickets-2")
