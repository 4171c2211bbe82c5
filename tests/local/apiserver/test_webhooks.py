"""Admission webhooks: who is asked about what, and what becomes of the answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from local.apiserver.http_client import APPLY, CONFIG_MAPS, DEPLOYMENTS, JOBS, Client
from local.apiserver.objects import config_map, deployment, job
from local.apiserver.webhook_server import (
    CONFIG_MAP_RULE,
    WebhookServer,
    allow,
    closed_port,
    configuration,
    deny,
    patch,
    path_of,
)

DENIED = 'admission webhook "check.webhooks.example.com" denied the request'


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    server = WebhookServer(tmp_path)
    await server.start()
    yield server
    await server.stop()


async def configure(client: Client, kind: str, *hooks: dict[str, Any], name: str = "test") -> None:
    status, answer = await client.post(path_of(kind), configuration(kind, *hooks, name=name))
    assert status == 201, answer


async def test_a_denial_reaches_the_user_and_nothing_is_stored(client: Client, hooks: WebhookServer) -> None:
    details = {"causes": [{"field": "data.a", "message": "no", "reason": "FieldValueInvalid"}]}
    hooks.answers["check"] = deny("data.a: no", code=422, reason="Invalid", details=details)
    await configure(client, "Validating", hooks.hook("check"))
    status, answer = await client.post(CONFIG_MAPS, config_map("x", a="1"))
    assert (status, answer["reason"], answer["details"]) == (422, "Invalid", details)
    assert answer["message"] == f"{DENIED}: data.a: no"
    assert (await client.get(f"{CONFIG_MAPS}/x"))[0] == 404
    hooks.answers["check"] = lambda _request: {"allowed": False}
    status, answer = await client.post(CONFIG_MAPS, config_map("x"))
    assert (status, answer["message"]) == (400, f"{DENIED} without explanation")


async def test_a_review_tells_who_does_what_to_which_object(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["check"] = allow
    await client.post(CONFIG_MAPS, config_map("x", a="1"))
    await configure(client, "Validating", hooks.hook("check"))
    await client.patch(f"{CONFIG_MAPS}/x", {"data": {"a": "2"}}, dryRun="All", fieldManager="me")
    await client.put(f"{CONFIG_MAPS}/x", config_map("x", a="3"))
    await client.delete(f"{CONFIG_MAPS}/x")
    patched, replaced, deleted = hooks.seen
    assert (patched["operation"], patched["dryRun"], patched["name"]) == ("UPDATE", True, "x")
    assert patched["namespace"] == "default"
    assert patched["userInfo"]["username"] == "kubernetes-admin"
    assert patched["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert patched["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert patched["options"] == {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "UpdateOptions",
        "dryRun": ["All"],
        "fieldManager": "me",
    }
    assert (patched["oldObject"]["data"], patched["object"]["data"]) == ({"a": "1"}, {"a": "2"})
    assert (replaced["oldObject"]["data"], replaced["object"]["data"]) == ({"a": "1"}, {"a": "3"})
    assert (deleted["operation"], deleted["object"], deleted["oldObject"]["data"]) == ("DELETE", None, {"a": "3"})


async def test_what_was_validated_is_what_is_stored(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["check"] = allow
    await configure(client, "Validating", hooks.hook("check"))
    body = config_map() | {"metadata": {"generateName": "x-"}}
    _, created = await client.post(CONFIG_MAPS, body)
    assert len(hooks.seen) == 1
    for field in ("name", "uid", "creationTimestamp"):
        assert hooks.seen[0]["object"]["metadata"][field] == created["metadata"][field]


async def test_mutations_are_defaulted_pruned_and_then_validated(client: Client, hooks: WebhookServer) -> None:
    container = {"name": "second", "image": "b", "unknownField": 1}
    hooks.answers["change"] = patch({"op": "add", "path": "/spec/template/spec/containers/-", "value": container})
    hooks.answers["check"] = allow
    rule = {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    await configure(client, "Mutating", hooks.hook("change", rules=[rule]))
    await configure(client, "Validating", hooks.hook("check", rules=[rule]))
    status, created = await client.post(DEPLOYMENTS, deployment("d"))
    assert status == 201, created
    mutating, validating = hooks.seen
    assert mutating["object"]["spec"]["replicas"] == 1  # defaulted before
    assert "uid" not in mutating["object"]["metadata"]
    second = created["spec"]["template"]["spec"]["containers"][1]
    assert second["terminationMessagePath"] == "/dev/termination-log"
    assert "unknownField" not in second
    assert validating["object"]["spec"] == created["spec"]


async def test_a_job_may_be_held_back_as_a_queue_does(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["queue"] = patch({"op": "add", "path": "/spec/suspend", "value": True})
    rule = CONFIG_MAP_RULE | {"apiGroups": ["batch"], "resources": ["jobs"]}
    await configure(client, "Mutating", hooks.hook("queue", rules=[rule]))
    status, created = await client.post(JOBS, job("j"))
    assert (status, created["spec"]["suspend"]) == (201, True)
    assert (
        created["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] == created["metadata"]["uid"]
    )


async def test_a_mutation_that_breaks_the_object_is_refused(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["change"] = patch({"op": "add", "path": "/spec/replicas", "value": -1})
    rule = CONFIG_MAP_RULE | {"apiGroups": ["apps"], "resources": ["deployments"]}
    await configure(client, "Mutating", hooks.hook("change", rules=[rule]))
    status, answer = await client.post(DEPLOYMENTS, deployment("d"))
    assert (status, answer["reason"]) == (422, "Invalid")
    assert "spec.replicas" in answer["message"]


async def test_mutating_webhooks_work_in_the_order_of_names_and_see_each_others_changes(
    client: Client, hooks: WebhookServer
) -> None:
    hooks.answers["late"] = patch({"op": "add", "path": "/data/late", "value": "1"})
    hooks.answers["early"] = patch({"op": "add", "path": "/data/early", "value": "1"})
    await configure(client, "Mutating", hooks.hook("late"), name="z")
    await configure(client, "Mutating", hooks.hook("early", reinvocationPolicy="IfNeeded"), name="a")
    _, created = await client.post(CONFIG_MAPS, config_map("x", own="1"))
    assert created["data"] == {"own": "1", "early": "1", "late": "1"}
    assert [sorted(one["object"]["data"]) for one in hooks.seen] == [
        ["own"],
        ["early", "own"],
        ["early", "late", "own"],  # reinvoked, since another webhook changed the object after it
    ]


async def test_server_side_apply_is_admitted_too(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["check"] = deny("no")
    await configure(client, "Validating", hooks.hook("check"))
    status, answer = await client.request("PATCH", f"{CONFIG_MAPS}/x", config_map("x"), APPLY, fieldManager="me")
    assert (status, answer["message"]) == (400, f"{DENIED}: no")
    assert hooks.seen[0]["operation"] == "CREATE"


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, True),
        ({"rules": [CONFIG_MAP_RULE | {"operations": ["UPDATE", "DELETE"]}]}, False),
        ({"rules": [CONFIG_MAP_RULE | {"resources": ["configmaps/status"]}]}, False),
        ({"rules": [CONFIG_MAP_RULE | {"resources": ["*"]}]}, True),
        ({"rules": [CONFIG_MAP_RULE | {"scope": "Cluster"}]}, False),
        ({"rules": [CONFIG_MAP_RULE | {"apiVersions": ["v2"]}]}, False),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}, False),
        ({"objectSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}, True),
        ({"objectSelector": {"matchLabels": {"team": "b"}}}, False),
    ],
)
async def test_rules_and_selectors_decide_who_is_asked(
    client: Client, hooks: WebhookServer, fields: dict[str, Any], asked: bool
) -> None:
    hooks.answers["check"] = allow
    await configure(client, "Validating", hooks.hook("check", **fields))
    body = config_map("x")
    body["metadata"]["labels"] = {"team": "a"}
    assert (await client.post(CONFIG_MAPS, body))[0] == 201
    assert bool(hooks.seen) is asked


@pytest.mark.parametrize("trouble", ["nobody listens", "wrong authority", "too slow", "not a review", "other uid"])
async def test_the_failure_policy_decides_when_a_webhook_does_not_answer(
    client: Client, hooks: WebhookServer, tmp_path: Path, trouble: str
) -> None:
    hook = hooks.hook("check", timeoutSeconds=1)
    hooks.answers["check"] = allow
    if trouble == "nobody listens":
        hook["clientConfig"]["url"] = f"https://127.0.0.1:{await closed_port()}/check"
    elif trouble == "wrong authority":
        hook["clientConfig"]["caBundle"] = WebhookServer(tmp_path / "other").ca_bundle
    elif trouble == "too slow":
        hooks.delay = asyncio.Event()
    elif trouble == "not a review":
        hooks.answers["check"] = lambda _request: {"allowed": True, "patch": "AAAA", "patchType": "None"}
    else:
        hooks.answers["check"] = lambda _request: {"allowed": True, "uid": "1"}
    await configure(client, "Validating", hook)
    status, answer = await client.post(CONFIG_MAPS, config_map("x"))
    assert (status, answer["reason"]) == (500, "InternalError")
    assert 'failed calling webhook "check.webhooks.example.com"' in answer["message"]
    await client.delete(f"{path_of('Validating')}/test")
    await configure(client, "Validating", hook | {"failurePolicy": "Ignore"})
    assert (await client.post(CONFIG_MAPS, config_map("x")))[0] == 201
    if hooks.delay:
        hooks.delay.set()


async def test_an_object_that_changes_meanwhile_is_shown_again(client: Client, hooks: WebhookServer) -> None:
    await client.post(CONFIG_MAPS, config_map("x", a="1"))
    hooks.answers["check"], hooks.delay = allow, asyncio.Event()
    await configure(client, "Validating", hooks.hook("check", objectSelector={"matchLabels": {"slow": "yes"}}))
    slow = asyncio.create_task(client.patch(f"{CONFIG_MAPS}/x", {"metadata": {"labels": {"slow": "yes"}}}))
    while not hooks.seen:
        await asyncio.sleep(0.01)
    assert (await client.patch(f"{CONFIG_MAPS}/x", {"data": {"b": "2"}}))[0] == 200
    hooks.delay.set()
    status, answer = await slow
    assert (status, answer["data"]) == (200, {"a": "1", "b": "2"})
    assert [one["object"]["data"] for one in hooks.seen] == [{"a": "1"}, {"a": "1", "b": "2"}]


async def test_warnings_are_passed_on(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["check"] = lambda _request: {"allowed": True, "warnings": ["the claim is not there yet"]}
    await configure(client, "Validating", hooks.hook("check"))
    await client.post(CONFIG_MAPS, config_map("x"))
    assert client.warnings == ['299 - "the claim is not there yet"']


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects"),
        ({"admissionReviewVersions": ["v1beta1"]}, "webhooks[0].admissionReviewVersions"),
        ({"timeoutSeconds": 31}, "between 1 and 30 seconds"),
        ({"failurePolicy": "Maybe"}, "webhooks[0].failurePolicy"),
        ({"clientConfig": {"url": "http://127.0.0.1"}}, "'https' is the only allowed URL scheme"),
        ({"clientConfig": {}}, "exactly one of url or service"),
        ({"name": "check"}, "at least three segments"),
        ({"rules": [{"operations": ["*"]}]}, "webhooks[0].rules[0].resources"),
    ],
)
async def test_configurations_that_make_no_sense_are_refused(
    client: Client, hooks: WebhookServer, fields: dict[str, Any], complaint: str
) -> None:
    status, answer = await client.post(
        path_of("Validating"), configuration("Validating", hooks.hook("check", **fields))
    )
    assert status == 422
    assert complaint in answer["message"]


async def test_nobody_can_lock_everybody_out(client: Client, hooks: WebhookServer) -> None:
    hooks.answers["check"] = deny("never")
    everything = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    await configure(client, "Validating", hooks.hook("check", rules=[everything]))
    assert (await client.post(CONFIG_MAPS, config_map("x")))[0] == 400
    assert (await client.delete(f"{path_of('Validating')}/test"))[0] == 200
    assert (await client.post(CONFIG_MAPS, config_map("x")))[0] == 201
