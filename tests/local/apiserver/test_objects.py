"""Create, read, update and delete: metadata, conflicts, finalizers, selectors, pages."""

import asyncio

import pytest

from finetune_local.apiserver import ApiServer
from local.apiserver.http_client import CONFIG_MAPS, DEPLOYMENTS, JSON_PATCH, PODS, Client
from local.apiserver.objects import config_map, deployment, pod


async def test_created_objects_get_an_identity(client: Client) -> None:
    status, created = await client.post(CONFIG_MAPS, config_map("a", key="value"))
    meta = created["metadata"]
    assert status == 201
    assert meta["namespace"] == "default"
    assert len(meta["uid"]) == 36
    assert int(meta["resourceVersion"]) > 0
    assert meta["creationTimestamp"].endswith("Z")
    assert "generation" not in meta  # config maps have none


async def test_a_missing_object_is_not_found_by_its_full_resource_name(client: Client) -> None:
    status, body = await client.get(f"{DEPLOYMENTS}/nope")
    assert (status, body["reason"]) == (404, "NotFound")
    assert body["message"] == 'deployments.apps "nope" not found'
    assert body["details"] == {"name": "nope", "group": "apps", "kind": "deployments"}


async def test_creation_in_a_missing_namespace_is_not_found(client: Client) -> None:
    status, body = await client.post("/api/v1/namespaces/nowhere/configmaps", config_map("a"))
    assert (status, body["message"]) == (404, 'namespaces "nowhere" not found')


async def test_creation_in_a_terminating_namespace_is_forbidden(client: Client) -> None:
    await client.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}})
    status, deleted = await client.delete("/api/v1/namespaces/going")
    assert deleted["status"]["phase"] == "Terminating"
    status, body = await client.post("/api/v1/namespaces/going/configmaps", config_map("a"))
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["details"]["causes"][0]["reason"] == "NamespaceTerminating"


async def test_finalizing_a_deleted_namespace_removes_it(client: Client) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}}
    await client.post("/api/v1/namespaces", namespace)
    await client.delete("/api/v1/namespaces/going")
    _, body = await client.get("/api/v1/namespaces/going")
    body["spec"]["finalizers"] = []
    await client.put("/api/v1/namespaces/going/finalize", body)
    assert (await client.get("/api/v1/namespaces/going"))[0] == 404


async def test_the_default_namespace_cannot_be_deleted(client: Client) -> None:
    assert (await client.delete("/api/v1/namespaces/default"))[0] == 403


async def test_invalid_names_are_refused_with_the_rule(client: Client) -> None:
    status, body = await client.post(CONFIG_MAPS, config_map("Not_A_Name"))
    assert (status, body["reason"]) == (422, "Invalid")
    cause = body["details"]["causes"][0]
    assert (cause["reason"], cause["field"]) == ("FieldValueInvalid", "metadata.name")
    assert "lowercase RFC 1123 subdomain" in cause["message"]


async def test_the_body_must_be_of_the_kind_in_the_url(client: Client) -> None:
    status, body = await client.post(PODS, config_map("a"))
    assert (status, body["reason"]) == (400, "BadRequest")


async def test_a_namespace_in_the_body_must_match_the_url(client: Client) -> None:
    wrong = config_map("a") | {"metadata": {"name": "a", "namespace": "kube-system"}}
    status, body = await client.post(CONFIG_MAPS, wrong)
    assert (status, body["reason"]) == (400, "BadRequest")
    assert "does not match the namespace" in body["message"]


