"""The Job controller on a running cluster."""

import time
from typing import Any

from finetune_local.cluster import Cluster
from finetune_operator.kube.resources import JOBS, PODS
from local.clusters import has_condition, job, log_of, pods_of, run_job, wait_for, wait_gone, wait_pods

Object = dict[str, Any]


def types(finished: Object) -> list[str]:
    return [one["type"] for one in finished["status"]["conditions"]]


def condition(finished: Object, kind: str) -> Object:
    found: Object = next(one for one in finished["status"]["conditions"] if one["type"] == kind)
    return found


def share_folder(cluster: Cluster, body: Object) -> None:
    """Gives the pods of a Job /work in common."""
    spec = body["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "work", "hostPath": {"path": str(cluster.folder)}}]
    spec["containers"][0]["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]


async def test_pods_of_an_indexed_job_know_their_index(cluster: Cluster) -> None:
    script = 'echo "$JOB_COMPLETION_INDEX $(hostname)"'
    finished = await run_job(cluster, job("ix", script, completions=3, parallelism=3, completionMode="Indexed"))
    pods = await pods_of(cluster, "batch.kubernetes.io/job-name=ix")
    for one in pods:
        index = one["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        assert one["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == index
        assert one["metadata"]["labels"]["controller-uid"] == finished["metadata"]["uid"]
        assert one["metadata"]["name"].startswith(f"ix-{index}-")
        assert one["spec"]["hostname"] == f"ix-{index}"
        assert log_of(cluster, one) == f"{index} ix-{index}\n"
    status = finished["status"]
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    assert status["completionTime"] >= status["startTime"]


async def test_finalizers_go_once_a_pod_is_counted(cluster: Cluster) -> None:
    await run_job(cluster, job("j", "true"))
    await wait_pods(cluster, "job-name=j", lambda pods: all(not one["metadata"].get("finalizers") for one in pods))


async def test_a_failed_pod_fails_a_job_without_backoff(cluster: Cluster) -> None:
    finished = await run_job(cluster, job("f", "exit 3"))
    assert types(finished) == ["FailureTarget", "Failed"]
    assert condition(finished, "Failed")["reason"] == "BackoffLimitExceeded"
    assert finished["status"]["failed"] == 1


async def test_one_failure_of_a_gang_ends_the_others_before_failed_is_set(cluster: Cluster) -> None:
    script = """
        trap 'sleep 0.3; exit 0' TERM; touch /work/$JOB_COMPLETION_INDEX
        until test -e /work/0; do sleep 0.05; done; test $JOB_COMPLETION_INDEX = 1 && exit 1
        while :; do sleep 0.05; done
    """
    body = job("gang", script, completions=2, parallelism=2, completionMode="Indexed")
    share_folder(cluster, body)
    await cluster.api.create(JOBS, body, "default")
    target = await wait_for(cluster, JOBS, "gang", has_condition("FailureTarget"))
    finished = await wait_for(cluster, JOBS, "gang", has_condition("Failed"))
    assert finished["status"].get("active", 0) == 0
    assert finished["status"].get("terminating", 0) == 0
    assert condition(target, "FailureTarget")["reason"] == condition(finished, "Failed")["reason"]


async def test_pods_are_replaced_up_to_the_backoff_limit(cluster: Cluster) -> None:
    finished = await run_job(cluster, job("b", "exit 1", backoffLimit=2))
    assert finished["status"]["failed"] == 3
    assert len(await pods_of(cluster, "job-name=b")) == 3


async def test_a_pod_failure_policy_ends_the_job_at_once(cluster: Cluster) -> None:
    rules = [{"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [2]}}]
    finished = await run_job(cluster, job("p", "exit 2", backoffLimit=5, podFailurePolicy={"rules": rules}))
    failed = condition(finished, "Failed")
    assert failed["reason"] == "PodFailurePolicy"
    assert "failed with exit code 2 matching FailJob rule at index 0" in failed["message"]
    assert finished["status"]["failed"] == 1


async def test_an_ignored_disruption_does_not_count(cluster: Cluster) -> None:
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    body = job("d", "test -e /work/second && exit 0; touch /work/second; sleep 60", podFailurePolicy={"rules": rules})
    share_folder(cluster, body)
    await cluster.api.create(JOBS, body, "default")
    pods = await wait_pods(cluster, "job-name=d", lambda pods: pods and has_condition("Ready")(pods[0]))
    cluster.evict("default", pods[0]["metadata"]["name"])
    finished = await wait_for(cluster, JOBS, "d", has_condition("Complete"))
    assert finished["status"].get("failed", 0) == 0
    assert finished["status"]["succeeded"] == 1


async def test_failures_may_be_limited_by_index(cluster: Cluster) -> None:
    body = job(
        "per-index",
        "exit $JOB_COMPLETION_INDEX",
        completions=2,
        parallelism=2,
        completionMode="Indexed",
        backoffLimitPerIndex=1,
    )
    del body["spec"]["backoffLimit"]
    finished = await run_job(cluster, body)
    assert condition(finished, "Failed")["reason"] == "FailedIndexes"
    assert finished["status"]["failedIndexes"] == "1"
    assert finished["status"]["completedIndexes"] == "0"
    assert finished["status"]["failed"] == 2


async def test_suspending_deletes_pods_and_resuming_starts_anew(cluster: Cluster) -> None:
    body = job("s", "sleep 60", template={"terminationGracePeriodSeconds": 0}, suspend=True)
    await cluster.api.create(JOBS, body, "default")
    held = await wait_for(cluster, JOBS, "s", has_condition("Suspended"))
    assert "startTime" not in held["status"]
    assert await pods_of(cluster, "job-name=s") == []
    await cluster.api.patch(JOBS, "s", {"spec": {"suspend": False}}, "default")
    resumed = await wait_for(cluster, JOBS, "s", lambda item: item["status"].get("ready") == 1)
    assert condition(resumed, "Suspended")["reason"] == "JobResumed"
    assert resumed["status"]["startTime"]
    await cluster.api.patch(JOBS, "s", {"spec": {"suspend": True}}, "default")
    await wait_pods(cluster, "job-name=s", lambda pods: not pods)
    held = await wait_for(cluster, JOBS, "s", has_condition("Suspended"))
    assert held["status"].get("failed", 0) == 0
    assert "startTime" not in held["status"]


async def test_the_deadline_fails_a_job(cluster: Cluster) -> None:
    body = job("late", "sleep 60", template={"terminationGracePeriodSeconds": 0}, activeDeadlineSeconds=1)
    finished = await run_job(cluster, body)
    assert condition(finished, "Failed")["reason"] == "DeadlineExceeded"


async def test_a_finished_job_is_deleted_after_its_time_with_its_pods(cluster: Cluster) -> None:
    await run_job(cluster, job("ttl", "true", ttlSecondsAfterFinished=1))
    await wait_gone(cluster, JOBS, "ttl")
    await wait_pods(cluster, "job-name=ttl", lambda pods: not pods)


async def test_a_deleted_pod_is_replaced(cluster: Cluster) -> None:
    body = job("r", "sleep 60", template={"terminationGracePeriodSeconds": 0}, backoffLimit=3)
    await cluster.api.create(JOBS, body, "default")
    first = await wait_pods(cluster, "job-name=r", lambda pods: pods and has_condition("Ready")(pods[0]))
    await cluster.api.delete(PODS, first[0]["metadata"]["name"], "default")
    uid = first[0]["metadata"]["uid"]
    await wait_pods(
        cluster,
        "job-name=r",
        lambda pods: any(one["metadata"]["uid"] != uid and has_condition("Ready")(one) for one in pods),
    )


async def test_non_indexed_jobs_keep_their_parallelism_until_all_is_done(cluster: Cluster) -> None:
    finished = await run_job(cluster, job("n", "sleep 0.1", completions=4, parallelism=2))
    assert finished["status"]["succeeded"] == 4
    assert len(await pods_of(cluster, "job-name=n")) == 4


async def test_deleting_a_job_deletes_its_pods(cluster: Cluster) -> None:
    body = job("gone", "sleep 60", template={"terminationGracePeriodSeconds": 0})
    await cluster.api.create(JOBS, body, "default")
    await wait_pods(cluster, "job-name=gone", lambda pods: pods and has_condition("Ready")(pods[0]))
    started = time.monotonic()
    await cluster.api.delete(JOBS, "gone", "default")
    await wait_gone(cluster, JOBS, "gone")
    await wait_pods(cluster, "job-name=gone", lambda pods: not pods)
    assert time.monotonic() - started < 30
