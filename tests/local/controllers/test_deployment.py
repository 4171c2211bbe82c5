"""Deployments: rolling updates that never drop below the promised number, and their conditions."""

from typing import Any

from finetune_local.cluster import Cluster
from finetune_local.controllers.rollout import REVISION
from finetune_operator.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    SERVICES,
)
from local.clusters import has_condition, pod, wait_for, wait_gone, wait_pods

Object = dict[str, Any]


def deployment(name: str, script: str, replicas: int = 1, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod(name, script)["spec"]}
    template["spec"] |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 0}
    body = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {**body, **spec}}


def rolled_out(item: Object) -> bool:
    status, spec = item.get("status") or {}, item["spec"]
    wanted = spec["replicas"]
    return bool(
        status.get("observedGeneration") == item["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
    )


def condition(item: Object, kind: str) -> Object:
    found: Object = next((one for one in item["status"].get("conditions") or [] if one["type"] == kind), {})
    return found


def new_script(script: str) -> Object:
    return {
        "spec": {
            "template": {"spec": {"containers": [{"name": "main", "image": "none", "command": ["sh", "-c", script]}]}}
        }
    }


async def test_a_deployment_becomes_available(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600", 2), "default")
    up = await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
    assert condition(up, "Available")["status"] == "True"
    assert condition(up, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert up["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"


async def test_a_rolling_update_keeps_all_replicas_ready(cluster: Cluster) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600", 2, strategy=rolling), "default")
    await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
    lowest: list[int] = []
    most: list[int] = []

    def count(old: Object | None, new: Object | None) -> None:
        pods = [one for one in cluster.control_plane.pods.list() if not one["metadata"].get("deletionTimestamp")]
        lowest.append(sum(has_condition("Ready")(one) for one in pods))
        most.append(len(pods))

    cluster.control_plane.pods.add_handler(count)
    await cluster.api.patch(DEPLOYMENTS, "web", new_script("sleep 601"), "default")
    up = await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
    assert up["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert min(lowest[1:]) >= 2
    assert max(most) <= 3
    sets = (await cluster.api.list(REPLICA_SETS, "default"))["items"]
    assert sorted(one["spec"]["replicas"] for one in sets) == [0, 2]


async def test_going_back_uses_the_old_replica_set_under_a_new_revision(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600"), "default")
    for number, script in enumerate(("sleep 601", "sleep 600"), start=2):
        await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
        await cluster.api.patch(DEPLOYMENTS, "web", new_script(script), "default")
        await wait_for(
            cluster,
            DEPLOYMENTS,
            "web",
            lambda item, number=number: rolled_out(item) and item["metadata"]["annotations"][REVISION] == str(number),
        )
    assert len((await cluster.api.list(REPLICA_SETS, "default"))["items"]) == 2


async def test_scaling_up_and_down(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600", 1), "default")
    await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
    for replicas in (3, 0):
        await cluster.api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": replicas}}, "default")
        await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
        await wait_pods(cluster, "app=web", lambda pods, replicas=replicas: len(pods) == replicas)


async def test_recreate_ends_the_old_pods_first(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment("one", "sleep 600", strategy={"type": "Recreate"}), "default")
    await wait_for(cluster, DEPLOYMENTS, "one", rolled_out)
    most: list[int] = []
    cluster.control_plane.pods.add_handler(lambda old, new: most.append(len(cluster.control_plane.pods.list())))
    await cluster.api.patch(DEPLOYMENTS, "one", new_script("sleep 601"), "default")
    await wait_for(cluster, DEPLOYMENTS, "one", lambda item: rolled_out(item) and item["metadata"]["generation"] == 2)
    assert max(most) == 1


async def test_a_rollout_that_does_not_get_ready_exceeds_its_deadline(cluster: Cluster) -> None:
    body = deployment("stuck", "sleep 600", progressDeadlineSeconds=1)
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    body["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe
    await cluster.api.create(DEPLOYMENTS, body, "default")
    stuck = await wait_for(cluster, DEPLOYMENTS, "stuck", has_condition("Progressing", "False"))
    assert condition(stuck, "Progressing")["reason"] == "ProgressDeadlineExceeded"
    assert condition(stuck, "Available")["status"] == "False"


async def test_min_ready_seconds_delays_availability(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment("calm", "sleep 600", minReadySeconds=2), "default")
    ready = await wait_for(cluster, DEPLOYMENTS, "calm", lambda item: (item.get("status") or {}).get("readyReplicas"))
    assert ready["status"].get("availableReplicas", 0) == 0
    await wait_for(cluster, DEPLOYMENTS, "calm", rolled_out)


async def test_deleting_a_deployment_deletes_what_it_made(cluster: Cluster) -> None:
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600"), "default")
    await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
    await cluster.api.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")
    await wait_gone(cluster, DEPLOYMENTS, "web")
    assert (await cluster.api.list(REPLICA_SETS, "default"))["items"] == []
    await wait_pods(cluster, "app=web", lambda pods: not pods)


async def test_endpoint_slices_hold_the_ready_pods(cluster: Cluster) -> None:
    service = {
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    await cluster.api.create(SERVICES, service, "default")
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600", 2), "default")

    def complete(item: Object) -> bool:
        return sum(one["conditions"]["ready"] for one in item.get("endpoints") or []) == 2

    slice_ = await wait_for(cluster, ENDPOINT_SLICES, "web-local", complete)
    pods = (await cluster.api.list(PODS, "default"))["items"]
    addresses = sorted(one["addresses"][0] for one in slice_["endpoints"])
    assert addresses == sorted(one["status"]["podIP"] for one in pods)
    assert slice_["ports"][0]["port"] == 8080


async def test_a_disruption_budget_holds_evictions_back(cluster: Cluster) -> None:
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}}
    await cluster.api.create(POD_DISRUPTION_BUDGETS, budget, "default")
    await cluster.api.create(DEPLOYMENTS, deployment("web", "sleep 600", 3), "default")
    await wait_for(cluster, DEPLOYMENTS, "web", rolled_out)
    allowed = lambda number: lambda item: (item.get("status") or {}).get("disruptionsAllowed") == number  # noqa: E731
    await wait_for(cluster, POD_DISRUPTION_BUDGETS, "web", allowed(1))
    await cluster.api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, "default")
    held = await wait_for(cluster, POD_DISRUPTION_BUDGETS, "web", allowed(0))
    assert held["status"]["currentHealthy"] == held["status"]["desiredHealthy"] == 2
