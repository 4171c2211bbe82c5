"""The ModelDeployment controller against a real API server and Deployment controller; pods run without processes."""

from collections.abc import AsyncIterator

import pytest

from controllers.serving_user import NAMESPACE, ServingUser, condition, serving, serving_controllers
from finetune_local.cluster import Cluster
from finetune_operator.kinds import MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.resources import DEPLOYMENTS, PODS, SECRETS, SERVICES

NEVER_SCHEDULED = "pvc://no-such-claim/v2"
"""A version whose pods wait for a volume that does not exist."""


@pytest.fixture
async def user(cluster: Cluster) -> AsyncIterator[ServingUser]:
    async with serving_controllers(cluster.kubeconfig) as api:
        yield ServingUser(api)


@pytest.fixture
async def deployed(user: ServingUser) -> ServingUser:
    """`v1` is stable."""
    await user.publish("v1")
    await user.deploy(progressDeadlineSeconds=1)
    await user.until_stable("v1")
    return user


async def test_waits_for_a_version_then_serves_it(user: ServingUser) -> None:
    await user.deploy()
    waiting = await user.until(lambda s: condition(s, "Reconciling") == "True")
    assert waiting["conditions"][0]["reason"] == "NotDeployed"
    await user.publish("v1")
    status = await user.until_stable("v1")
    assert status["available"] == "2/2"
    assert status["url"] == "http://tickets.ml.svc"
    service = await user.api.get(SERVICES, "tickets", NAMESPACE)
    assert service["spec"]["ports"][0]["port"] == 80
    pods = (await user.api.list(PODS, NAMESPACE, label_selector=status["selector"]))["items"]
    assert len(pods) == 2
    assert {"RollingOut", "Promoted"} <= set(await user.events())


async def test_waits_for_the_secret_of_a_version_and_sees_it_come(user: ServingUser) -> None:
    await user.deploy(credentials={"secretName": "s3"})
    await user.publish("v1")
    await user.until(lambda s: "there is no Secret 's3'" in str(s["conditions"]))
    assert (await user.api.list(DEPLOYMENTS, NAMESPACE))["items"] == []
    await user.api.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}}, NAMESPACE)
    await user.until_stable("v1")


async def test_follows_a_new_version(deployed: ServingUser) -> None:
    await deployed.publish("v2")
    status = await deployed.until_stable("v2")
    assert [change["version"] for change in status["history"]] == ["v1", "v2"]


async def test_rolls_back_what_does_not_become_ready(deployed: ServingUser) -> None:
    await deployed.publish("v2", uri=NEVER_SCHEDULED)
    status = await deployed.until(lambda s: s.get("failedVersions") == ["v2"] and condition(s, "Ready") == "True")
    assert status["stable"] == "v1"
    assert condition(status, "Degraded") == "True"
    assert status["history"][-1]["outcome"] == "RolledBack"
    assert "no-such-claim" in status["history"][-1]["reason"]
    deployment = await deployed.until_deployment(lambda d: serving(d) == "v1")
    assert deployment["status"]["availableReplicas"] == 2
    assert (await deployed.events()).count("RolledBack") == 1


async def test_an_operator_that_starts_anew_does_not_try_a_failed_version_again(cluster: Cluster) -> None:
    async with serving_controllers(cluster.kubeconfig):
        user = ServingUser(cluster.api)
        await user.publish("v1")
        await user.deploy(progressDeadlineSeconds=1)
        await user.until_stable("v1")
        await user.publish("v2", uri=NEVER_SCHEDULED)
        await user.until(lambda s: s.get("failedVersions") == ["v2"] and condition(s, "Ready") == "True")
    before = await user.api.get(DEPLOYMENTS, "tickets", NAMESPACE)
    async with serving_controllers(cluster.kubeconfig):
        await user.edit(replicas=3)
        await user.until(lambda s: s.get("available") == "3/3")
        after = await user.api.get(DEPLOYMENTS, "tickets", NAMESPACE)
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


