"""What jobs name and nobody watches: asked for once, waited for, and never longer than needed."""

import asyncio
import logging
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from controllers.pod_groups import DEFINITION, POD_GROUP
from controllers.test_fine_tune_job import conditions, quiet
from finetune_operator.controllers import look_ups as look_ups_module
from finetune_operator.controllers.look_ups import FORBIDDEN_SECONDS, MOST_WAITING, PARALLEL, LookUps
from finetune_operator.kinds import TRAINING_RUNTIMES
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, JOBS, SECRETS, Kind
from finetune_operator.plan.named_objects import Question, secret

Resource = dict[str, Any]
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "data": {}}
QUEUE = Kind("kueue.x-k8s.io/v1beta1", "LocalQueue", "localqueues")
NOT_FOUND = ApiError(404, "NotFound", "no", {"details": {"name": "s3"}})


class Answering:
    """An API server that answers as it is told; counts what it was asked."""

    def __init__(self, *errors: ApiError | None) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def get_metadata(self, *_: object) -> Resource:
        self.asked += 1
        await asyncio.sleep(0)
        if error := self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]:
            raise error
        return {}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def looking(api: Answering, **options: Any) -> tuple[LookUps, Clock]:
    clock = Clock()
    return LookUps(api, clock=clock, **options), clock  # type: ignore[arg-type]


ASKED = [Question(secret("s3"))]


async def test_what_is_there_is_asked_for_once_by_all_jobs_of_a_while() -> None:
    api = Answering(None)
    look_ups, clock = looking(api)
    answers = await asyncio.gather(*(look_ups.answer("ml", ASKED) for _ in range(20)))
    assert {(one.absent, one.again) for one in answers} == {(frozenset(), None)}
    clock.now += ASKED[0].fresh_seconds - 1
    await look_ups.answer("ml", ASKED)
    assert api.asked == 1
    clock.now += 2
    await look_ups.answer("ml", ASKED)
    await look_ups.answer("another", ASKED)
    assert api.asked == 3


async def test_what_is_not_there_is_looked_for_less_and_less_often_until_it_comes() -> None:
    api = Answering(NOT_FOUND)
    look_ups, clock = looking(api)
    waits = []
    for _ in range(8):
        found = await look_ups.answer("ml", ASKED)
        assert (found.absent, found.again is not None) == (frozenset({secret("s3")}), True)
        assert (await look_ups.answer("ml", ASKED)).again == found.again
        waits.append(found.again)
        clock.now += found.again or 0
    assert (waits, api.asked) == ([1, 2, 4, 8, 16, 30, 30, 30], 8)
    api.errors = [None]
    assert not (await look_ups.answer("ml", ASKED)).absent


@pytest.mark.parametrize(
    "error",
    [
        ApiError(403, "Forbidden", "no rights"),
        ApiError(500, "InternalError", "etcd"),
        ApiError(406, "NotAcceptable", "an old server"),
        ApiError(404, "NotFound", "the server could not find the requested resource", {"details": {}}),
        ApiError(404, "Http404", "404 page not found"),
    ],
    ids=lambda error: error.reason,
)
async def test_what_cannot_be_asked_is_not_known_and_holds_nobody_up(error: ApiError) -> None:
    look_ups, _ = looking(Answering(error))
    found = await look_ups.answer("ml", ASKED)
    assert (found.absent, found.again) == (frozenset(), None)


async def test_missing_rights_are_told_once_and_not_tried_for_each_job(caplog: pytest.LogCaptureFixture) -> None:
    api = Answering(ApiError(403, "Forbidden", "secrets is forbidden"))
    look_ups, clock = looking(api)
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "c"):
            await look_ups.answer("ml", [Question(secret(name))])
        assert api.asked == 1
        clock.now += FORBIDDEN_SECONDS + 1
        await look_ups.answer("ml", ASKED)
    assert api.asked == 2
    assert [record.message for record in caplog.records if "secrets is forbidden" in record.message] != []
    assert len(caplog.records) == 1


