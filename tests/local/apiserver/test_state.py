"""Objects survive a restart in a state folder."""

import pathlib

import pytest

from finetune_local.apiserver import ApiServer
from finetune_local.apiserver.journal import FILE, CorruptStateError
from finetune_operator.kube.client import ApiError
from finetune_operator.kube.resources import CONFIG_MAPS, Kind
from local.apiserver.objects import config_map, definition

THINGS = Kind("test.example.com/v1", "Thing", "things")
CRDS = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)


async def test_objects_come_back_as_they_were(tmp_path: pathlib.Path) -> None:
    async with ApiServer(tmp_path, tls=False) as server:
        kept = await server.api.create(CONFIG_MAPS, config_map("kept", k="v"), "default")
        await server.api.create(CONFIG_MAPS, config_map("gone"), "default")
        await server.api.delete(CONFIG_MAPS, "gone", "default")
        await server.api.create(CRDS, definition("things", "Thing", {"type": "object"}))
        thing = {"apiVersion": "test.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
        await server.api.create(THINGS, thing, "default")
        revision = server.cluster.store.revision
    async with ApiServer(tmp_path, tls=False) as server:
        assert await server.api.get(CONFIG_MAPS, "kept", "default") == kept
        assert (await server.api.get(THINGS, "t", "default"))["metadata"]["name"] == "t"
        with pytest.raises(ApiError) as missing:
            await server.api.get(CONFIG_MAPS, "gone", "default")
        assert missing.value.not_found
        later = await server.api.create(CONFIG_MAPS, config_map("later"), "default")
        assert int(later["metadata"]["resourceVersion"]) > revision


async def test_versions_never_go_back_after_a_crash(tmp_path: pathlib.Path) -> None:
    server = ApiServer(tmp_path, tls=False)
    await server.start()
    await server.api.create(CONFIG_MAPS, config_map("a"), "default")
    seen = server.cluster.store.revision
    copy = tmp_path / "crashed"
    copy.mkdir()
    (copy / FILE).write_bytes((tmp_path / FILE).read_bytes() + b'{"revision": 9, "key": ["", "conf')  # torn
    await server.stop()
    async with ApiServer(copy, tls=False) as restarted:
        assert restarted.cluster.store.revision > seen
        assert int((await restarted.api.list(CONFIG_MAPS))["metadata"]["resourceVersion"]) > seen


async def test_watches_from_before_a_restart_must_list_again(tmp_path: pathlib.Path) -> None:
    async with ApiServer(tmp_path, tls=False) as server:
        for name in ("a", "b"):
            await server.api.create(CONFIG_MAPS, config_map(name), "default")
        old = str(server.cluster.store.revision - 1)
    async with ApiServer(tmp_path, tls=False) as server:
        events = server.api.watch(CONFIG_MAPS, resource_version=old, timeout_seconds=5)
        with pytest.raises(ApiError) as gone:
            await anext(events)
        assert gone.value.gone


def test_a_corrupt_file_is_named_with_its_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / FILE).write_text('{"revision": 5}\nnonsense\n{"revision": 6}\n')
    with pytest.raises(CorruptStateError, match=r"objects\.jsonl, line 2"):
        ApiServer(tmp_path)


async def test_keys_and_certificates_stay(tmp_path: pathlib.Path) -> None:
    async with ApiServer(tmp_path) as server:
        before = server.pki.read("ca.crt")
    async with ApiServer(tmp_path) as server:
        assert server.pki.read("ca.crt") == before
