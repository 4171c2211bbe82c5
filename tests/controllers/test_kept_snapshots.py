"""The ConfigMap that says what a job started with, deleted by hand: the job goes on with what it said."""

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from controllers.test_fine_tune_job import attempt_runs, conditions, quiet
from finetune_local.cluster import Cluster
from finetune_operator.kinds import TRAINING_RUNTIMES
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS
from finetune_operator.plan.attempt import SNAPSHOT_KEY, digest_of

RUNTIME = {
    "apiVersion": TRAINING_RUNTIMES.api_version,
    "kind": "TrainingRuntime",
    "metadata": {"name": "gpus", "namespace": NAMESPACE},
    "spec": {"trainerImage": "trainer:platform"},
}


async def snapshot(user: ClusterUser, attempt: int) -> str:
    found = await user.api.get(CONFIG_MAPS, f"tickets-{attempt}", NAMESPACE)
    return str(found["data"][SNAPSHOT_KEY])


async def lose_snapshot(user: ClusterUser) -> None:
    """And change what it kept, as no webhook is there to refuse it."""
    await user.api.delete(CONFIG_MAPS, "tickets-1", NAMESPACE)
    await user.edit(training={"epochs": 9})


async def test_a_gang_that_runs_gets_it_back(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    before = await snapshot(user, 1)
    await lose_snapshot(user)

    async def told() -> bool:
        return conditions(await user.job())["Validated"] == ("True", "SpecChangeIgnored")

    async def again() -> bool:
        return await user.names(CONFIG_MAPS) == ["tickets-1"]

    await eventually(told, "that the change is ignored", user.dump)
    await eventually(again, "the ConfigMap", user.dump)
    assert await snapshot(user, 1) == before
    assert operator.api.requests["list"] == 0, "nobody had to look for it"


async def test_the_next_attempt_gets_it_when_no_gang_runs(user: ClusterUser, operator: OperatorUnderTest) -> None:
    await attempt_runs(user)
    before = await snapshot(user, 1)
    await user.edit(suspend=True)
    await user.phase("Suspended")
    await quiet(user, operator)
    await lose_snapshot(user)
    await quiet(user, operator)
    assert conditions(await user.job())["Validated"] == ("True", "SpecChangeIgnored")
    await user.edit(suspend=False)
    await user.phase("Running", attempt=2)
    assert await snapshot(user, 2) == before


async def test_one_that_went_while_no_operator_looked_is_asked_for_once(cluster: Cluster, user: ClusterUser) -> None:
    async with OperatorUnderTest(cluster.kubeconfig) as before:
        await attempt_runs(user)
        await user.edit(suspend=True)
        await user.phase("Suspended")
        await quiet(user, before)
    await lose_snapshot(user)
    async with OperatorUnderTest(cluster.kubeconfig) as after:

        async def told() -> bool:
            return conditions(await user.job())["Validated"] == ("True", "SnapshotLost")

        await eventually(told, "the loss", user.dump)
        await quiet(user, after)
        asked = after.api.requests["list"]
        for step in (3, 4):
            await user.report_checkpoint(step)
            await quiet(user, after)
        assert (asked, after.api.requests["list"]) == (3, 3)
        await user.edit(suspend=False)
        job = await user.phase("Running", attempt=2)
        assert job["status"]["snapshotDigest"] == digest_of(await snapshot(user, 2))


async def test_a_gang_gets_it_back_that_lost_it_with_the_runtime_while_no_operator_looked(
    cluster: Cluster, user: ClusterUser
) -> None:
    """Nobody has the runtime any more: the Job tells what it was."""
    runtime = await user.api.create(TRAINING_RUNTIMES, RUNTIME, NAMESPACE)
    async with OperatorUnderTest(cluster.kubeconfig):
        await user.apply(runtimeRef={"name": "gpus", "kind": "TrainingRuntime"})
        await user.phase("Running")
        before = await snapshot(user, 1)
    await user.api.delete(TRAINING_RUNTIMES, runtime["metadata"]["name"], NAMESPACE)
    await lose_snapshot(user)
    async with OperatorUnderTest(cluster.kubeconfig):
        await user.edit(suspend=True)
        job = await user.phase("Suspended")
        assert conditions(job)["Validated"] == ("True", "SpecChangeIgnored")
        await user.gone(JOBS, "tickets-1")
        await user.edit(suspend=False)
        await user.phase("Running", attempt=2)
        assert await snapshot(user, 2) == before


async def test_nothing_is_kept_that_is_held_elsewhere_or_not_needed_any_more(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    await attempt_runs(user)
    await user.end_pod((await user.pods())[0], 1, "boom")
    await user.phase("Running", attempt=2)
    await delete_and_see(user, operator, "tickets-1")
    await user.finish_gang(attempt=2)
    await user.phase("Succeeded")
    await delete_and_see(user, operator, "tickets-2")


async def delete_and_see(user: ClusterUser, operator: OperatorUnderTest, name: str) -> None:
    await user.api.delete(CONFIG_MAPS, name, NAMESPACE)

    async def seen() -> bool:
        return not operator.caches.config_maps.has(NAMESPACE, name)

    await eventually(seen, "the deletion", user.dump)
    assert operator.caches.snapshots.of(await user.job()) == []
