"""Engine Ray in the pods of a job: the losses of torchrun, and workers that Ray starts again by itself."""

import json
import signal
from typing import Any

import psutil
import pytest

from e2e.conftest import Installation
from e2e.user import CLAIM, User, condition, fine_tune_job, finished
from exhaustive import exhaustive
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import PODS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]

TRAINING = {"maxSteps": 200, "batchSize": 24, "learningRate": 5e-3, "logEverySteps": 5}
PATIENCE = 500
"""Seconds: a Ray cluster has a dozen processes to start, which takes a minute on a quiet machine of two cores."""
TOLERANCE = 1e-6
"""Of a loss, relative: both engines run the same collectives in the same order."""
HISTORY = """
from pathlib import Path
from urllib.parse import urlsplit
uri = urlsplit("URI")
text = (Path("/mnt/pvc") / uri.netloc / uri.path.strip("/") / "training_history.json").read_text()
import json
losses = [round(one["loss"], 9) for one in json.loads(text)["training"]]
open("/dev/termination-log", "w").write(json.dumps(losses))
"""


HELD_OUT = {"validation": 0.1, "test": 0.1}
MULTI_TASK: dict[str, Any] = {
    "task": "MultiTask",
    "dataset": {
        "subtasks": [
            {
                "name": name,
                "task": task,
                "train": {"source": f"pvc://{CLAIM}/data/{file}.jsonl"},
                "split": HELD_OUT,
            }
            for name, task, file in (
                ("subject", "TextClassification", "train"),
                ("words", "TokenClassification", "tagged"),
            )
        ],
        "maxLength": 32,
    },
}
LEARNT = {"subject/f1": 0.8, "words/f1": 0.8}
"""What its test data must say at least."""


def ray_job(name: str, **changes: Any) -> dict[str, Any]:
    distributed = {"engine": "Ray", "nodes": 2}
    return fine_tune_job(name, **{"training": TRAINING, "distributed": distributed, **changes})


def has_checkpoint(job: dict[str, Any]) -> bool:
    return bool(((job.get("status") or {}).get("lastCheckpoint") or {}).get("step"))


def workers(installation: Installation) -> list[psutil.Process]:
    """Ray's workers, as they call themselves."""
    assert installation.process
    everything = psutil.Process(installation.process.pid).children(recursive=True)
    return [one for one in everything if any("ray::RayTrainWorker" in word for word in one.cmdline())]


async def losses(user: User, job: dict[str, Any]) -> list[float]:
    name = job["metadata"]["name"]
    told = await user.run(f"history-{name}", HISTORY.replace("URI", job["status"]["artifact"]["uri"]))
    return list(json.loads(told))


async def finished_without_a_worker(
    user: User, installation: Installation, name: str, **changes: Any
) -> dict[str, Any]:
    """A job of which a worker was killed once there was a checkpoint."""
    if installation.process is None:
        pytest.skip("kills a local process: kill a process ray::RayTrainWorker by hand on other clusters")
    await user.apply(ray_job(name, **changes))
    await user.until(FINE_TUNE_JOBS, name, has_checkpoint, PATIENCE)
    workers(installation)[-1].send_signal(signal.SIGKILL)
    return await user.until(FINE_TUNE_JOBS, name, finished, PATIENCE)


async def test_a_worker_that_dies_is_started_again_in_the_gang(user: User, installation: Installation) -> None:
    """Of a job of several tasks, half of whose micro-batches have no row of one of its heads."""
    job = await finished_without_a_worker(user, installation, "ray", **MULTI_TASK)
    status = job["status"]
    assert condition(job, "Succeeded").get("status") == "True", status
    assert [attempt["number"] for attempt in status["attempts"]] == [1]
    assert status["restarts"]["total"] == 0
    assert status["attempts"][0]["resumedFromStep"] >= 10
    assert {name: status["metrics"][name] >= least for name, least in LEARNT.items()} == dict.fromkeys(LEARNT, True)


