"""Whose report it is: each step from the pod of the token to the job, wrong one at a time."""

from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from finetune_api.names import LABEL_ATTEMPT
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.kube.servers import Server
from finetune_operator.web.progress import ProgressReceiver, attempt_of, check_running
from finetune_operator.web.progress_token import Bearer

Resource = dict[str, Any]
BEARER = Bearer("ml", "pod", "pod-uid")
JOB: Resource = {"metadata": {"namespace": "ml", "name": "tickets", "uid": "job-uid"}}


def owned(uid: str, kind: str, name: str, owner: str, *, controller: bool = True, **metadata: Any) -> Resource:
    reference = {"kind": kind, "name": name, "uid": owner, "controller": controller}
    return {"metadata": {"uid": uid, "ownerReferences": [reference], **metadata}}


POD = owned("pod-uid", "Job", "tickets-2", "batch-uid")
BATCH_JOB = owned("batch-uid", "FineTuneJob", "tickets", "job-uid", labels={LABEL_ATTEMPT: "2"})


def cache(pod: Resource = POD, batch_job: Resource = BATCH_JOB, job: Resource = JOB) -> JobCaches:
    pods, jobs = {("ml", "pod"): pod, ("other", "pod"): pod}, {("ml", "tickets-2"): batch_job}
    found = SimpleNamespace(
        pods=SimpleNamespace(get=lambda *key: pods.get(key)),
        jobs=SimpleNamespace(get=lambda *key: jobs.get(key)),
        fine_tune_jobs=SimpleNamespace(get=lambda *_: job, namespace=None),
    )
    return cast(JobCaches, found)


def test_the_pod_of_the_jobs_gang_reports_for_its_attempt() -> None:
    assert attempt_of(cache(), JOB, BEARER) == 2


@pytest.mark.parametrize(
    ("known", "bearer"),
    [
        (cache(), Bearer("other", "pod", "pod-uid")),
        (cache(), Bearer("ml", "pod", "of one before it")),
        (cache(), Bearer("ml", "unknown", "pod-uid")),
        (cache({"metadata": {"uid": "pod-uid"}}), BEARER),
        (cache(owned("pod-uid", "Job", "tickets-2", "of one before it")), BEARER),
        (cache(owned("pod-uid", "ReplicaSet", "tickets-2", "batch-uid")), BEARER),
        (cache(owned("pod-uid", "Job", "tickets-2", "batch-uid", controller=False)), BEARER),
        (
            cache(POD, owned("batch-uid", "FineTuneJob", "tickets", "of one before it", labels={LABEL_ATTEMPT: "2"})),
            BEARER,
        ),
        (cache(POD, {"metadata": {"uid": "batch-uid", "labels": {LABEL_ATTEMPT: "2"}}}), BEARER),
    ],
)
def test_no_other_pod_does(known: JobCaches, bearer: Bearer) -> None:
    with pytest.raises(web.HTTPForbidden):
        attempt_of(known, JOB, bearer)


def condition(kind: str, status: str) -> list[Resource]:
    return [{"type": kind, "status": status}]


@pytest.mark.parametrize(
    "status",
    [
        None,
        {"attempt": 1},
        {"attempt": 3},
        {"attempt": 2, "conditions": condition("Failed", "True")},
        {"attempt": 2, "conditions": condition("Succeeded", "True")},
    ],
)
def test_a_report_of_another_attempt_or_for_a_finished_job_comes_too_late(status: Resource | None) -> None:
    check_running({"status": {"attempt": 2, "conditions": condition("Failed", "False")}}, 2)
    with pytest.raises(web.HTTPConflict):
        check_running({"status": status}, 2)


@pytest.mark.parametrize(("attempt", "answer"), [(2, 204), (3, 409)])
async def test_the_receiver_asks_each_of_these(attempt: int, answer: int) -> None:
    """A pod of the attempt before, still about."""
    offered: list[Any] = []
    known = cache(job=JOB | {"status": {"attempt": attempt}})

    async def vouch(*_: Any) -> Bearer:
        return BEARER

    reviewer, writer = SimpleNamespace(review=vouch), SimpleNamespace(offer=lambda *told: offered.append(told))
    server = Server(ProgressReceiver([known], cast(Any, reviewer), cast(Any, writer)).app(), 0, "127.0.0.1")
    await server.start()
    url = f"http://127.0.0.1:{server.port}/v1/jobs/ml/tickets/progress"
    headers = {"Authorization": "Bearer t"}
    async with aiohttp.ClientSession() as session, session.post(url, json={"attempt": 2}, headers=headers) as told:
        assert told.status == answer
    await server.close()
    assert len(offered) == (answer == 204)
