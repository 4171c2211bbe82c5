"""Gangs for the cluster's own scheduler, from an API server that learns of its PodGroups only later."""

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from controllers.pod_groups import DEFINITION, POD_GROUP
from finetune_api.names import API_VERSION
from finetune_operator.kinds import TRAINING_RUNTIMES
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, JOBS


async def test_a_gang_waits_for_the_api_and_is_then_placed_as_a_group(
    user: ClusterUser, operator: OperatorUnderTest
) -> None:
    runtime = {
        "apiVersion": API_VERSION,
        "kind": "TrainingRuntime",
        "metadata": {"name": "gangs", "namespace": NAMESPACE},
        "spec": {"scheduler": "Native"},
    }
    await user.api.create(TRAINING_RUNTIMES, runtime, NAMESPACE)
    await operator.caches.api_groups.refresh()
    await user.apply(runtimeRef={"name": "gangs", "kind": "TrainingRuntime"})

    async def waits() -> bool:
        conditions = ((await user.job()).get("status") or {}).get("conditions") or []
        return "SchedulerNotFound" in [one["reason"] for one in conditions if one["type"] == "Validated"]

    await eventually(waits, "the condition", user.dump)
    assert await user.names(JOBS) == []
    await user.api.create(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION)

    async def served() -> bool:
        await operator.caches.api_groups.refresh()
        return "scheduling.k8s.io/v1beta1" in (operator.caches.api_groups.names or ())

    await eventually(served, "the API", user.dump)
    # Anything wakes it; by itself it looks half a minute later.
    await user.api.patch(TRAINING_RUNTIMES, "gangs", {"metadata": {"labels": {"touched": "1"}}}, NAMESPACE)
    await user.phase("Running")
    (group,) = (await user.api.list(POD_GROUP, NAMESPACE))["items"]
    assert group["spec"] == {"schedulingPolicy": {"gang": {"minCount": 2}}}
    assert group["metadata"]["ownerReferences"][0]["kind"] == "FineTuneJob"
    groups = [pod["spec"]["schedulingGroup"] for pod in await user.pods()]
    assert groups == [{"podGroupName": group["metadata"]["name"]}] * 2