async def test_generated_names_are_unique(client: Client) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}
    names = {(await client.post(CONFIG_MAPS, body))[1]["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("x-") and len(name) == 7 for name in names)


async def test_a_stale_write_conflicts_and_changes_nothing(client: Client) -> None:
    _, first = await client.post(CONFIG_MAPS, config_map("a", n="1"))
    await client.patch(f"{CONFIG_MAPS}/a", {"data": {"n": "2"}})
    first["data"]["n"] = "stale"
    status, body = await client.put(f"{CONFIG_MAPS}/a", first)
    assert (status, body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in body["message"]
    assert (await client.get(f"{CONFIG_MAPS}/a"))[1]["data"] == {"n": "2"}


async def test_a_patch_may_carry_the_version_that_it_expects(client: Client) -> None:
    _, first = await client.post(CONFIG_MAPS, config_map("a", n="1"))
    version = first["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "data": {"n": "2"}}
    assert (await client.patch(f"{CONFIG_MAPS}/a", patch))[0] == 200
    assert (await client.patch(f"{CONFIG_MAPS}/a", patch))[0] == 409


async def test_json_patch_tests_guard_finalizers(client: Client) -> None:
    _, body = await client.post(CONFIG_MAPS, config_map("a"))
    version = body["metadata"]["resourceVersion"]
    guarded = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/hold"]},
    ]
    status, patched = await client.patch(f"{CONFIG_MAPS}/a", guarded, JSON_PATCH)
    assert (status, patched["metadata"]["finalizers"]) == (200, ["example.com/hold"])
    assert (await client.patch(f"{CONFIG_MAPS}/a", guarded, JSON_PATCH))[0] == 422


async def test_a_write_without_a_change_keeps_the_version(client: Client) -> None:
    _, first = await client.post(CONFIG_MAPS, config_map("a", n="1"))
    _, again = await client.patch(f"{CONFIG_MAPS}/a", {"data": {"n": "1"}})
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_the_generation_counts_changes_of_the_spec_only(client: Client) -> None:
    await client.post(DEPLOYMENTS, deployment("web"))
    await client.patch(f"{DEPLOYMENTS}/web", {"metadata": {"labels": {"a": "b"}}})
    await client.patch(f"{DEPLOYMENTS}/web/status", {"status": {"replicas": 1}})
    _, same = await client.get(f"{DEPLOYMENTS}/web")
    _, scaled = await client.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 2}})
    assert (same["metadata"]["generation"], scaled["metadata"]["generation"]) == (1, 2)


async def test_finalizers_hold_a_deleted_object_until_they_are_gone(client: Client) -> None:
    held = config_map("a") | {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}
    await client.post(CONFIG_MAPS, held)
    status, body = await client.delete(f"{CONFIG_MAPS}/a")
    assert status == 200
    assert body["metadata"]["deletionTimestamp"]
    status, refused = await client.patch(
        f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": ["example.com/hold", "b.c/d"]}}
    )
    assert status == 422
    assert "no new finalizers can be added" in refused["message"]
    await client.patch(f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": None}})
    assert (await client.get(f"{CONFIG_MAPS}/a"))[0] == 404


async def test_foreground_deletion_waits_for_the_garbage_collector(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("a"))
    _, body = await client.delete(f"{CONFIG_MAPS}/a", {"propagationPolicy": "Foreground"})
    assert body["metadata"]["finalizers"] == ["foregroundDeletion"]


async def test_deletion_preconditions_are_checked(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("a"))
    status, body = await client.delete(f"{CONFIG_MAPS}/a", {"preconditions": {"uid": "other"}})
    assert (status, body["reason"]) == (409, "Conflict")
    assert (await client.get(f"{CONFIG_MAPS}/a"))[0] == 200


async def test_a_running_pod_goes_when_the_kubelet_says_so(client: Client) -> None:
    await client.post(PODS, pod("p", terminationGracePeriodSeconds=7))
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "node-1"}}
    assert (await client.post(f"{PODS}/p/binding", binding))[0] == 201
    _, body = await client.delete(f"{PODS}/p")
    assert body["metadata"]["deletionGracePeriodSeconds"] == 7
    assert (await client.get(f"{PODS}/p"))[0] == 200
    await client.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert (await client.get(f"{PODS}/p"))[0] == 404


