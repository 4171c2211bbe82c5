"""Models in shards, in the pods of a job."""

from typing import Any

import pytest

from e2e.user import User, condition, fine_tune_job, finished
from exhaustive import exhaustive
from finetune_operator.kinds import FINE_TUNE_JOBS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(1200)]

CASES: dict[str, dict[str, Any]] = {
    "zero-2": {"engine": "DeepSpeed", "deepspeed": {"zeroStage": 2}},
    "zero-3": {"engine": "DeepSpeed", "deepspeed": {"zeroStage": 3, "offloadOptimizer": True}},
    "fsdp": {"engine": "Torchrun", "fsdp": {}},
}


@exhaustive
@pytest.mark.parametrize("name", CASES)
async def test_a_model_in_shards_learns_and_is_exported_whole(user: User, name: str) -> None:
    await user.apply(fine_tune_job(name, distributed={"nodes": 2, **CASES[name]}))
    job = await user.until(FINE_TUNE_JOBS, name, finished, 500)
    assert condition(job, "Succeeded").get("status") == "True", job["status"]
    assert job["status"]["metrics"]["f1"] >= 0.8
    assert [attempt["number"] for attempt in job["status"]["attempts"]] == [1]
