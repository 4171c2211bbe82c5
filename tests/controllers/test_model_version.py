"""Approval, against a real API server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controllers.serving_user import NAMESPACE, ServingUser, serving_controllers
from finetune_api.names import ANNOTATION_APPROVED
from finetune_local.cluster import Cluster
from finetune_operator.kinds import MODEL_VERSIONS


@pytest.fixture
async def user(cluster: Cluster) -> AsyncIterator[ServingUser]:
    async with serving_controllers(cluster.kubeconfig) as api:
        yield ServingUser(api)


async def approved(user: ServingUser, name: str, wanted: bool) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            version = await user.api.get(MODEL_VERSIONS, name, NAMESPACE)
            if version.get("status", {}).get("approved") is wanted:
                return version
            await asyncio.sleep(0.05)


async def test_approval(user: ServingUser) -> None:
    await user.publish("automatic")
    await approved(user, "automatic", True)
    await user.publish("manual", approval="Manual")
    waiting = await approved(user, "manual", False)
    assert waiting["status"]["conditions"][0]["reason"] == "AwaitingApproval"
    for value, expected in (("true", True), (None, False)):
        patch = {"metadata": {"annotations": {ANNOTATION_APPROVED: value}}}
        await user.api.patch(MODEL_VERSIONS, "manual", patch, NAMESPACE)
        await approved(user, "manual", expected)


async def test_a_settled_version_is_not_written_again(user: ServingUser) -> None:
    await user.publish("v1")
    before = await approved(user, "v1", True)
    labelled = await user.api.patch(MODEL_VERSIONS, "v1", {"metadata": {"labels": {"a": "b"}}}, NAMESPACE)
    await user.publish("v2")
    await approved(user, "v2", True)
    after = await user.api.get(MODEL_VERSIONS, "v1", NAMESPACE)
    assert after["metadata"]["resourceVersion"] == labelled["metadata"]["resourceVersion"]
    assert after["status"] == before["status"]
