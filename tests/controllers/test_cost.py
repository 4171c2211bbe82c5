"""What is done again and again does not grow with the jobs, also when they all have something in common."""

import copy
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controllers.conftest import Decodings
from finetune_operator.controllers.job_caches import MOST_RIVALS, JobCaches
from finetune_operator.plan.world import World
from finetune_operator.web.metrics import JobMetrics
from finetune_operator.web.progress_writer import ProgressWriter
from plan import builders

MANY = 300
RUNNING = {"type": "Running", "status": "True", "lastTransitionTime": builders.rfc3339(builders.NOW)}
WAITS = {"type": "Validated", "status": "False", "reason": "PersistentVolumeClaimNotFound"}
SAME = {"publish": {"modelName": "tickets"}, "deploy": {"name": "tickets"}, "runtimeRef": {"name": "gpu"}}
Resource = dict[str, Any]


@pytest.fixture
def caches() -> JobCaches:
    return JobCaches.build(None, None)  # type: ignore[arg-type] - nothing is asked for


def put(caches: JobCaches, number: int, status: Resource, **spec: Any) -> Resource:
    job = builders.job(f"job-{number}", **spec) | {"status": copy.deepcopy(status)}
    job["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(number)}
    caches.fine_tune_jobs._take({"type": "ADDED", "object": job})
    return job


def put_claim(caches: JobCaches, number: int) -> Resource:
    metadata = {"name": f"claim-{number}", "namespace": "ml", "uid": f"claim-{number}", "resourceVersion": "1"}
    claim = {"metadata": metadata, "status": {"phase": "Bound" if number % 2 else "Pending"}}
    caches.claims._take({"type": "ADDED", "object": claim})
    return claim


def put_version(caches: JobCaches, number: int) -> None:
    metadata = {"name": f"tickets-{number}", "namespace": "ml", "uid": f"version-{number}", "resourceVersion": "1"}
    version = {"metadata": metadata, "spec": {"modelName": "tickets", "task": "TextClassification"}}
    caches.versions._take({"type": "ADDED", "object": version})


def test_a_scrape_and_a_look_for_jobs_that_are_gone_decode_no_job(caches: JobCaches, decodings: Decodings) -> None:
    registry, writer = CollectorRegistry(), ProgressWriter(None, [caches])  # type: ignore[arg-type]
    JobMetrics([caches.fine_tune_jobs], registry, lambda: True)
    progress = {"attempt": 1, "stage": "Training", "step": 1, "percent": 10.0, "loss": 0.5}
    for number in range(MANY):
        put(caches, number, {"phase": "Running", "attempt": 1, "conditions": [RUNNING], "progress": progress})
        writer._milestones["ml", f"job-{number}"] = ("uid", 1, "Training", False)
    before = decodings.count
    text = generate_latest(registry).decode()
    writer._forget_gone()
    assert decodings.count == before
    assert text.count("finetune_job_loss{") == len(writer._milestones) == MANY


async def test_a_look_at_one_of_many_jobs_of_a_model(caches: JobCaches, decodings: Decodings) -> None:
    for number in range(MANY):
        put(caches, number, {"phase": "Running", "attempt": 1}, **SAME)
        put_claim(caches, number)
    job = put(caches, MANY, {"phase": "Starting", "attempt": 1}, **SAME)
    for number in range(MANY):
        put_version(caches, number)
    before = decodings.count
    world = caches.world(job, builders.SETTINGS, builders.NOW)
    assert isinstance(world, World)
    assert world.around.claims is not None
    assert ("claim-7" in world.around.claims, "claim-x" in world.around.claims) == (True, False)
    assert ("claim-7" in world.bound_claims, "claim-8" in world.bound_claims) == (True, False)
    assert 0 < len(world.around.rivals) <= MOST_RIVALS
    assert world.around.published is not None
    assert world.around.published["spec"]["task"] == "TextClassification"
    assert decodings.count - before <= 3


def test_an_event_wakes_the_jobs_that_wait_for_it(caches: JobCaches, decodings: Decodings) -> None:
    waits = {"phase": "Pending", "conditions": [WAITS]}
    data = {"split": {"test": 0.1}}
    for number in range(MANY):
        source = {"train": {"source": f"pvc://claim-{number}/train.jsonl"}}
        put(caches, number, waits, dataset=data | source, checkpoint={"storage": "s3://work"})
    put(caches, MANY, waits, runtimeRef={"name": "gpu"})
    for number in range(MANY + 1, 2 * MANY):
        put(caches, number, {"phase": "Running", "attempt": 1}, **SAME)
    before = decodings.count
    assert set(caches.keys_of_claim(put_claim(caches, 7))) == {("ml", "job-7"), ("ml", f"job-{MANY}")}
    named = {"metadata": {"name": "tickets", "namespace": "ml"}, "spec": {}}
    assert list(caches.keys_of_deployment(named)) == []
    runtime = {"kind": "ClusterTrainingRuntime", "metadata": {"name": "gpu"}}
    assert list(caches.keys_of_runtime(runtime)) == [("ml", f"job-{MANY}")]
    assert decodings.count == before
