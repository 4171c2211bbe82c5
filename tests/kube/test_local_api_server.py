"""The runtime against local mode's API server, over HTTP: what the scripted server can't know of Kubernetes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from finetune_local.apiserver.cluster import Cluster
from finetune_local.apiserver.http.application import Application
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.leader_election import LeaseElector
from finetune_operator.kube.resources import CONFIG_MAPS, EVENTS, LEASES
from kube.conftest import write_kubeconfig
from kube.watcher import Watcher


@pytest.fixture
async def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def local(cluster: Cluster, tmp_path: Path) -> AsyncIterator[HttpKubeApi]:
    runner = web.AppRunner(Application(cluster).build(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    path = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{runner.addresses[0][1]}")
    async with await HttpKubeApi.connect(str(path)) as api:
        yield api
    await runner.cleanup()


def config_map(name: str, **data: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


class ConfigMaps(Watcher):
    """A watcher of ConfigMaps."""

    kind = CONFIG_MAPS


async def test_informer_follows_writes_through_compaction_and_cut_watches(local: HttpKubeApi, cluster: Cluster) -> None:
    for number in range(12):
        await local.create(CONFIG_MAPS, config_map(f"c{number:02}"))
    async with ConfigMaps(local, page_size=5) as watcher:
        await watcher.take(12)
        await local.apply(CONFIG_MAPS, config_map("c00", a="1"), field_manager="test")
        assert await watcher.next() == ("update", "c00")
        cluster.cut_watches()
        await local.delete(CONFIG_MAPS, "c01", "default")
        cluster.compact()
        await local.create(CONFIG_MAPS, config_map("new"))
        assert await watcher.take(2) == {("delete", "c01"), ("add", "new")}
        assert len(watcher.names()) == 12
        applied = watcher.informer.get("default", "c00")
    assert applied["kind"] == "ConfigMap"
    assert "managedFields" not in applied["metadata"]


async def test_apply_that_changes_nothing_is_no_event(local: HttpKubeApi) -> None:
    first = await local.apply(CONFIG_MAPS, config_map("a", x="1"), field_manager="test")
    second = await local.apply(CONFIG_MAPS, config_map("a", x="1"), field_manager="test")
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_refusals_carry_kubernetes_reasons(local: HttpKubeApi) -> None:
    created = await local.create(CONFIG_MAPS, config_map("a"))
    with pytest.raises(ApiError) as exists:
        await local.create(CONFIG_MAPS, config_map("a"))
    assert exists.value.already_exists
    await local.replace(CONFIG_MAPS, created | {"data": {"x": "1"}})
    with pytest.raises(ApiError) as stale:
        await local.replace(CONFIG_MAPS, created | {"data": {"x": "2"}})
    assert stale.value.conflict
    with pytest.raises(ApiError) as other:
        await local.delete(CONFIG_MAPS, "a", "default", uid="another")
    assert other.value.conflict
    with pytest.raises(ApiError) as invalid:
        await local.create(CONFIG_MAPS, config_map("Not A Name"))
    assert invalid.value.invalid


async def test_lease_is_created_renewed_released_and_taken_over(local: HttpKubeApi) -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.sleep(0.5)

    async with asyncio.timeout(20):
        await LeaseElector(local, "default", "lock", "one", 3.0, 2.0, 0.2).run(work)
        lease = await local.get(LEASES, "lock", "default")
        assert not lease["spec"].get("holderIdentity")
        began.clear()
        second = asyncio.create_task(LeaseElector(local, "default", "lock", "two", 3.0, 2.0, 0.2).run(work))
        await began.wait()
        lease = await local.get(LEASES, "lock", "default")
        await second
    assert lease["spec"]["holderIdentity"] == "two"
    assert lease["spec"]["leaseTransitions"] == 1


async def test_events_pass_the_validation_of_the_events_api(local: HttpKubeApi) -> None:
    recorder = EventRecorder(local, "tester")
    running = asyncio.create_task(recorder.run())
    item = await local.create(CONFIG_MAPS, config_map("a"))
    for _ in range(3):
        recorder.record(item, "Normal", "Seen", "x")
    await recorder.drain(10)
    running.cancel()
    (event,) = (await local.list(EVENTS, "default"))["items"]
    assert event["regarding"]["uid"] == item["metadata"]["uid"]
    assert event["series"]["count"] == 3
