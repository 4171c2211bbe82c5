"""Who may do what: tokens, reviews, RBAC."""

import pathlib
from typing import Any

import aiohttp
import pytest

from finetune_local.apiserver import ApiServer
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.resources import CONFIG_MAPS as CONFIG_MAP_KIND
from local.apiserver.http_client import CONFIG_MAPS, PODS, Client
from local.apiserver.objects import config_map, pod

ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def account_with_pod(client: Client) -> dict[str, Any]:
    await client.post(ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer"}})
    _, created = await client.post(PODS, pod("p", serviceAccountName="trainer"))
    return dict(created)


async def token_for(client: Client, **spec: Any) -> str:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    status, answer = await client.post(f"{ACCOUNTS}/trainer/token", body)
    assert status == 201, answer
    return str(answer["status"]["token"])


async def review(client: Client, token: str, *audiences: str) -> dict[str, Any]:
    spec = {"token": token, "audiences": list(audiences)}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    status, answer = await client.post(REVIEWS, body)
    assert status == 201
    return dict(answer["status"])


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_strangers_are_unauthorized(server: ApiServer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(base_url=server.url) as session,
        session.get(CONFIG_MAPS, headers=headers) as answer,
    ):
        body = await answer.json()
    assert (answer.status, body["kind"], body["reason"]) == (401, "Status", "Unauthorized")


async def test_health_needs_no_identity(server: ApiServer) -> None:
    async with aiohttp.ClientSession(base_url=server.url) as session, session.get("/readyz") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")


async def test_a_bound_token_tells_its_pod(client: Client) -> None:
    created = await account_with_pod(client)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": created["metadata"]["uid"]}
    token = await token_for(client, audiences=["progress"], expirationSeconds=600, boundObjectRef=bound)
    status = await review(client, token, "progress", "other")
    assert status["authenticated"] is True
    assert status["audiences"] == ["progress"]
    user = status["user"]
    assert user["username"] == "system:serviceaccount:default:trainer"
    assert "system:serviceaccounts:default" in user["groups"]
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [created["metadata"]["uid"]]


async def test_a_token_for_another_audience_is_not_believed(client: Client) -> None:
    await account_with_pod(client)
    token = await token_for(client, audiences=["progress"])
    assert "authenticated" not in await review(client, token, "else")
    assert "error" in await review(client, token)


async def test_the_token_of_a_deleted_pod_is_not_believed(client: Client) -> None:
    created = await account_with_pod(client)
    bound = {"kind": "Pod", "name": "p", "uid": created["metadata"]["uid"]}
    token = await token_for(client, audiences=["progress"], boundObjectRef=bound)
    await client.delete(f"{PODS}/p", {"gracePeriodSeconds": 0})
    assert "authenticated" not in await review(client, token, "progress")
    await client.post(PODS, pod("p", serviceAccountName="trainer"))  # same name, another pod
    assert "authenticated" not in await review(client, token, "progress")


async def test_an_expired_token_is_not_believed(client: Client, server: ApiServer) -> None:
    await account_with_pod(client)
    _, account = await client.get(f"{ACCOUNTS}/trainer")
    token, _ = server.cluster.tokens.issue(account, ("progress",), -1)
    status = await review(client, token, "progress")
    assert "authenticated" not in status
    assert "expired" in status["error"]


async def test_tokens_live_ten_minutes_at_least(client: Client) -> None:
    await account_with_pod(client)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 60}}
    status, answer = await client.post(f"{ACCOUNTS}/trainer/token", body)
    assert status == 422
    assert "may not specify a duration less than 10 minutes" in answer["message"]


async def test_a_token_is_bound_only_to_pods_of_its_account(client: Client) -> None:
    await account_with_pod(client)
    await client.post(PODS, pod("other"))
    body = {"spec": {"boundObjectRef": {"kind": "Pod", "name": "other"}}}
    assert (await client.post(f"{ACCOUNTS}/trainer/token", body))[0] == 422


async def test_accounts_may_do_what_roles_say(client: Client) -> None:
    await account_with_pod(client)
    account = Client(client.session, await token_for(client), [])
    status, body = await account.get(CONFIG_MAPS)
    assert (status, body["reason"]) == (403, "Forbidden")
    assert body["message"] == (
        'configmaps is forbidden: User "system:serviceaccount:default:trainer" cannot list resource "configmaps" '
        'in API group "" in the namespace "default"'
    )
    role = {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]}
    await client.post(f"{RBAC}/namespaces/default/roles", {"metadata": {"name": "reader"}, **role})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "trainer", "namespace": "default"}],
    }
    await client.post(f"{RBAC}/namespaces/default/rolebindings", binding)
    assert (await account.get(CONFIG_MAPS))[0] == 200
    assert (await account.post(CONFIG_MAPS, config_map("a")))[0] == 403
    assert (await account.get("/api/v1/configmaps"))[0] == 403


async def test_access_reviews_answer_by_the_same_rules(client: Client) -> None:
    attributes = {"namespace": "default", "verb": "get", "resource": "pods"}
    own = {"spec": {"resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1"
    _, admin = await client.post(f"{path}/selfsubjectaccessreviews", own)
    assert admin["status"]["allowed"] is True
    other = {"spec": {"resourceAttributes": attributes, "user": "system:serviceaccount:default:trainer"}}
    _, stranger = await client.post(f"{path}/subjectaccessreviews", other)
    assert stranger["status"]["allowed"] is False


async def test_a_kubeconfig_with_certificates_opens_the_door(tmp_path: pathlib.Path) -> None:
    async with ApiServer() as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        assert path.stat().st_mode & 0o077 == 0
        async with await HttpKubeApi.connect(str(path)) as api:
            created = await api.create(CONFIG_MAP_KIND, config_map("a", k="v"), "default")
            assert created["data"] == {"k": "v"}
        stranger = server.write_kubeconfig(tmp_path / "stranger", token="wrong")
        async with await HttpKubeApi.connect(str(stranger)) as api:
            with pytest.raises(ApiError) as refused:
                await api.get(CONFIG_MAP_KIND, "a", "default")
        assert refused.value.unauthorized