async def test_the_scale_subresource_scales(deployed: ServingUser) -> None:
    scale = await deployed.api.patch(
        MODEL_DEPLOYMENTS, "tickets", {"spec": {"replicas": 3}}, NAMESPACE, subresource="scale"
    )
    assert scale["kind"] == "Scale"
    await deployed.until(lambda s: s.get("replicas") == 3 and s.get("available") == "3/3")
    found = await deployed.api.list(PODS, NAMESPACE, label_selector=(await deployed.status())["selector"])
    assert len(found["items"]) == 3


async def test_what_others_change_in_the_pods_is_undone_and_what_they_add_stays(deployed: ServingUser) -> None:
    foreign = {"metadata": {"annotations": {"team": "support"}}, "spec": {"minReadySeconds": 0, "paused": False}}
    patch = foreign | {"spec": {"replicas": 7}}
    await deployed.api.patch(DEPLOYMENTS, "tickets", patch, NAMESPACE, field_manager="kubectl-edit")
    deployment = await deployed.until_deployment(lambda d: d["spec"]["replicas"] == 2)
    assert deployment["metadata"]["annotations"]["team"] == "support"


async def test_the_spec_belongs_to_the_user(deployed: ServingUser) -> None:
    await deployed.publish("v2")
    await deployed.until_stable("v2")
    resource = await deployed.api.get(MODEL_DEPLOYMENTS, "tickets", NAMESPACE)
    assert resource["metadata"]["generation"] == 1, "the controller writes the status only"


async def test_deleting_the_version_that_serves_keeps_it_serving(deployed: ServingUser) -> None:
    before = await deployed.api.get(DEPLOYMENTS, "tickets", NAMESPACE)
    await deployed.api.delete(MODEL_VERSIONS, "v1", NAMESPACE)
    await deployed.edit(replicas=1)
    await deployed.until(lambda s: s.get("available") == "1/1" and condition(s, "Ready") == "True")
    after = await deployed.api.get(DEPLOYMENTS, "tickets", NAMESPACE)
    assert after["spec"]["template"] == before["spec"]["template"]


async def test_a_deployment_that_someone_deletes_comes_back(deployed: ServingUser) -> None:
    old = await deployed.api.get(DEPLOYMENTS, "tickets", NAMESPACE)
    await deployed.api.delete(DEPLOYMENTS, "tickets", NAMESPACE)
    await deployed.until_deployment(lambda d: d["metadata"]["uid"] != old["metadata"]["uid"])
    await deployed.until_stable("v1")


async def test_a_deployment_of_someone_else_is_left_alone(user: ServingUser) -> None:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    foreign = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tickets", "namespace": NAMESPACE},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": template},
    }
    await user.api.create(DEPLOYMENTS, foreign, NAMESPACE)
    await user.publish("v1")
    await user.deploy()
    status = await user.until(lambda s: condition(s, "Stalled") == "True")
    assert "exists and is not ours" in next(c["message"] for c in status["conditions"] if c["type"] == "Stalled")
    kept = await user.api.get(DEPLOYMENTS, "tickets", NAMESPACE)
    assert kept["spec"]["template"]["spec"]["containers"][0]["image"] == "x"


async def test_what_the_api_server_refuses_is_shown_and_mended(user: ServingUser) -> None:
    await user.publish("v1")
    bad = {"spec": {"containers": [{"name": "server", "ports": [{"containerPort": 99999}]}]}}
    await user.deploy(podTemplate=bad)
    status = await user.until(lambda s: condition(s, "Stalled") == "True")
    assert "containerPort" in next(c["message"] for c in status["conditions"] if c["type"] == "Stalled")
    await user.edit(podTemplate=None)
    await user.until_stable("v1")


async def test_deleting_the_model_deployment_deletes_what_it_made(deployed: ServingUser) -> None:
    await deployed.api.delete(MODEL_DEPLOYMENTS, "tickets", NAMESPACE)
    for kind in (DEPLOYMENTS, SERVICES):
        await deployed.until_gone(kind, "tickets")
