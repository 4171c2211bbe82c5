"""What of the reports is written: for the very job that they were checked against, as it was then, or later again."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from finetune_api.reports import ProgressReport
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.web.progress_writer import URGENT_A_ROUND, ProgressWriter

Resource = dict[str, Any]
REPORT = ProgressReport(attempt=1, step=10, total_steps=100, stage="Training")


class Jobs:
    """A cache of one job."""

    namespace = None

    def __init__(self) -> None:
        metadata = {"name": "tickets", "namespace": "ml", "uid": "u", "resourceVersion": "7"}
        self.job: Resource = {"metadata": metadata, "status": {"attempt": 1, "conditions": []}}

    def get(self, *_: str) -> Resource:
        return self.job

    def has(self, *_: str) -> bool:
        return True


class Patches:
    """An API server that takes patches, or refuses them."""

    def __init__(self) -> None:
        self.bodies: list[Resource] = []
        self.refusal: ApiError | None = None

    async def patch(self, _kind: Any, _name: str, body: Resource, *_: Any, **__: Any) -> None:
        self.bodies.append(body)
        if self.refusal:
            raise self.refusal


def writer(jobs: Jobs, api: Patches, interval: float = 3600.0) -> ProgressWriter:
    return ProgressWriter(
        cast(KubeApi, api), [cast(JobCaches, SimpleNamespace(fine_tune_jobs=jobs))], interval=interval
    )


async def test_a_report_lands_on_the_state_of_the_job_that_it_was_checked_against_or_waits() -> None:
    jobs, api = Jobs(), Patches()
    writing = writer(jobs, api)
    api.refusal = ApiError(409, "Conflict", "the object has been modified")
    writing.offer("ml", "tickets", "u", REPORT)
    await writing.flush()
    jobs.job["metadata"]["resourceVersion"], api.refusal = "8", None
    await writing.flush()
    await writing.flush()
    assert [body["metadata"] for body in api.bodies] == [{"resourceVersion": "7"}, {"resourceVersion": "8"}]


async def test_a_report_for_a_job_that_was_made_anew_meanwhile_is_dropped() -> None:
    jobs, api = Jobs(), Patches()
    writing = writer(jobs, api)
    writing.offer("ml", "tickets", "of the one before", REPORT)
    await writing.flush()
    assert not api.bodies


async def test_a_pod_that_changes_its_stage_all_the_time_writes_no_more_often_than_others() -> None:
    jobs, api = Jobs(), Patches()
    writing = writer(jobs, api)
    running = asyncio.create_task(writing.run())
    for number in range(50):
        stage = ("Training", "Evaluating")[number % 2]
        writing.offer("ml", "tickets", "u", REPORT.model_copy(update={"stage": stage}))
        for _ in range(5):
            await asyncio.sleep(0)
    running.cancel()
    assert len(api.bodies) == URGENT_A_ROUND
    await writing.flush()
    assert len(api.bodies) == URGENT_A_ROUND + 1, "the rest waits for the round"
