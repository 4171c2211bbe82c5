"""An operator that allows other things than the one before: gangs that run keep their rules, and nothing piles up."""

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import SETTINGS, OperatorUnderTest
from controllers.test_fine_tune_job import quiet
from finetune_api.names import LABEL_NETWORK
from finetune_local.cluster import Cluster
from finetune_operator.kube.resources import JOBS, NETWORK_POLICIES
from finetune_operator.plan.settings import Settings

AFTER = Settings("trainer:test", "https://progress.example.com:8443")
ALONE = {"distributed": {"nodes": 1}}


async def policies(user: ClusterUser) -> dict[str, object]:
    items = (await user.api.list(NETWORK_POLICIES, NAMESPACE))["items"]
    return {item["metadata"]["name"]: item["spec"] for item in items}


async def test_rules_of_running_gangs_outlive_an_upgrade_and_go_with_the_next_start(
    cluster: Cluster, user: ClusterUser
) -> None:
    async with OperatorUnderTest(cluster.kubeconfig, settings=SETTINGS):
        await user.apply("old", **ALONE)
        await user.apply("old-gang")
        for name in ("old", "old-gang"):
            await user.phase("Running", name)
        before = await policies(user)
    assert len(before) == 2
    (shared,) = (name for name in before if name.startswith("finetune-trainer-"))
    label = (await user.pods(name="old"))[0]["metadata"]["labels"][LABEL_NETWORK]
    assert shared.endswith(label)

    async with OperatorUnderTest(cluster.kubeconfig, settings=AFTER):
        for name in before:
            await user.api.delete(NETWORK_POLICIES, name, NAMESPACE)

        async def restored() -> bool:
            return (await policies(user)) == before

        await eventually(restored, "the rules of the gangs that run", user.dump)
        await user.apply("new", **ALONE)
        await user.phase("Running", "new")
        during = await policies(user)
        assert before.items() < during.items()
        assert len(during) == 3
        await user.finish_gang(name="old")
        await user.phase("Succeeded", "old")
        assert shared in await policies(user)

    (new,) = during.keys() - before.keys()
    async with OperatorUnderTest(cluster.kubeconfig, settings=AFTER):
        await user.apply("next", **ALONE)
        await user.phase("Running", "next")
        assert (await policies(user)).keys() == {new, "old-gang-training"}
        await user.finish_gang(name="new")
        await user.phase("Succeeded", "new")
    async with OperatorUnderTest(cluster.kubeconfig, settings=AFTER):
        await user.apply("last")
        await user.phase("Running", "last")
        assert new in await policies(user), "the job `next` still needs it"


async def test_rules_of_a_gang_whose_job_the_new_leader_has_not_seen_stay(cluster: Cluster, user: ClusterUser) -> None:
    async with OperatorUnderTest(cluster.kubeconfig, settings=AFTER, leads=False) as standby:
        await standby.deafen(standby.caches.jobs)
        async with OperatorUnderTest(cluster.kubeconfig) as leader:
            await user.apply(**ALONE)
            await user.phase("Running")
            await quiet(user, leader)
        (policy,) = await policies(user)

        async def shown() -> bool:
            return standby.caches.policies.has(NAMESPACE, policy)

        await eventually(shown, "the policy, but not its Job", user.dump)
        standby.lead()

        async def asked() -> bool:
            return standby.api.requests["list"] >= 1

        await eventually(asked, "a look at the live Jobs", user.dump)
        await quiet(user, standby)
        assert standby.api.requests["delete"] == 0


async def test_where_a_job_does_not_say_what_it_needs_all_policies_stay(cluster: Cluster, user: ClusterUser) -> None:
    async with OperatorUnderTest(cluster.kubeconfig):
        await user.apply(**ALONE)
        await user.phase("Running")
    annotations = {"finetune-operator.io/network-policy": None}
    await user.api.patch(JOBS, "tickets-1", {"metadata": {"annotations": annotations}}, NAMESPACE)
    before = await policies(user)
    async with OperatorUnderTest(cluster.kubeconfig, settings=AFTER):
        await user.apply("next")
        await user.phase("Running", "next")
        assert before.items() <= (await policies(user)).items()
