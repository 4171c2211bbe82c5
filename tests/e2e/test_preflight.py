"""What is wrong with a job is known within seconds, also when its gang waits for a place that there is not."""

import pytest

from e2e.user import Body, User, condition, fine_tune_job
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import JOBS, PODS

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOWHERE = {"limits": {"e2e.finetune-operator.io/device": 1, "memory": "512Mi"}}


def known(job: Body) -> bool:
    return condition(job, "Preflight").get("reason") not in (None, "Pending")


async def test_the_preflight_of_a_gang_that_waits_is_told_by_a_pod_that_only_looks(user: User) -> None:
    right = fine_tune_job("waits", resources=NOWHERE)
    wrong = fine_tune_job("waits-in-vain", resources=NOWHERE, distributed={"nodes": 1})
    wrong["spec"]["dataset"]["columns"] = {"text": "body"}
    for body in (right, wrong):
        await user.apply(body)
    passed, failed = [await user.until(FINE_TUNE_JOBS, name, known, 90) for name in ("waits", "waits-in-vain")]
    assert condition(passed, "Preflight")["reason"] == "Passed"
    assert "its first 20 rows can be read" in condition(passed, "Preflight")["message"]
    assert condition(failed, "Preflight")["reason"] == "DataError"
    assert "dataset.columns.text" in condition(failed, "Preflight")["message"]
    for job in (passed, failed):
        assert job["status"]["phase"] == "Starting"
        assert condition(job, "Running")["reason"] == "Unschedulable"
        name = job["metadata"]["name"]
        await user.delete(FINE_TUNE_JOBS, name)
        for kind in (JOBS, PODS):
            await user.until_gone(kind, f"finetune-operator.io/job={name}")
