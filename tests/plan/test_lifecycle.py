"""From the start of a job to its end: starts, suspensions, deadlines, edits."""

from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.lifecycle import plan_job
from plan.builders import (
    NOW,
    UID,
    condition,
    created,
    deleted,
    failed_pod,
    follow,
    indexed_job,
    job,
    message,
    pod,
    reasons,
    snapshot_of,
    world,
)
from plan.gangs import GANG, objects_of, parts, restarting, running, started, step

# Start


def test_the_first_attempt_is_written_down_and_made_in_one_step() -> None:
    plan = plan_job(world(job()))
    assert created(plan) == objects_of(1)
    assert plan.status["attempt"] == 1
    assert plan.status["phase"] == "Starting"
    assert plan.status["startTime"] == "2026-11-22T09:00:00Z"
    assert condition(plan, "Validated") == ("True", "Valid")
    assert condition(plan, "Admitted") == ("True", "NotQueued")
    assert condition(plan, "Reconciling") == ("True", "Starting")
    assert reasons(plan) == [], "nobody needs to be told that what was just applied starts"


def test_the_summary_says_what_a_job_waits_for() -> None:
    waiting = pod(
        0, phase="Pending", waiting={"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}
    )
    plan = step(started(), [indexed_job()], [waiting])
    for summary in ("Ready", "Reconciling"):
        assert 'secret "s3" not found' in message(plan, summary)
    assert message(step(running(), [indexed_job()], GANG), "Ready") == ""


def test_nothing_is_written_while_nothing_changes() -> None:
    item = running()
    plan = step(item, [indexed_job()], GANG, after=300)
    assert plan.status == item["status"]
    assert (plan.writes, plan.events) == ((), ())


def test_an_announced_attempt_whose_job_was_never_seen_is_made_again() -> None:
    item = started()
    plan = step(item)
    assert created(plan) == objects_of(1)
    assert plan.status == item["status"]


def test_an_announced_attempt_waits_for_the_pods_of_another_to_go() -> None:
    plan = step(started(), pods=[pod(0, number=7)])
    assert plan.writes == ()


def second_attempt(**status: Any) -> dict:
    """A job whose second gang runs."""
    item = running()
    second = {"number": 2, "nodes": 2, "cause": "", "reason": "", "startedAt": "2026-11-22T09:00:00Z"}
    item["status"] |= {"attempt": 2, "attempts": [*item["status"]["attempts"], second], **status}
    return item


@pytest.mark.parametrize("own", [indexed_job(2), indexed_job(2, Complete="x: y"), indexed_job(2, Failed="x: y")])
def test_a_gang_of_another_attempt_that_appears_late_is_stopped(own: dict) -> None:
    """Its creation was asked for, was answered with an error, and took effect after the restart."""
    strays = [indexed_job(1), indexed_job(3)]
    pods = [pod(0, 2), pod(1, 2), pod(0, 1)]
    gone = deleted(step(second_attempt(), [*strays, own], pods))
    assert [gone.count(f"Job/tickets-{number}") for number in (1, 3)] == [1, 1]
    leaving = [one | {"metadata": one["metadata"] | {"deletionTimestamp": "2026-11-22T09:00:09Z"}} for one in strays]
    assert not {"Job/tickets-1", "Job/tickets-3"} & set(deleted(step(second_attempt(), [*leaving, own], pods)))


def test_an_announced_attempt_is_not_held_up_by_a_gang_that_appears_late() -> None:
    item = second_attempt()
    del item["status"]["attempts"][-1]["startedAt"]
    plan = step(item, [indexed_job(1)], [pod(0, 1)])
    assert (deleted(plan), created(plan)) == (["Job/tickets-1"], [])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_part_that_someone_deleted_is_made_again(lost: int) -> None:
    plan = step(running(), [indexed_job()], GANG, parts=(parts(1)[1 - lost],))
    assert created(plan) == [["Service/tickets-1", "ConfigMap/tickets-1"][lost]]
    assert plan.status == running()["status"]


def test_pods_that_cannot_be_placed_say_why() -> None:
    pending = [pod(0), pod(1, phase="Pending", unschedulable="0/3 nodes: insufficient gpu")]
    plan = step(started(), [indexed_job()], pending)
    assert condition(plan, "Running") == ("False", "Unschedulable")
    assert message(plan, "Running") == "pod tickets-1-1-abcde: 0/3 nodes: insufficient gpu"
    assert plan.status["phase"] == "Starting"


def test_an_image_that_cannot_be_pulled_says_why_and_waits() -> None:
    waiting = pod(1, phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "manifest unknown"})
    plan = step(started(), [indexed_job()], [pod(0), waiting])
    assert condition(plan, "Running") == ("False", "ImagePullBackOff")
    assert plan.writes == ()