async def test_a_flood_of_questions_leaves_room_for_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_ups_module, "MOST_ANSWERS", 5)
    answering, at_once = asyncio.Event(), 0

    class Slow(Answering):
        async def get_metadata(self, *_: object) -> Resource:
            nonlocal at_once
            self.asked += 1
            at_once += 1
            await answering.wait()
            at_once -= 1
            return {}

    api = Slow()
    look_ups, _ = looking(api)
    flood = asyncio.create_task(look_ups.answer("ml", [Question(secret(f"s{n}")) for n in range(5000)]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert at_once == PARALLEL
    unknown = await asyncio.wait_for(look_ups.answer("ml", [Question(secret("other"))]), 5)
    assert (unknown.absent, unknown.again) == (frozenset(), None), "what cannot be asked holds nobody up"
    answering.set()
    assert not (await flood).absent
    assert api.asked == MOST_WAITING
    before = api.asked
    await look_ups.answer("ml", [Question(secret("s0")), Question(secret(f"s{MOST_WAITING - 1}"))])
    assert api.asked == before + 1, "the oldest answers are forgotten first"


async def test_switched_off_it_asks_for_no_secret() -> None:
    api = Answering(NOT_FOUND)
    look_ups, _ = looking(api, secrets=False)
    assert not (await look_ups.answer("ml", ASKED)).absent
    assert api.asked == 0


async def test_a_name_that_no_object_can_have_is_never_put_into_a_url() -> None:
    api = Answering(None)
    look_ups, _ = looking(api)
    odd = [Question(secret(name)) for name in ("../../kube-system/secrets/root", "A", "", "x" * 254)]
    found = await look_ups.answer("ml", odd)
    assert (len(found.absent), found.again, api.asked) == (4, None, 0)


async def test_an_absence_of_what_is_ours_is_not_remembered() -> None:
    api = Answering(NOT_FOUND, None)
    look_ups, _ = looking(api)
    ours = [Question(secret("s3"), 60.0, kept=True)]
    assert (await look_ups.answer("ml", ours)).absent
    found = await look_ups.answer("ml", ours)
    assert (found.absent, found.again, api.asked) == (frozenset(), 60.0, 2)


async def waits_for(user: ClusterUser, reason: str) -> Resource:
    async def told() -> Resource | None:
        job = await user.job()
        judged = job.get("status") and conditions(job).get("Validated") == ("False", reason)
        return job if judged else None

    return await eventually(told, reason, user.dump)


async def test_a_job_waits_for_its_secret_and_goes_on_by_itself(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(credentials={"secretName": "s3"})
    job = await waits_for(user, "SecretNotFound")
    (told,) = [one["message"] for one in job["status"]["conditions"] if one["type"] == "Validated"]
    assert told == (
        "spec.credentials.secretName: there is no Secret 's3' in namespace ml; create it, or correct the name"
    )
    assert await user.names(JOBS) == []
    await user.api.create(SECRETS, SECRET, NAMESPACE)
    await user.phase("Running")
    asked = operator.api.requests["get_metadata"]
    await user.report_checkpoint(3)
    await quiet(user, operator)
    await user.finish_gang()
    await user.phase("Succeeded")
    assert operator.api.requests["get_metadata"] == asked, "a job that has started asks no more"


def local_queues() -> Resource:
    """Stands in for Kueue's own definition."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    versions = [{"name": QUEUE.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]
    names = {"kind": QUEUE.kind, "plural": QUEUE.plural, "singular": "localqueue"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{QUEUE.plural}.{QUEUE.group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, stands in for the scheduler's own"},
        },
        "spec": {"group": QUEUE.group, "scope": "Namespaced", "names": names, "versions": versions},
    }


async def serve(user: ClusterUser, operator: OperatorUnderTest, kind: Kind, definition: Resource) -> None:
    await user.api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)

    async def served() -> bool:
        await operator.caches.api_groups.refresh()
        return kind.api_version in (operator.caches.api_groups.names or ())

    await eventually(served, "the API", user.dump)


async def test_a_job_waits_for_its_local_queue(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await serve(user, operator, QUEUE, local_queues())
    await user.apply(queueName="team-a")
    job = await waits_for(user, "QueueNotFound")
    assert "spec.queueName: there is no LocalQueue 'team-a' in namespace ml" in str(job["status"]["conditions"])
    body = {"apiVersion": QUEUE.api_version, "kind": QUEUE.kind, "metadata": {"name": "team-a"}}
    await user.api.create(QUEUE, body, NAMESPACE)
    await user.phase("Queued")


async def test_a_group_that_somebody_deletes_is_made_again(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await serve(user, operator, POD_GROUP, DEFINITION)
    runtime = {
        "apiVersion": TRAINING_RUNTIMES.api_version,
        "kind": TRAINING_RUNTIMES.kind,
        "metadata": {"name": "gangs", "namespace": NAMESPACE},
        "spec": {"scheduler": "Native"},
    }
    await user.api.create(TRAINING_RUNTIMES, runtime, NAMESPACE)
    await user.apply(runtimeRef={"name": "gangs", "kind": "TrainingRuntime"})
    await user.phase("Running")
    (before,) = (await user.api.list(POD_GROUP, NAMESPACE))["items"]
    await user.api.delete(POD_GROUP, before["metadata"]["name"], NAMESPACE)
    look_ups = operator.controller._reconcile.__self__._look_ups  # type: ignore[attr-defined]
    look_ups._clock = lambda: asyncio.get_running_loop().time() + 3600  # it looks again after a while
    await user.report_checkpoint(3)

    async def again() -> Any:
        return (await user.api.list(POD_GROUP, NAMESPACE))["items"]

    (after,) = await eventually(again, "the group", user.dump)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
