"""CRDs: structural schemas, defaults, pruning, CEL, versions, deletion."""

from typing import Any

import pytest

from local.apiserver.http_client import CRDS, Client
from local.apiserver.objects import definition

THINGS = "/apis/test.example.com/v1/namespaces/default/things"


def thing(called: str = "t", /, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "test.example.com/v1", "kind": "Thing", "metadata": {"name": called}, "spec": spec}


async def serve(client: Client, properties: dict[str, Any], **version: Any) -> None:
    schema = {"type": "object", "properties": properties, **version.pop("schema", {})}
    status, body = await client.post(CRDS, definition("things", "Thing", schema, **version))
    assert status == 201, body


def causes(body: dict[str, Any]) -> set[tuple[str, str]]:
    return {(cause["field"], cause["reason"]) for cause in body["details"]["causes"]}


async def test_a_created_definition_is_established_and_served(client: Client) -> None:
    await serve(client, {})
    _, crd = await client.get(f"{CRDS}/things.test.example.com")
    conditions = {one["type"]: one["status"] for one in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    _, resources = await client.get("/apis/test.example.com/v1")
    assert [one["name"] for one in resources["resources"]] == ["things"]
    _, groups = await client.get("/apis")
    assert "test.example.com" in [one["name"] for one in groups["groups"]]
    _, openapi = await client.get("/openapi/v3/apis/test.example.com/v1")
    assert "com.example.test.v1.Thing" in openapi["components"]["schemas"]


async def test_every_violation_names_its_field(client: Client) -> None:
    await serve(
        client,
        {
            "count": {"type": "integer", "minimum": 1},
            "size": {"type": "string", "enum": ["S", "L"]},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "tags": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
            "owner": {"type": "object", "required": ["team"], "properties": {"team": {"type": "string"}}},
        },
    )
    bad = thing(count=0, size="M", name="UPPER", tags=["a", 1], owner={})
    status, body = await client.post(THINGS, bad)
    assert (status, body["reason"]) == (422, "Invalid")
    assert causes(body) == {
        ("spec.count", "FieldValueInvalid"),
        ("spec.size", "FieldValueNotSupported"),
        ("spec.name", "FieldValueInvalid"),
        ("spec.tags", "FieldValueTooMany"),
        ("spec.tags[1]", "FieldValueTypeInvalid"),
        ("spec.owner.team", "FieldValueRequired"),
    }
    assert "spec.count in body should be greater than or equal to 1" in body["message"]
    assert 'spec.size: Unsupported value: "M": supported values: "S", "L"' in body["message"]


async def test_defaults_are_filled_below_present_parents_only(client: Client) -> None:
    nested = {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}
    await serve(client, {"a": nested, "b": nested, "c": nested | {"default": {}}})
    _, body = await client.post(THINGS, thing(a={}))
    assert body["spec"] == {"a": {"n": 3}, "c": {"n": 3}}


async def test_null_takes_the_default_unless_nullable(client: Client) -> None:
    await serve(
        client,
        {
            "a": {"type": "integer", "default": 1},
            "b": {"type": "integer", "default": 2, "nullable": True},
        },
    )
    _, body = await client.post(THINGS, thing(a=None, b=None))
    assert body["spec"] == {"a": 1, "b": None}


async def test_unknown_fields_follow_the_field_validation(client: Client) -> None:
    await serve(
        client, {"known": {"type": "integer"}, "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    )
    body = thing(known=1, unknown=2, open={"any": {"thing": 1}})
    status, refused = await client.post(THINGS, body, fieldValidation="Strict")
    assert (status, refused["reason"]) == (400, "BadRequest")
    assert refused["message"] == 'strict decoding error: unknown field "spec.unknown"'
    status, created = await client.post(THINGS, body, fieldValidation="Warn")
    assert created["spec"] == {"known": 1, "open": {"any": {"thing": 1}}}
    assert client.warnings == ['299 - "unknown field \\"spec.unknown\\""']
    await client.post(THINGS, body | {"metadata": {"name": "silent"}}, fieldValidation="Ignore")
    assert client.warnings == []


async def test_cel_rules_judge_the_whole_object(client: Client) -> None:
    rules = [
        {"rule": "self.low <= self.high", "message": "low must not be above high", "fieldPath": ".low"},
        {
            "rule": "!has(self.words) || self.words.all(w, w.startsWith('x'))",
            "messageExpression": "'bad: ' + self.words[0]",
        },
    ]
    properties = {
        "low": {"type": "number"},
        "high": {"type": "number"},
        "words": {"type": "array", "items": {"type": "string"}},
    }
    await serve(client, properties, schema={"x-kubernetes-validations": rules})
    assert (await client.post(THINGS, thing(low=1, high=1.5, words=["xa"])))[0] == 201
    status, body = await client.post(THINGS, thing("u", low=2, high=1, words=["y"]))
    assert status == 422
    assert causes(body) == {("spec.low", "FieldValueInvalid"), ("spec", "FieldValueInvalid")}
    assert "low must not be above high" in body["message"]
    assert "bad: y" in body["message"]


async def test_transition_rules_compare_with_the_stored_object(client: Client) -> None:
    frozen = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}
    await serve(client, {"name": frozen, "free": {"type": "string"}})
    assert (await client.post(THINGS, thing(name="a")))[0] == 201
    assert (await client.patch(f"{THINGS}/t", {"spec": {"free": "x"}}))[0] == 200
    status, body = await client.patch(f"{THINGS}/t", {"spec": {"name": "b"}})
    assert (status, causes(body)) == (422, {("spec.name", "FieldValueInvalid")})
    assert "is immutable" in body["message"]


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "object", "properties": {"a": {}}}, "properties[a].type"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "properties[a].items"),
        ({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}, "properties[a].default"),
        ({"type": "object", "anyOf": [{"type": "string"}]}, "anyOf[0].type"),
        ({"type": "object", "x-kubernetes-validations": [{"rule": "self.a +"}]}, "x-kubernetes-validations[0].rule"),
        ({"type": "object", "x-kubernetes-validations": [{"rule": "nope(self)"}]}, "x-kubernetes-validations[0].rule"),
    ],
)
async def test_schemas_that_no_cluster_accepts_are_refused(client: Client, schema: dict[str, Any], field: str) -> None:
    status, body = await client.post(CRDS, definition("things", "Thing", schema))
    assert (status, body["reason"]) == (422, "Invalid")
    path = "spec.versions[0].schema.openAPIV3Schema.properties[spec]"
    assert f"{path}.{field}" in {cause["field"] for cause in body["details"]["causes"]}