def test_running_means_that_every_pod_runs() -> None:
    assert step(started(), [indexed_job()], GANG[:1]).status["phase"] == "Starting"
    plan = step(started(), [indexed_job()], GANG)
    assert plan.status["phase"] == "Running"
    assert condition(plan, "Running") == ("True", "AttemptRunning")
    assert plan.status["attempts"][0]["startedAt"] == "2026-11-22T09:00:00Z"
    assert reasons(plan) == ["AttemptRunning"]


def test_pods_that_end_one_after_the_other_leave_the_job_running() -> None:
    plan = step(running(), [indexed_job()], [GANG[0], pod(1, phase="Succeeded", terminated={"exitCode": 0})])
    assert plan.status["phase"] == "Running"
    assert plan.events == ()


# Pods that do not start


def test_pods_that_do_not_start_in_time_give_up_what_they_hold_and_are_tried_again() -> None:
    item = started(startDeadlineSeconds=60)
    pods = [pod(0), pod(1, phase="Pending", unschedulable="0/3 nodes: insufficient gpu")]
    early = step(item, [indexed_job()], pods, after=20)
    assert (early.writes, early.requeue_after) == ((), 40)
    plan = step(item, [indexed_job()], pods, after=60, parts=parts(1))
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert plan.status["attempts"][0]["cause"] == "Unschedulable"
    assert "spec.startDeadlineSeconds (60)" in plan.status["attempts"][0]["reason"]
    assert plan.status["restarts"]["byCause"] == {"Unschedulable": 1}


def test_the_start_deadline_is_over_once_all_pods_run() -> None:
    item = running(startDeadlineSeconds=60)
    assert step(item, [indexed_job()], GANG, after=600).status["phase"] == "Running"


def test_the_start_deadline_does_not_count_the_time_in_a_queue() -> None:
    item, queued = started(startDeadlineSeconds=60), indexed_job(Suspended="JobSuspended: queued")
    assert step(item, [queued], [], after=600).status["phase"] == "Starting"
    admitted = indexed_job()
    admitted["status"]["startTime"] = "2026-11-22T09:10:00Z"
    assert step(item, [admitted], GANG[:1], after=630).requeue_after == 30
    assert step(item, [admitted], GANG[:1], after=661).status["attempts"][0]["cause"] == "StartDeadlineExceeded"


def test_pods_that_hold_a_node_without_being_able_to_start_are_given_up_in_the_end() -> None:
    waiting = pod(1, phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "manifest unknown"})
    waiting["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T09:00:00Z"}
    ]
    item = started()
    pulling = pod(1, phase="Pending", waiting={"reason": "ContainerCreating"})
    item = follow(item, step(item, [indexed_job()], [pod(0), pulling], after=960))
    item = follow(item, step(item, [indexed_job()], [pod(0), waiting], after=1000))
    assert item["status"]["attempts"][0]["hinderedSince"] == "2026-11-22T09:16:40Z", "it took long, and was going well"
    assert step(item, [indexed_job()], [pod(0), waiting], after=1899).writes == ()
    assert "hinderedSince" not in step(item, [indexed_job()], GANG, after=1899).status["attempts"][0]
    plan = step(item, [indexed_job()], [pod(0), waiting], after=1900)
    assert plan.status["attempts"][0]["cause"] == "ImagePull"
    assert "not started within 15 minutes on node node-1" in plan.status["attempts"][0]["reason"]


# Suspend


def edited(item: dict, **changes: Any) -> dict:
    metadata = {**item["metadata"], "generation": item["metadata"]["generation"] + 1}
    return {**item, "metadata": metadata, "spec": {**item["spec"], **changes}}


