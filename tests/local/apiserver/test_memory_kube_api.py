"""The API without HTTP answers as the API over HTTP."""

import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from finetune_local.apiserver import ApiServer
from finetune_operator.kube.client import ApiError, HttpKubeApi, KubeApi
from finetune_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS, PODS
from local.apiserver.objects import config_map, deployment, job, pod


@pytest.fixture(params=["memory", "http"])
async def api(request: pytest.FixtureRequest, server: ApiServer, tmp_path: pathlib.Path) -> AsyncIterator[KubeApi]:
    if request.param == "memory":
        yield server.api
        return
    async with await HttpKubeApi.connect(str(server.write_kubeconfig(tmp_path / "kubeconfig"))) as over_http:
        yield over_http


async def test_what_is_read_may_be_changed_by_the_reader(api: KubeApi) -> None:
    body = config_map("a", k="v")
    created = await api.create(CONFIG_MAPS, body, "default")
    created["data"]["k"] = "changed"
    body["data"]["k"] = "changed"
    assert (await api.get(CONFIG_MAPS, "a", "default"))["data"] == {"k": "v"}


async def test_refusals_carry_status_and_reason(api: KubeApi) -> None:
    with pytest.raises(ApiError) as missing:
        await api.get(PODS, "nope", "default")
    assert (missing.value.status, missing.value.reason) == (404, "NotFound")
    await api.create(CONFIG_MAPS, config_map("a"), "default")
    with pytest.raises(ApiError) as twice:
        await api.create(CONFIG_MAPS, config_map("a"), "default")
    assert twice.value.already_exists
    with pytest.raises(ApiError) as invalid:
        await api.create(JOBS, job("j", completions=-1), "default")
    assert invalid.value.invalid
    assert invalid.value.body["details"]["causes"][0]["field"] == "spec.completions"


async def test_deleting_nothing_answers_nothing(api: KubeApi) -> None:
    assert await api.delete(PODS, "nope", "default") is None


async def test_apply_patch_and_status(api: KubeApi) -> None:
    body = deployment("web")
    body["metadata"]["namespace"] = "default"
    await api.apply(DEPLOYMENTS, body, field_manager="tester")
    await api.patch(DEPLOYMENTS, "web", {"status": {"replicas": 1}}, "default", subresource="status")
    patched = await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, "default")
    assert (patched["spec"]["replicas"], patched["status"]["replicas"]) == (2, 1)
    patched["status"]["replicas"] = 2
    replaced = await api.replace_status(DEPLOYMENTS, patched)
    assert replaced["status"]["replicas"] == 2


async def test_scaling(api: KubeApi) -> None:
    await api.create(DEPLOYMENTS, deployment("web"), "default")
    scale = await api.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, "default", subresource="scale")
    assert (scale["kind"], scale["spec"]["replicas"]) == ("Scale", 4)
    assert (await api.get(DEPLOYMENTS, "web", "default"))["spec"]["replicas"] == 4


async def test_watches_follow_a_list(api: KubeApi) -> None:
    await api.create(CONFIG_MAPS, config_map("before"), "default")
    version = (await api.list(CONFIG_MAPS, "default"))["metadata"]["resourceVersion"]
    await api.create(CONFIG_MAPS, config_map("after"), "default")
    names: list[Any] = []
    async for event in api.watch(CONFIG_MAPS, "default", resource_version=version, timeout_seconds=1):
        if event["type"] != "BOOKMARK":
            names.append(event["object"]["metadata"]["name"])
    assert names == ["after"]


async def test_pods_are_bound_by_post(api: KubeApi) -> None:
    await api.create(PODS, pod("p"), "default")
    target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "node-1"}}
    await api.post(PODS.path("default", "p", "binding"), target)
    bound = await api.get(PODS, "p", "default")
    assert bound["spec"]["nodeName"] == "node-1"
    with pytest.raises(ApiError) as again:
        await api.post(PODS.path("default", "p", "binding"), target)
    assert again.value.conflict
