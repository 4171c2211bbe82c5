"""An API server, or a webhook of the platform, that does not take the objects of an attempt."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from controllers.test_fine_tune_job import attempt_runs, conditions, quiet
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import JOBS, SERVICES

CALL = (
    'failed calling webhook "mutate.kyverno.svc-fail": failed to call webhook: Post "https://kyverno.kyverno.svc:443"'
)
DOWN = ApiError(500, "InternalError", f"Internal error occurred: {CALL}: connect: connection refused")
DENIAL = (
    'admission webhook "validate.kyverno.svc-fail" denied the request: failed to verify image: Get '
    '"https://registry/v2/": context deadline exceeded'
)
DENIED, DENIED_AS_INVALID = ApiError(400, "BadRequest", DENIAL), ApiError(422, "Invalid", DENIAL)
QUOTA = ApiError(403, "Forbidden", "exceeded quota: jobs, requested: count/jobs.batch=1, used: 5, limited: 5")
WRONG = [
    ApiError(422, "Invalid", 'Job.batch "tickets-1" is invalid: spec.template: Required value'),
    ApiError(400, "BadRequest", "Job in version v1 cannot be handled as a Job: strict decoding error"),
]


class Refusing:
    """Passes everything on but objects of one kind, while `error` is set."""

    def __init__(
        self,
        operator: OperatorUnderTest,
        kind: str,
        error: ApiError,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        carrier = operator.controller._reconcile.__self__._carrier  # type: ignore[attr-defined]
        self._api, carrier._api = carrier._api, self
        self._kind, self.error, self._meanwhile = kind, error, meanwhile

    def __getattr__(self, verb: str) -> Any:
        return getattr(self._api, verb)

    async def create(self, kind: Any, body: dict[str, Any], namespace: str | None = None) -> Any:
        if self.error and kind.kind == self._kind:
            if self._meanwhile:
                await self._meanwhile()
            raise self.error
        return await self._api.create(kind, body, namespace)


async def told(user: ClusterUser, words: str) -> dict[str, Any]:
    async def is_told() -> Any:
        job = await user.job()
        found = (job.get("status") or {}).get("conditions") or ()
        return any(one["type"] == "Running" and words in one["message"] for one in found) and job

    return await eventually(is_told, words, user.dump)


@pytest.mark.parametrize("error", [DOWN, DENIED, DENIED_AS_INVALID, QUOTA], ids=["down", "denied", "422", "quota"])
async def test_what_may_be_taken_later_is_told_and_tried_again(
    user: ClusterUser, operator: OperatorUnderTest, error: ApiError
) -> None:
    refusing = Refusing(operator, "Job", error)
    await user.apply()
    job = await told(user, error.message[:60])
    assert conditions(job)["Running"] == ("False", "CreateFailed")
    refusing.error = None
    await user.phase("Running")

    async def has_event() -> bool:
        return "CreateFailed" in await user.events()

    await eventually(has_event, "an event", user.dump)


@pytest.mark.parametrize("error", WRONG, ids=["422", "400"])
async def test_what_is_wrong_in_itself_fails_the_job(
    user: ClusterUser, operator: OperatorUnderTest, error: ApiError
) -> None:
    Refusing(operator, "Job", error)
    await user.apply()
    assert conditions(await user.phase("Failed"))["Failed"] == ("True", "InvalidSpec")


async def test_a_gang_that_runs_is_not_called_stopped_for_a_part_that_is_refused(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await attempt_runs(user)
    refusing = Refusing(operator, "Service", DOWN)
    await user.api.delete(SERVICES, "tickets-1", "ml")
    job = await told(user, "failed calling webhook")
    assert conditions(job)["Running"] == ("True", "CreateFailed")
    refusing.error = None

    async def mended() -> bool:
        return await user.names(SERVICES) == ["tickets-1"] and conditions(await user.job())["Running"][1] != (
            "CreateFailed"
        )

    await eventually(mended, "the Service", user.dump)
    assert await user.names(JOBS) == ["tickets-1"]


async def test_a_job_that_goes_with_its_namespace_is_no_fault_of_the_operator(
    user: ClusterUser, operator: OperatorUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    words = "unable to create new content in namespace ml because it is being terminated"
    go = partial(user.api.delete, FINE_TUNE_JOBS, "tickets", NAMESPACE)
    Refusing(operator, "Job", ApiError(403, "Forbidden", words), go)
    await user.apply()
    await user.gone(FINE_TUNE_JOBS, "tickets")
    await quiet(user, operator)
    assert "reconcile failed" not in caplog.text
