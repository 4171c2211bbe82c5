"""FineTuneJobs that are deleted while somebody's finalizer holds them."""

from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from controllers.test_fine_tune_job import attempt_runs, conditions, quiet
from finetune_operator.kinds import FINE_TUNE_JOBS
from finetune_operator.kube.resources import JOBS, PODS

AUDIT = "example.com/audit"


async def finalizers(user: ClusterUser, *names: str) -> None:
    await user.api.patch(FINE_TUNE_JOBS, "tickets", {"metadata": {"finalizers": list(names) or None}}, NAMESPACE)


async def test_its_gang_is_stopped_and_not_made_again(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    await finalizers(user, AUDIT)
    await user.api.delete(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    await user.gone(JOBS, "tickets-1")
    await quiet(user, operator)
    job = await user.job()
    assert await user.names(PODS) == []
    assert conditions(job)["Running"] == ("False", "Deleting")
    assert [(one["number"], one["cause"]) for one in job["status"]["attempts"]] == [(1, "JobDeleted")]
    await finalizers(user)
    await user.gone(FINE_TUNE_JOBS, "tickets")


async def test_one_that_never_started_does_not_start(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await user.apply(suspend=True)
    await user.phase("Suspended")
    await finalizers(user, AUDIT)
    await user.api.delete(FINE_TUNE_JOBS, "tickets", NAMESPACE)
    await user.edit(suspend=False)
    await quiet(user, operator)
    assert await user.names(JOBS) == []
    await finalizers(user)


@pytest.mark.parametrize("lagging", [False, True], ids=["", "unseen"])
async def test_orphans_are_left_alone(user: ClusterUser, operator: OperatorUnderTest, lagging: bool) -> None:
    await attempt_runs(user)
    await quiet(user, operator)
    if lagging:
        await operator.deafen(operator.caches.jobs, operator.caches.pods)
    await finalizers(user, AUDIT)
    await user.api.delete(FINE_TUNE_JOBS, "tickets", NAMESPACE, propagation="Orphan")

    async def orphaned() -> Any:
        job = await user.api.get(JOBS, "tickets-1", NAMESPACE)
        held = (await user.job())["metadata"]["finalizers"]
        return not job["metadata"].get("ownerReferences") and held == [AUDIT]

    await eventually(orphaned, "an orphan", user.dump)
    await quiet(user, operator)
    assert await user.names(JOBS) == ["tickets-1"]
    assert len(await user.pods()) == 2
    await finalizers(user)