async def test_a_definition_must_be_named_after_its_group(client: Client) -> None:
    wrong = definition("things", "Thing", {"type": "object"})
    wrong["metadata"]["name"] = "things.example.com"
    status, body = await client.post(CRDS, wrong)
    assert status == 422
    assert 'must be spec.names.plural+"."+spec.group' in body["message"]


async def test_status_is_apart_only_where_the_subresource_is_declared(client: Client) -> None:
    crd = definition("things", "Thing", {"type": "object"})
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    root["properties"]["status"] = {"type": "object", "properties": {"phase": {"type": "string"}}}
    await client.post(CRDS, crd)
    _, together = await client.post(THINGS, thing() | {"status": {"phase": "X"}})
    assert together["status"] == {"phase": "X"}
    assert (await client.patch(f"{THINGS}/t/status", {"status": {"phase": "Y"}}))[0] == 405
    _, crd = await client.get(f"{CRDS}/things.test.example.com")
    crd["spec"]["versions"][0]["subresources"] = {"status": {}}
    await client.put(f"{CRDS}/things.test.example.com", crd)
    _, apart = await client.post(THINGS, thing("u") | {"status": {"phase": "X"}})
    assert "status" not in apart
    assert (await client.patch(f"{THINGS}/u/status", {"status": {"phase": "Y"}}))[1]["status"] == {"phase": "Y"}


