"""What happens to a run that is stopped, killed or deleted in the middle."""

import signal
from typing import Any

import psutil
import pytest

from e2e.conftest import Installation
from e2e.user import CLAIM, User, condition, fine_tune_job, finished
from exhaustive import exhaustive
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, PODS, SERVICES

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = {"maxSteps": 400, "batchSize": 24, "learningRate": 5e-3, "logEverySteps": 5}


def long_job(name: str, **changes: Any) -> dict[str, Any]:
    return fine_tune_job(name, training=LONG, **changes)


def has_checkpoint(job: dict[str, Any]) -> bool:
    return bool(((job.get("status") or {}).get("lastCheckpoint") or {}).get("step"))


async def test_a_lost_pod_restarts_the_whole_gang_from_its_newest_checkpoint(user: User) -> None:
    await user.apply(long_job("pod-lost", failurePolicy={"backoffSeconds": 0}))
    await user.until(FINE_TUNE_JOBS, "pod-lost", has_checkpoint)
    pods = await user.list(PODS, "finetune-operator.io/job=pod-lost,batch.kubernetes.io/job-completion-index=1")
    await user.delete(PODS, pods[0]["metadata"]["name"])
    job = await user.until(FINE_TUNE_JOBS, "pod-lost", finished)
    status = job["status"]
    assert condition(job, "Succeeded").get("status") == "True", status
    assert [attempt["number"] for attempt in status["attempts"]] == [1, 2]
    assert status["attempts"][1]["resumedFromStep"] >= 10
    assert status["restarts"]["total"] == 1


async def test_suspending_saves_and_resuming_goes_on_from_there(user: User) -> None:
    await user.apply(long_job("paused"))
    await user.until(FINE_TUNE_JOBS, "paused", has_checkpoint)
    await user.api.patch(FINE_TUNE_JOBS, "paused", {"spec": {"suspend": True}}, user.namespace)
    await user.until(FINE_TUNE_JOBS, "paused", lambda job: job["status"]["phase"] == "Suspended")
    await user.until_gone(PODS, "finetune-operator.io/job=paused")
    await user.api.patch(FINE_TUNE_JOBS, "paused", {"spec": {"suspend": False}}, user.namespace)
    job = await user.until(FINE_TUNE_JOBS, "paused", finished)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    assert job["status"]["attempts"][-1]["resumedFromStep"] >= 10
    assert job["status"]["restarts"]["total"] == 0


LIST = """
import os
names = os.listdir("/mnt/pvc/e2e/slow")
open("/dev/termination-log", "w").write(" ".join(names + os.listdir(f"/mnt/pvc/e2e/slow/{names[0]}")))
"""


@exhaustive  # the chaos suite has slow storage each time
async def test_a_save_that_outlasts_the_grace_period_costs_no_more_than_itself(
    user: User, installation: Installation
) -> None:
    """On slow storage: the pods are killed in the middle of a checkpoint, and the job goes on from the one before."""
    if installation.process is None:
        pytest.skip("local mode alone has storage that can be slowed down")
    container = {"name": "trainer", "env": [{"name": "FINETUNE_LOCAL_FLUSH_DELAY", "value": "0.5"}]}
    job = fine_tune_job(
        "slow-storage",
        distributed={"nodes": 1},
        training=LONG | {"maxSteps": 60},
        checkpoint={"storage": f"pvc://{CLAIM}/slow", "everySteps": 20},
        podTemplate={"spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}},
    )
    await user.apply(job)
    saved = await user.until(FINE_TUNE_JOBS, "slow-storage", has_checkpoint)
    await user.api.patch(FINE_TUNE_JOBS, "slow-storage", {"spec": {"suspend": True}}, user.namespace)
    await user.until_gone(PODS, "finetune-operator.io/job=slow-storage")
    assert "tmp-step" in await user.run("list-slow-storage", LIST), "it was killed while it saved"
    await user.api.patch(FINE_TUNE_JOBS, "slow-storage", {"spec": {"suspend": False}}, user.namespace)
    job = await user.until(FINE_TUNE_JOBS, "slow-storage", finished)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    known = saved["status"]["lastCheckpoint"]["step"]
    assert job["status"]["attempts"][-1]["resumedFromStep"] == known, job["status"]
    assert job["status"]["restarts"]["total"] == 0


async def test_deleting_a_running_job_leaves_nothing_behind(user: User) -> None:
    await user.apply(long_job("deleted"))
    await user.until(FINE_TUNE_JOBS, "deleted", has_checkpoint)
    await user.delete(FINE_TUNE_JOBS, "deleted")
    for kind in (PODS, JOBS, SERVICES, CONFIG_MAPS):
        await user.until_gone(kind, "finetune-operator.io/job=deleted")


async def test_an_operator_killed_in_the_middle_changes_nothing_for_the_job(
    user: User, installation: Installation
) -> None:
    if installation.process is None:
        pytest.skip("kills a local process: delete the operator's pod by hand on other clusters")
    await user.apply(long_job("operator-killed"))
    await user.until(FINE_TUNE_JOBS, "operator-killed", has_checkpoint)
    for child in psutil.Process(installation.process.pid).children():
        if "finetune_operator.cli" in child.cmdline():
            child.send_signal(signal.SIGKILL)
    job = await user.until(FINE_TUNE_JOBS, "operator-killed", finished)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    assert [attempt["number"] for attempt in job["status"]["attempts"]] == [1]