@exhaustive
@pytest.mark.parametrize(("name", "changes"), [("losses", {}), ("multi-task", MULTI_TASK)])
async def test_the_losses_are_torchruns_though_a_worker_died(
    user: User, installation: Installation, name: str, changes: dict[str, Any]
) -> None:
    job = await finished_without_a_worker(user, installation, f"ray-{name}", **changes)
    await user.apply(fine_tune_job(f"torchrun-{name}", training=TRAINING, **changes))
    torchrun = await user.until(FINE_TUNE_JOBS, f"torchrun-{name}", finished, PATIENCE)
    assert await losses(user, job) == pytest.approx(await losses(user, torchrun), rel=TOLERANCE)
    assert job["status"]["metrics"] == pytest.approx(torchrun["status"]["metrics"])


@exhaustive
async def test_a_lost_pod_of_a_ray_gang_restarts_it_from_its_newest_checkpoint(user: User) -> None:
    await user.apply(ray_job("ray-lost", failurePolicy={"backoffSeconds": 0}))
    await user.until(FINE_TUNE_JOBS, "ray-lost", has_checkpoint, PATIENCE)
    (pod,) = await user.list(PODS, "finetune-operator.io/job=ray-lost,batch.kubernetes.io/job-completion-index=1")
    await user.delete(PODS, pod["metadata"]["name"])
    job = await user.until(FINE_TUNE_JOBS, "ray-lost", finished, PATIENCE)
    status = job["status"]
    assert condition(job, "Succeeded").get("status") == "True", status
    assert [attempt["number"] for attempt in status["attempts"]] == [1, 2]
    assert status["attempts"][1]["resumedFromStep"] >= 10


@exhaustive
async def test_a_suspended_ray_gang_saves_and_goes_on(user: User) -> None:
    await user.apply(ray_job("ray-paused"))
    await user.until(FINE_TUNE_JOBS, "ray-paused", has_checkpoint, PATIENCE)
    await user.api.patch(FINE_TUNE_JOBS, "ray-paused", {"spec": {"suspend": True}}, user.namespace)
    await user.until(FINE_TUNE_JOBS, "ray-paused", lambda job: job["status"]["phase"] == "Suspended")
    await user.until_gone(PODS, "finetune-operator.io/job=ray-paused")
    await user.api.patch(FINE_TUNE_JOBS, "ray-paused", {"spec": {"suspend": False}}, user.namespace)
    job = await user.until(FINE_TUNE_JOBS, "ray-paused", finished, PATIENCE)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    assert job["status"]["restarts"]["total"] == 0


@exhaustive
async def test_what_a_worker_finds_wrong_ends_a_ray_gang_with_the_reason(user: User) -> None:
    body = ray_job("ray-cleaned")
    body["spec"]["dataset"]["cleaning"] = {"minCharacters": 1000}
    await user.apply(body)
    job = await user.until(FINE_TUNE_JOBS, "ray-cleaned", finished, PATIENCE)
    assert "dataset.cleaning leaves nothing" in condition(job, "Failed")["message"]
    (attempt,) = job["status"]["attempts"]
    assert (attempt["cause"], attempt["exitCode"]) == ("BadData", 3)


@exhaustive
@pytest.mark.parametrize("shards", [{"deepspeed": {"zeroStage": 2}}, {"fsdp": {}}], ids=lambda one: next(iter(one)))
async def test_ray_shards_the_model_too(user: User, shards: dict[str, Any]) -> None:
    name = f"ray-{next(iter(shards))}"
    training = {**TRAINING, "maxSteps": 80, "learningRate": 1e-2}
    await user.apply(ray_job(name, training=training, distributed={"engine": "Ray", "nodes": 2, **shards}))
    job = await user.until(FINE_TUNE_JOBS, name, finished, PATIENCE)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    assert job["status"]["metrics"]["f1"] >= 0.8