async def test_several_versions_share_the_objects(client: Client) -> None:
    crd = definition("things", "Thing", {"type": "object", "properties": {"n": {"type": "integer"}}})
    newer = dict(crd["spec"]["versions"][0]) | {"name": "v2", "storage": False}
    crd["spec"]["versions"].append(newer)
    await client.post(CRDS, crd)
    await client.post(THINGS, thing(n=1))
    status, body = await client.get(THINGS.replace("/v1/", "/v2/") + "/t")
    assert (status, body["apiVersion"], body["spec"]) == (200, "test.example.com/v2", {"n": 1})
    _, group = await client.get("/apis/test.example.com")
    assert group["preferredVersion"]["version"] == "v2"


async def test_the_scale_subresource_maps_to_the_declared_paths(client: Client) -> None:
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    await serve(client, {"size": {"type": "integer"}}, subresources={"scale": scale})
    await client.post(THINGS, thing(size=2))
    _, body = await client.get(f"{THINGS}/t/scale")
    assert (body["kind"], body["spec"]) == ("Scale", {"replicas": 2})
    await client.patch(f"{THINGS}/t/scale", {"spec": {"replicas": 5}})
    assert (await client.get(f"{THINGS}/t"))[1]["spec"] == {"size": 5}


async def test_deleting_a_definition_deletes_its_objects_first(client: Client) -> None:
    await serve(client, {})
    held = thing()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.post(THINGS, held)
    await client.delete(f"{CRDS}/things.test.example.com")
    assert (await client.get(f"{THINGS}/t"))[1]["metadata"]["deletionTimestamp"]
    assert (await client.post(THINGS, thing("late")))[0] == 405
    await client.patch(f"{THINGS}/t", {"metadata": {"finalizers": None}})
    assert (await client.get(f"{CRDS}/things.test.example.com"))[0] == 404
    assert (await client.get(THINGS))[0] == 404


async def test_a_changed_schema_holds_at_once(client: Client) -> None:
    await serve(client, {"n": {"type": "integer"}})
    _, crd = await client.get(f"{CRDS}/things.test.example.com")
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["m"] = {
        "type": "string"
    }
    assert (await client.put(f"{CRDS}/things.test.example.com", crd))[0] == 200
    _, body = await client.post(THINGS, thing(n=1, m="x"))
    assert body["spec"] == {"n": 1, "m": "x"}


async def test_printer_columns_become_table_cells(client: Client) -> None:
    columns = [
        {"name": "State", "type": "string", "jsonPath": ".spec.state"},
        {"name": "Ready", "type": "string", "jsonPath": '.spec.conditions[?(@.type=="Ready")].status'},
    ]
    condition = {"type": "object", "properties": {"type": {"type": "string"}, "status": {"type": "string"}}}
    properties = {"state": {"type": "string"}, "conditions": {"type": "array", "items": condition}}
    await serve(client, properties, additionalPrinterColumns=columns)
    await client.post(
        THINGS, thing(state="On", conditions=[{"type": "Other", "status": "?"}, {"type": "Ready", "status": "True"}])
    )
    headers = {"Authorization": f"Bearer {client.token}", "Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    async with client.session.get(THINGS, headers=headers) as response:
        table = await response.json()
    assert [one["name"] for one in table["columnDefinitions"]] == ["Name", "State", "Ready"]
    assert table["rows"][0]["cells"] == ["t", "On", "True"]


async def test_old_mistakes_do_not_block_writes_of_other_fields(client: Client) -> None:
    await serve(client, {"old": {"type": "string"}, "new": {"type": "string"}}, subresources={"status": {}})
    await client.post(THINGS, thing(old="too long"))
    _, crd = await client.get(f"{CRDS}/things.test.example.com")
    properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    properties["spec"]["properties"]["old"]["maxLength"] = 3
    properties["status"] = {"type": "object", "properties": {"phase": {"type": "string"}}}
    assert (await client.put(f"{CRDS}/things.test.example.com", crd))[0] == 200
    assert (await client.patch(f"{THINGS}/t/status", {"status": {"phase": "On"}}))[0] == 200
    assert (await client.patch(f"{THINGS}/t", {"metadata": {"labels": {"a": "b"}}}))[0] == 200
    assert (await client.patch(f"{THINGS}/t", {"spec": {"old": "still too long"}}))[0] == 422