def test_a_job_that_is_suspended_from_the_beginning_starts_nothing() -> None:
    plan = plan_job(world(job(suspend=True)))
    assert (plan.status["phase"], plan.writes) == ("Suspended", ())
    assert condition(plan, "Suspended") == ("True", "Suspended")
    assert condition(plan, "Reconciling") == ("False", "Suspended")
    assert message(plan, "Ready") == "spec.suspend is true"
    item = edited(follow(job(suspend=True), plan), suspend=False)
    resumed = plan_job(world(item, after=100))
    assert created(resumed) == objects_of(1)
    assert condition(resumed, "Suspended") == ("False", "Resumed")
    assert resumed.status.get("suspendedSeconds", 0) == 0


def test_suspend_stops_the_gang_gracefully_and_resume_is_no_restart() -> None:
    item = edited(running(), suspend=True)
    plan = step(item, [indexed_job()], GANG, parts=parts(1))
    assert deleted(plan) == ["Job/tickets-1", "Service/tickets-1"]
    assert all(write.grace_seconds is None for write in plan.writes)
    assert (plan.status["phase"], condition(plan, "Suspended")) == ("Suspended", ("False", "Stopping"))
    item = follow(item, plan)
    stopping = step(item, [], [pod(0, deleting=NOW + timedelta(seconds=120))], after=20)
    assert condition(stopping, "Suspended") == ("False", "Stopping")
    plan = step(item, [], [], after=30)
    assert condition(plan, "Suspended") == ("True", "Suspended")
    assert plan.status["attempts"][-1]["cause"] == "Suspended"
    item = edited(follow(item, plan), suspend=False)
    plan = step(item, [], [], after=130)
    assert created(plan) == objects_of(2)
    assert plan.status["restarts"] == {"total": 0, "byCause": {}}
    assert plan.status["suspendedSeconds"] == 100
    assert reasons(plan) == ["Resumed", "AttemptStarted"]


def test_resume_waits_until_the_old_gang_is_gone() -> None:
    item = edited(running(), suspend=True)
    item = edited(follow(item, step(item, [indexed_job()], GANG)), suspend=False)
    assert step(item, [], [GANG[0]], after=20).writes == ()


def test_suspend_during_a_backoff_starts_nothing() -> None:
    item = edited(restarting(), suspend=True)
    plan = step(item, [], [], after=600)
    assert (plan.writes, plan.status["phase"]) == ((), "Suspended")


def test_suspend_before_the_job_was_seen() -> None:
    item = edited(started(), suspend=True)
    plan = step(item, [], [])
    assert plan.status["attempts"][-1]["cause"] == "Suspended"
    assert created(plan) == []


# Deadline


def test_the_deadline_ends_the_job_whatever_runs() -> None:
    item = running(activeDeadlineSeconds=60)
    assert step(item, [indexed_job()], GANG, after=20).requeue_after == 40
    plan = step(item, [indexed_job()], GANG, after=60)
    assert condition(plan, "Failed") == ("True", "DeadlineExceeded")
    assert deleted(plan) == ["Job/tickets-1"]
    assert plan.status["attempts"][-1]["cause"] == "DeadlineExceeded"
    assert reasons(plan) == ["DeadlineExceeded", "Failed"]


def test_the_deadline_holds_between_attempts_too() -> None:
    plan = step(restarting(activeDeadlineSeconds=12), [], [], after=13)
    assert condition(plan, "Failed") == ("True", "DeadlineExceeded")
    assert plan.status["attempts"][-1]["cause"] == "Crash"


def test_suspended_time_does_not_count() -> None:
    item = edited(running(activeDeadlineSeconds=60), suspend=True)
    item = follow(item, step(item, [indexed_job()], GANG, after=10))
    item = follow(item, step(item, [], [], after=20))
    assert step(item, [], [], after=5000).status["phase"] == "Suspended"
    item = edited(item, suspend=False)
    item = follow(item, step(item, [], [], after=5000))
    assert item["status"]["phase"] == "Starting"
    item = follow(item, step(item, [indexed_job(2)], [pod(0, 2), pod(1, 2)], after=5010))
    assert step(item, [indexed_job(2)], [pod(0, 2), pod(1, 2)], after=5035).status["phase"] == "Running"
    plan = step(item, [indexed_job(2)], [pod(0, 2), pod(1, 2)], after=5041)
    assert condition(plan, "Failed") == ("True", "DeadlineExceeded")


