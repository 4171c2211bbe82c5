"""What goes when its owner goes: Background, Foreground, Orphan, custom resources, namespaces."""

from typing import Any

import pytest

from finetune_local.cluster import Cluster
from finetune_local.controllers.owned_pods import controller_reference
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
    Kind,
)
from local.clusters import has_condition, pod, wait_for, wait_gone

Object = dict[str, Any]
WIDGETS = Kind("example.com/v1", "Widget", "widgets")


def config_map(name: str, *owners: Object) -> Object:
    references = [controller_reference(owner) | {"controller": False} for owner in owners]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": references}}


async def family(cluster: Cluster) -> None:
    parent = await cluster.api.create(CONFIG_MAPS, config_map("parent"), "default")
    child = await cluster.api.create(CONFIG_MAPS, config_map("child", parent), "default")
    await cluster.api.create(CONFIG_MAPS, config_map("grandchild", child), "default")


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_descendants_go_with_the_owner(cluster: Cluster, propagation: str) -> None:
    await family(cluster)
    await cluster.api.delete(CONFIG_MAPS, "parent", "default", propagation=propagation)
    for name in ("parent", "child", "grandchild"):
        await wait_gone(cluster, CONFIG_MAPS, name)


async def test_foreground_keeps_the_owner_until_its_dependents_are_gone(cluster: Cluster) -> None:
    await family(cluster)
    hold = {"metadata": {"finalizers": ["example.com/hold"]}}
    await cluster.api.patch(CONFIG_MAPS, "child", hold, "default")
    await cluster.api.delete(CONFIG_MAPS, "parent", "default", propagation="Foreground")
    await wait_for(cluster, CONFIG_MAPS, "child", lambda item: item["metadata"].get("deletionTimestamp"))
    assert (await cluster.api.get(CONFIG_MAPS, "parent", "default"))["metadata"]["deletionTimestamp"]
    await cluster.api.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": None}}, "default")
    await wait_gone(cluster, CONFIG_MAPS, "parent")


async def test_orphans_stay_without_their_owner(cluster: Cluster) -> None:
    await family(cluster)
    await cluster.api.delete(CONFIG_MAPS, "parent", "default", propagation="Orphan")
    await wait_gone(cluster, CONFIG_MAPS, "parent")
    child = await cluster.api.get(CONFIG_MAPS, "child", "default")
    assert not child["metadata"].get("ownerReferences")
    assert not child["metadata"].get("deletionTimestamp")


async def test_an_object_with_a_second_owner_stays(cluster: Cluster) -> None:
    first = await cluster.api.create(CONFIG_MAPS, config_map("first"), "default")
    second = await cluster.api.create(CONFIG_MAPS, config_map("second"), "default")
    await cluster.api.create(CONFIG_MAPS, config_map("shared", first, second), "default")
    await cluster.api.delete(CONFIG_MAPS, "first", "default")
    shared = await wait_for(
        cluster, CONFIG_MAPS, "shared", lambda item: len(item["metadata"].get("ownerReferences") or []) == 1
    )
    assert shared["metadata"]["ownerReferences"][0]["name"] == "second"


async def test_custom_resources_own_objects_too(cluster: Cluster) -> None:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget"}
    spec = {
        "group": "example.com",
        "names": names,
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    crd = {"metadata": {"name": "widgets.example.com"}, "spec": spec}
    await cluster.api.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    await wait_for(cluster, CUSTOM_RESOURCE_DEFINITIONS, "widgets.example.com", has_condition("Established"))
    body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    widget = await cluster.api.create(WIDGETS, body, "default")
    await cluster.api.create(CONFIG_MAPS, config_map("made", widget), "default")
    await cluster.api.delete(WIDGETS, "w", "default")
    await wait_gone(cluster, CONFIG_MAPS, "made")


async def test_a_namespace_is_born_with_its_account_and_goes_with_its_content(cluster: Cluster) -> None:
    await cluster.api.create(NAMESPACES, {"metadata": {"name": "team"}})
    await wait_for(cluster, SERVICE_ACCOUNTS, "default", lambda item: True, namespace="team")
    authority = await wait_for(cluster, CONFIG_MAPS, "kube-root-ca.crt", lambda item: True, namespace="team")
    assert authority["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
    body = pod("p", "sleep 600", terminationGracePeriodSeconds=0)
    await cluster.api.create(PODS, body, "team")
    await wait_for(cluster, PODS, "p", has_condition("Ready"), namespace="team")
    await cluster.api.delete(NAMESPACES, "team")
    await wait_gone(cluster, NAMESPACES, "team")
    with pytest.raises(ApiError, match="not found"):
        await cluster.api.get(PODS, "p", "team")


async def test_a_claim_is_bound_to_a_folder(cluster: Cluster) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await cluster.api.create(PERSISTENT_VOLUME_CLAIMS, {"metadata": {"name": "data"}, "spec": spec}, "default")
    bound = await wait_for(
        cluster, PERSISTENT_VOLUME_CLAIMS, "data", lambda item: item["status"].get("phase") == "Bound"
    )
    assert bound["status"]["capacity"] == {"storage": "1Gi"}
    assert cluster.control_plane.claim_folders.path("default", "data").is_dir()
