"""A leader whose caches are behind: what they do not show may be there all the same."""

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from controllers.test_fine_tune_job import attempt_runs, quiet
from finetune_local.cluster import Cluster
from finetune_operator.kube.resources import JOBS, PODS

DOTTED = "tickets-2.1"
"""No label of objects has it as it is."""


async def test_a_gang_whose_job_the_new_leader_has_not_seen_runs_on(cluster: Cluster, user: ClusterUser) -> None:
    async with OperatorUnderTest(cluster.kubeconfig, leads=False) as standby:
        await standby.deafen(standby.caches.jobs)
        async with OperatorUnderTest(cluster.kubeconfig) as leader:
            await user.apply(DOTTED)
            before = await user.phase("Running", DOTTED)
            await quiet(user, leader)
        standby.lead()
        await user.report_checkpoint(3, DOTTED)

        async def looked() -> bool:
            return standby.api.requests["list"] >= 3

        await eventually(looked, "a look at the live Job", user.dump)
        await quiet(user, standby)
        after = await user.job(DOTTED)
        jobs = await user.names(JOBS)
    assert after["status"]["attempts"] == before["status"]["attempts"]
    assert (after["status"]["phase"], len(jobs)) == ("Running", 1)


async def test_pods_that_the_new_leader_has_not_seen_are_not_joined_by_the_next_gang(
    cluster: Cluster, user: ClusterUser
) -> None:
    async with OperatorUnderTest(cluster.kubeconfig, leads=False) as standby:
        await standby.deafen(standby.caches.jobs, standby.caches.pods)
        async with OperatorUnderTest(cluster.kubeconfig) as leader:
            await attempt_runs(user)
            held = (await user.pods())[0]["metadata"]["name"]
            await user.api.patch(PODS, held, {"metadata": {"finalizers": ["example.com/slow"]}}, NAMESPACE)
            await user.edit(suspend=True)
            await user.phase("Suspended")
            await quiet(user, leader)
        await user.edit(suspend=False)
        standby.lead()

        async def looked() -> bool:
            return standby.api.requests["list"] >= 3

        await eventually(looked, "a look at the live pods", user.dump)
        await quiet(user, standby)
        assert (await user.job())["status"]["attempt"] == 1
        assert await user.names(PODS) == [held]
        await user.api.patch(PODS, held, {"metadata": {"finalizers": None}}, NAMESPACE)
