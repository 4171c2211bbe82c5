"""Server-side apply: ownership, conflicts, removal, keyed lists."""

from typing import Any

from local.apiserver.http_client import CONFIG_MAPS, CRDS, DEPLOYMENTS, Client
from local.apiserver.objects import config_map, container, definition, deployment


def owners(body: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["manager"], one["operation"]): one["fieldsV1"] for one in body["metadata"]["managedFields"]}


async def test_apply_creates_and_owns_what_it_sends(client: Client) -> None:
    status, body = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="v"), "one")
    assert status == 201
    assert owners(body) == {("one", "Apply"): {"f:data": {"f:k": {}}}}


async def test_apply_needs_a_field_manager(client: Client) -> None:
    status, body = await client.patch(f"{CONFIG_MAPS}/a", config_map("a"), "application/apply-patch+yaml")
    assert status == 422
    assert body["message"].endswith("fieldManager: Required value: is required for apply patch")


async def test_fields_that_are_applied_no_longer_are_removed(client: Client) -> None:
    await client.apply(f"{CONFIG_MAPS}/a", config_map("a", keep="1", drop="2"), "one")
    _, body = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", keep="1"), "one")
    assert body["data"] == {"keep": "1"}


async def test_fields_of_others_stay(client: Client) -> None:
    await client.apply(f"{CONFIG_MAPS}/a", config_map("a", mine="1", shared="x"), "one")
    await client.apply(f"{CONFIG_MAPS}/a", config_map("a", theirs="2", shared="x"), "two")
    _, body = await client.apply(f"{CONFIG_MAPS}/a", config_map("a"), "one")
    assert body["data"] == {"theirs": "2", "shared": "x"}


async def test_a_conflict_names_the_owner_and_the_field(client: Client) -> None:
    await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="1"), "one")
    status, body = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="2"), "two")
    assert (status, body["reason"]) == (409, "Conflict")
    assert body["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    assert body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}
    ]
    assert (await client.get(f"{CONFIG_MAPS}/a"))[1]["data"] == {"k": "1"}


async def test_conflicts_with_updaters_name_their_version(client: Client) -> None:
    await client.post(DEPLOYMENTS, deployment("web"), fieldManager="creator")
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 3}}
    await client.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 2}}, fieldManager="scaler")
    status, body = await client.apply(f"{DEPLOYMENTS}/web", wanted, "two")
    assert status == 409
    assert body["message"] == ('Apply failed with 1 conflict: conflict with "scaler" using apps/v1: .spec.replicas')


async def test_force_takes_the_field_over(client: Client) -> None:
    await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="1"), "one")
    status, body = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="2"), "two", force=True)
    assert (status, body["data"]) == (200, {"k": "2"})
    assert list(owners(body)) == [("two", "Apply")]


async def test_an_update_takes_the_field_over_and_is_not_undone(client: Client) -> None:
    await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="1"), "one")
    _, body = await client.patch(f"{CONFIG_MAPS}/a", {"data": {"k": "2"}}, fieldManager="editor")
    assert owners(body) == {("editor", "Update"): {"f:data": {"f:k": {}}}}
    assert (await client.apply(f"{CONFIG_MAPS}/a", config_map("a", k="1"), "one"))[0] == 409


async def test_applying_the_same_again_writes_nothing(client: Client) -> None:
    body = deployment("web", replicas=2)
    _, first = await client.apply(f"{DEPLOYMENTS}/web", body, "one")
    status, second = await client.apply(f"{DEPLOYMENTS}/web", body, "one")
    assert (status, second) == (200, first)


async def test_containers_are_owned_by_name(client: Client) -> None:
    await client.apply(f"{DEPLOYMENTS}/web", deployment("web"), "one")
    sidecar = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [container("sidecar", env=[{"name": "A", "value": "1"}])]}}},
    }
    status, body = await client.apply(f"{DEPLOYMENTS}/web", sidecar, "two")
    assert status == 200
    names = [one["name"] for one in body["spec"]["template"]["spec"]["containers"]]
    assert sorted(names) == ["main", "sidecar"]
    item = owners(body)["two", "Apply"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"sidecar"}']
    assert item["f:env"] == {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}}
    del sidecar["spec"]["template"]
    _, without = await client.apply(f"{DEPLOYMENTS}/web", sidecar, "two")
    assert [one["name"] for one in without["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_owner_references_merge_by_uid(client: Client) -> None:
    def owned(uid: str) -> dict[str, Any]:
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p" + uid, "uid": uid}
        return config_map("a") | {"metadata": {"name": "a", "ownerReferences": [owner]}}

    await client.apply(f"{CONFIG_MAPS}/a", owned("1"), "one")
    _, both = await client.apply(f"{CONFIG_MAPS}/a", owned("2"), "two")
    assert sorted(one["uid"] for one in both["metadata"]["ownerReferences"]) == ["1", "2"]


async def test_custom_lists_merge_by_their_declared_keys(client: Client) -> None:
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
    }
    steps = {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    atomic = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"steps": steps, "words": atomic}}
    await client.post(CRDS, definition("flows", "Flow", schema))
    path = "/apis/test.example.com/v1/namespaces/default/flows/f"

    def flow(**spec: Any) -> dict[str, Any]:
        return {"apiVersion": "test.example.com/v1", "kind": "Flow", "metadata": {"name": "f"}, "spec": spec}

    await client.apply(path, flow(steps=[{"name": "a", "n": 1}], words=["x", "y"]), "one")
    _, body = await client.apply(path, flow(steps=[{"name": "b", "n": 2}]), "two")
    assert body["spec"]["steps"] == [{"name": "b", "n": 2}, {"name": "a", "n": 1}]
    status, refused = await client.apply(path, flow(words=["z"]), "two")
    assert (status, refused["details"]["causes"][0]["field"]) == (409, ".spec.words")


async def test_status_has_owners_of_its_own(client: Client) -> None:
    await client.apply(f"{DEPLOYMENTS}/web", deployment("web", replicas=1), "one")
    status_body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 9},
        "status": {"readyReplicas": 1, "replicas": 1},
    }
    status, body = await client.apply(f"{DEPLOYMENTS}/web/status", status_body, "two")
    assert (status, body["spec"]["replicas"], body["status"]["readyReplicas"]) == (200, 1, 1)
    entry = next(one for one in body["metadata"]["managedFields"] if one["manager"] == "two")
    assert entry["subresource"] == "status"
    assert list(entry["fieldsV1"]) == ["f:status"]


async def test_unknown_fields_cannot_be_applied(client: Client) -> None:
    wrong = deployment("web", replicaz=1)
    status, body = await client.apply(f"{DEPLOYMENTS}/web", wrong, "one")
    assert status >= 400
    assert ".spec.replicaz: field not declared in schema" in body["message"]
