"""Stored versions are for ever: later writes share parts with them and change none."""

import copy
from typing import Any

from finetune_local.apiserver import ApiServer
from finetune_operator.kube.resources import DEPLOYMENTS, JOBS, PODS
from local.apiserver.objects import deployment, job, pod


async def test_no_write_changes_an_earlier_version(server: ApiServer) -> None:
    api, seen = server.api, []

    def record(_key: Any, _namespace: str, _name: str, stored: Any, _revision: int) -> None:
        if stored is not None:
            seen.append((stored.body, copy.deepcopy(stored.body)))

    server.cluster.store.listeners.append(record)
    web = deployment("web") | {"metadata": {"name": "web", "namespace": "default", "labels": {"a": "b"}}}
    await api.apply(DEPLOYMENTS, web, field_manager="one")
    web["spec"]["replicas"] = 3
    await api.apply(DEPLOYMENTS, web, field_manager="one")
    await api.apply(DEPLOYMENTS, web, field_manager="two")
    await api.patch(DEPLOYMENTS, "web", {"metadata": {"labels": {"c": "d"}}}, "default")
    await api.patch(DEPLOYMENTS, "web", {"status": {"replicas": 1}}, "default", subresource="status")
    await api.create(JOBS, job("j"), "default")
    await api.patch(JOBS, "j", {"spec": {"suspend": True}}, "default")
    await api.create(PODS, pod("p", volumes=[{"name": "v"}]), "default")
    await api.patch(PODS, "p", {"metadata": {"annotations": {"x": "y"}}}, "default")
    await api.delete(JOBS, "j", "default", propagation="Foreground")
    await api.delete(DEPLOYMENTS, "web", "default")
    assert len(seen) >= 10
    assert [body for body, _ in seen] == [before for _, before in seen]


async def test_lists_are_in_order_of_namespace_and_name(server: ApiServer) -> None:
    for namespace, name in (("kube-system", "b"), ("default", "z"), ("default", "a")):
        await server.api.create(PODS, pod(name), namespace)
    items = (await server.api.list(PODS))["items"]
    keys = [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]
    assert keys == [("default", "a"), ("default", "z"), ("kube-system", "b")]