async def test_an_unscheduled_pod_goes_at_once(client: Client) -> None:
    await client.post(PODS, pod("p"))
    await client.delete(f"{PODS}/p")
    assert (await client.get(f"{PODS}/p"))[0] == 404


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=web", ["a", "b"]),
        ("tier==web,env!=prod", ["b"]),
        ("env in (prod,test)", ["a", "b"]),
        ("env notin (prod)", ["b", "c"]),
        ("env", ["a", "b"]),
        ("!env", ["c"]),
    ],
)
async def test_label_selectors(client: Client, selector: str, names: list[str]) -> None:
    labels = {"a": {"tier": "web", "env": "prod"}, "b": {"tier": "web", "env": "test"}, "c": {"tier": "db"}}
    for name, values in labels.items():
        await client.post(CONFIG_MAPS, config_map(name) | {"metadata": {"name": name, "labels": values}})
    _, listed = await client.get(CONFIG_MAPS, labelSelector=selector)
    assert [item["metadata"]["name"] for item in listed["items"]] == names


async def test_field_selectors_are_limited_to_indexed_fields(client: Client) -> None:
    for name in ("a", "b"):
        await client.post(PODS, pod(name))
    _, listed = await client.get(PODS, fieldSelector="metadata.name!=a,status.phase=Pending")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["b"]
    status, body = await client.get(PODS, fieldSelector="spec.hostname=x")
    assert (status, body["message"]) == (400, "field label not supported: spec.hostname")


async def test_pages_are_of_one_moment(client: Client) -> None:
    for name in "abcde":
        await client.post(CONFIG_MAPS, config_map(name))
    _, first = await client.get(CONFIG_MAPS, limit="2")
    assert first["metadata"]["remainingItemCount"] == 3
    await client.delete(f"{CONFIG_MAPS}/d")
    await client.post(CONFIG_MAPS, config_map("cc"))
    token = first["metadata"]["continue"]
    names = [item["metadata"]["name"] for item in first["items"]]
    while token:
        _, page = await client.get(CONFIG_MAPS, limit="2", **{"continue": token})
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
    assert names == list("abcde")


async def test_pages_of_a_compacted_list_have_expired(client: Client, server: ApiServer) -> None:
    for name in "abc":
        await client.post(CONFIG_MAPS, config_map(name))
    _, first = await client.get(CONFIG_MAPS, limit="1")
    server.cluster.compact()
    status, body = await client.get(CONFIG_MAPS, limit="1", **{"continue": first["metadata"]["continue"]})
    assert (status, body["reason"]) == (410, "Expired")


async def test_dry_runs_leave_no_trace(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("a", n="1"))
    _, before = await client.get(CONFIG_MAPS)
    assert (await client.post(CONFIG_MAPS, config_map("b"), dryRun="All"))[0] == 201
    _, patched = await client.patch(f"{CONFIG_MAPS}/a", {"data": {"n": "2"}}, dryRun="All")
    assert patched["data"] == {"n": "2"}
    assert (await client.delete(f"{CONFIG_MAPS}/a", dryRun="All"))[0] == 200
    assert (await client.get(CONFIG_MAPS))[1] == before


async def test_events_are_the_same_in_both_of_their_apis(client: Client) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "hello",
        "reason": "Greeted",
        "type": "Normal",
        "action": "Greet",
        "reportingController": "test",
        "reportingInstance": "test-1",
    }
    assert (await client.post("/apis/events.k8s.io/v1/namespaces/default/events", event))[0] == 201
    _, core = await client.get("/api/v1/namespaces/default/events", fieldSelector="involvedObject.name=p")
    (found,) = core["items"]
    assert (found["message"], found["reportingComponent"], found["kind"]) == ("hello", "test", "Event")
    _, newer = await client.get("/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (newer["note"], newer["regarding"]["name"]) == ("hello", "p")


async def test_parallel_writers_never_lose_an_update(client: Client) -> None:
    await client.post(CONFIG_MAPS, config_map("counter", n="0"))

    async def increment() -> None:
        while True:
            _, current = await client.get(f"{CONFIG_MAPS}/counter")
            current["data"]["n"] = str(int(current["data"]["n"]) + 1)
            if (await client.put(f"{CONFIG_MAPS}/counter", current))[0] == 200:
                return

    await asyncio.gather(*(increment() for _ in range(10)))
    assert (await client.get(f"{CONFIG_MAPS}/counter"))[1]["data"] == {"n": "10"}