def test_the_deadline_may_be_moved_while_the_job_runs() -> None:
    item = edited(running(activeDeadlineSeconds=60), activeDeadlineSeconds=600)
    plan = step(item, [indexed_job()], GANG, after=100)
    assert plan.status["phase"] == "Running"
    assert condition(plan, "Validated") == ("True", "Valid")


# Edits


def test_an_edit_after_the_start_is_refused_and_told_once() -> None:
    item = edited(running(), training={"learningRate": 0.5, "epochs": 9})
    item["spec"]["distributed"] = {"nodes": 4}
    plan = step(item, [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")
    text = message(plan, "Validated")
    for field in ("spec.distributed.nodes", "spec.training.epochs", "spec.training.learningRate"):
        assert field in text
    assert (plan.writes, plan.status["phase"]) == ((), "Running")
    assert plan.status["observedGeneration"] == 2
    assert reasons(plan) == ["SpecChangeIgnored"]
    again = step(follow(item, plan), [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert again.events == ()


def test_taking_an_edit_back_clears_the_notice() -> None:
    item = edited(running(), training={"learningRate": 0.5})
    item = follow(item, step(item, [indexed_job()], GANG, snapshot=snapshot_of(running())))
    plan = step(edited(item, training={}), [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert condition(plan, "Validated") == ("True", "Valid")


def test_an_edit_that_makes_the_spec_invalid_does_not_fail_a_running_job() -> None:
    item = edited(running(), task="Cooking")
    plan = step(item, [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert plan.status["phase"] == "Running"
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")


def test_a_default_that_a_newer_schema_fills_in_is_no_edit() -> None:
    item = edited(running(), training={"seed": 0, "scheduler": "Linear"})
    plan = step(item, [indexed_job()], GANG, snapshot=snapshot_of(running()))
    assert condition(plan, "Validated") == ("True", "Valid")


# Finished


def finished(**changes: Any) -> dict:
    item = running(**changes)
    return follow(item, step(item, [indexed_job(Failed="x: y")], [failed_pod(0, 3)], after=10))


def test_a_finished_job_never_runs_again() -> None:
    item = finished()
    for jobs, pods in (([], []), ([indexed_job(Failed="x: y")], []), ([], [failed_pod(0, 3)])):
        plan = step(item, jobs, pods, after=10_000)
        assert (plan.writes, plan.status) == ((), item["status"])


def test_the_summary_of_a_finished_job_follows_its_outcome_whoever_edits_it() -> None:
    item = finished()
    right = item["status"]
    item["status"] = right | {"phase": "Running"}
    assert step(item, after=20).status["phase"] == right["phase"] == "Failed"


def test_a_stray_gang_of_a_finished_job_is_stopped() -> None:
    assert deleted(step(finished(), [indexed_job(9)], [pod(0, 9)], after=20)) == ["Job/tickets-9"]


def test_a_finished_job_expires() -> None:
    item = finished(ttlSecondsAfterFinished=30)
    assert step(item, after=20).requeue_after == 20
    plan = step(item, after=41)
    (write,) = plan.writes
    assert (write.kind, write.name, write.uid) == ("FineTuneJob", "tickets", UID)
    assert reasons(plan) == ["Expired"]


def test_the_runtimes_ttl_is_the_default() -> None:
    item = finished(runtimeRef={"name": "gpu"})
    snapshot = snapshot_of(item, {"ttlSecondsAfterFinished": 5})
    assert deleted(step(item, after=60, snapshot=snapshot)) == ["FineTuneJob/tickets"]


def test_an_edit_after_the_end_is_told() -> None:
    item = edited(finished(), training={"learningRate": 0.5})
    plan = step(item, snapshot=snapshot_of(finished()), after=60)
    assert condition(plan, "Validated") == ("True", "SpecChangeIgnored")
    assert plan.writes == ()
