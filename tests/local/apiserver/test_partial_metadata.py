"""PartialObjectMetadata, for clients that may not, or need not, see more of an object."""

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from finetune_local.apiserver import ApiServer
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.resources import SECRETS
from local.apiserver.http_client import Client

PATH = "/api/v1/namespaces/default/secrets"
ONE, MANY = (
    "application/json;as={};g=meta.k8s.io;v=v1".format(f"PartialObjectMetadata{more}") for more in ("", "List")
)
PLANTED = base64.b64encode(b"planted").decode()
Ask = Callable[..., Any]


@pytest.fixture
async def ask(client: Client) -> Ask:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"KEY": PLANTED}}
    await client.post(PATH, secret)

    async def get(accept: str, name: str = "", **params: str) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {client.token}", "Accept": accept}
        async with client.session.get(f"{PATH}{name}", headers=headers, params=params) as answer:
            return answer.status, await answer.text()

    return get


async def test_one_object_is_its_metadata(ask: Ask, client: Client) -> None:
    status, text = await ask(ONE, "/s")
    _, whole = await client.get(f"{PATH}/s")
    assert (status, PLANTED in text) == (200, False)
    assert orjson.loads(text) == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": whole["metadata"],
    }
    status, text = await ask(ONE, "/missing")
    assert (status, orjson.loads(text)["details"]) == (404, {"name": "missing", "kind": "secrets"})


async def test_a_list_and_a_watch_are_of_metadata(ask: Ask) -> None:
    status, text = await ask(MANY)
    listed = orjson.loads(text)
    assert (status, listed["kind"], PLANTED in text) == (200, "PartialObjectMetadataList", False)
    assert [(one["kind"], one["metadata"]["name"]) for one in listed["items"]] == [("PartialObjectMetadata", "s")]
    assert int(listed["metadata"]["resourceVersion"]) > 0
    _, text = await ask(ONE, watch="true", timeoutSeconds="1", resourceVersion="0")
    first = orjson.loads(text.splitlines()[0])
    assert (first["type"], first["object"]["kind"], PLANTED in text) == ("ADDED", "PartialObjectMetadata", False)


@pytest.mark.parametrize(
    ("accept", "name", "words"),
    [
        (ONE, "", "but the requested object is a list"),
        (MANY, "/s", "but the requested object is not a list"),
        ("application/json;as=Summary;g=meta.k8s.io;v=v1", "/s", "only the following media types are accepted"),
    ],
)
async def test_what_does_not_fit_is_not_acceptable(ask: Ask, accept: str, name: str, words: str) -> None:
    status, text = await ask(accept, name)
    assert (status, PLANTED in text) == (406, False)
    assert words in orjson.loads(text)["message"]
    status, text = await ask(f"{accept},application/json", name)
    assert (status == 200) == ("only the following" in words), "the next alternative, where the form is not known"


async def test_the_operators_client_gets_no_data(ask: Ask, server: ApiServer, tmp_path: Any) -> None:
    async with await HttpKubeApi.connect(str(server.write_kubeconfig(tmp_path / "kubeconfig"))) as over_http:
        for api in (over_http, server.api):
            found = await api.get_metadata(SECRETS, "s", "default")
            assert (set(found), found["metadata"]["name"]) == ({"kind", "apiVersion", "metadata"}, "s")
            with pytest.raises(ApiError) as missing:
                await api.get_metadata(SECRETS, "missing", "default")
            assert missing.value.not_found
