"""Strategic merge patches, as kubectl sends them to built-in kinds."""

from typing import Any

import pytest

from finetune_local.apiserver.builtin.catalog import compiler
from finetune_local.apiserver.patches.json_patch import apply_json_patch
from finetune_local.apiserver.patches.strategic_merge import strategic_merge
from finetune_local.apiserver.status_error import StatusError
from local.apiserver.http_client import CRDS, STRATEGIC, Client
from local.apiserver.objects import definition

POD = compiler().named("V1Pod")


def patched(spec: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = strategic_merge(POD, {"spec": spec}, {"spec": patch})["spec"]
    return result


def test_containers_merge_by_name() -> None:
    spec = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}
    result = patched(spec, {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]})
    assert result["containers"] == [
        {"name": "a", "image": "1"},
        {"name": "b", "image": "2"},
        {"name": "c", "image": "3"},
    ]


def test_nested_keyed_lists_merge_and_delete() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    patch = [{"name": "a", "env": [{"name": "A", "$patch": "delete"}, {"name": "B", "value": "3"}]}]
    result = patched({"containers": [{"name": "a", "env": env}]}, {"containers": patch})
    assert result["containers"] == [{"name": "a", "env": [{"name": "B", "value": "3"}]}]


def test_element_order_follows_the_directive() -> None:
    spec = {"containers": [{"name": "a"}, {"name": "server-only"}, {"name": "b"}]}
    order = [{"name": "b"}, {"name": "a"}]
    result = patched(spec, {"$setElementOrder/containers": order})
    assert [one["name"] for one in result["containers"]] == ["b", "server-only", "a"]


def test_plain_lists_are_replaced() -> None:
    result = patched(
        {"containers": [{"name": "a", "args": ["x", "y"]}]}, {"containers": [{"name": "a", "args": ["z"]}]}
    )
    assert result["containers"][0]["args"] == ["z"]


def test_volume_sources_replace_each_other() -> None:
    spec = {"volumes": [{"name": "v", "emptyDir": {}}]}
    patch = {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}
    assert patched(spec, patch)["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]


def test_primitive_lists_lose_named_items() -> None:
    target = {"metadata": {"finalizers": ["a/b", "c/d"]}}
    result = strategic_merge(POD, target, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}})
    assert result["metadata"]["finalizers"] == ["c/d"]


def test_an_object_can_be_replaced_as_a_whole() -> None:
    assert patched({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"$patch": "replace", "b": "2"}}) == {
        "nodeSelector": {"b": "2"}
    }


def test_null_removes() -> None:
    assert patched({"hostname": "h", "subdomain": "s"}, {"hostname": None}) == {"subdomain": "s"}


def test_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(StatusError, match="does not contain declared merge key: name"):
        patched({"containers": [{"name": "a"}]}, {"containers": [{"image": "x"}]})


async def test_custom_resources_take_no_strategic_patches(client: Client) -> None:
    await client.post(
        CRDS, definition("flows", "Flow", {"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    )
    path = "/apis/test.example.com/v1/namespaces/default/flows"
    await client.post(path, {"apiVersion": "test.example.com/v1", "kind": "Flow", "metadata": {"name": "f"}})
    status, body = await client.patch(f"{path}/f", {"spec": {"a": 1}}, STRATEGIC)
    assert (status, body["reason"]) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/list/-", "value": 3}, {"list": [1, 2, 3], "a/b": 0}),
        ({"op": "add", "path": "/list/0", "value": 0}, {"list": [0, 1, 2], "a/b": 0}),
        ({"op": "remove", "path": "/list/1"}, {"list": [1], "a/b": 0}),
        ({"op": "replace", "path": "/a~1b", "value": 9}, {"list": [1, 2], "a/b": 9}),
        ({"op": "move", "from": "/list", "path": "/moved"}, {"moved": [1, 2], "a/b": 0}),
        ({"op": "copy", "from": "/list", "path": "/twice"}, {"list": [1, 2], "twice": [1, 2], "a/b": 0}),
    ],
)
def test_json_patch_operations(operation: dict[str, Any], expected: dict[str, Any]) -> None:
    assert apply_json_patch({"list": [1, 2], "a/b": 0}, [operation]) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/list/7", "value": 1},
        {"op": "test", "path": "/list/0", "value": True},
    ],
)
def test_json_patch_operations_that_do_not_apply(operation: dict[str, Any]) -> None:
    with pytest.raises(StatusError) as refused:
        apply_json_patch({"list": [1, 2]}, [operation])
    assert refused.value.code == 422
