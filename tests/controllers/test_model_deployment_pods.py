"""Rolling updates of real inference servers, under traffic: nothing is dropped, whatever the new version is like."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from controllers.serving_user import NAMESPACE, ServingUser, condition, serving_controllers
from finetune_api.crds import custom_resource_definitions
from finetune_local.cluster import Cluster
from finetune_local.knobs import Knobs
from finetune_operator.kube.resources import CUSTOM_RESOURCE_DEFINITIONS
from serving.artifacts import classifier_artifact

PATIENCE_SECONDS = 150
FAST = Knobs(restart_backoff=0.1, restart_backoff_limit=0.2)
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["my invoice is wrong"]}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster whose pods are processes, with a volume for models."""
    (tmp_path / "models").mkdir()
    async with Cluster(knobs=FAST, claims={f"{NAMESPACE}/models": tmp_path / "models"}) as cluster:
        for definition in custom_resource_definitions():
            await cluster.api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        yield cluster


@dataclass
class Traffic:
    """What a client sees that asks again and again over one connection."""

    url: str
    answers: list[tuple[int, str]] = field(default_factory=list)
    """Status and version of each answer."""

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator["Traffic"]:
        asking = asyncio.create_task(self._ask())
        try:
            yield self
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            while True:
                try:
                    response = await client.post("/v2/models/tickets/infer", json={"inputs": [TENSOR]})
                    self.answers.append((response.status_code, response.json().get("model_version", "")))
                except httpx.HTTPError as error:
                    self.answers.append((0, repr(error)))
                await asyncio.sleep(0.1)

    async def until_answered_by(self, version: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.answers or self.answers[-1] != (200, version):
                await asyncio.sleep(0.05)


async def test_versions_change_under_traffic_and_a_damaged_one_never_answers(cluster: Cluster, tmp_path: Path) -> None:
    models = tmp_path / "models"
    digests = {name: classifier_artifact(models / name, seed=seed) for seed, name in enumerate(("v1", "v2", "v3"))}
    with (models / "v3" / "model.safetensors").open("r+b") as weights:
        weights.write(b"damage")
    async with serving_controllers(cluster.kubeconfig) as api:
        user = ServingUser(api, PATIENCE_SECONDS)
        await user.publish("v1", uri="pvc://models/v1", digest=digests["v1"])
        await user.deploy(replicas=1)
        await user.until_stable("v1")
        async with Traffic(cluster.service_urls()[f"{NAMESPACE}/tickets"]).flowing() as traffic:
            await traffic.until_answered_by("v1")
            await user.publish("v2", uri="pvc://models/v2", digest=digests["v2"])
            await user.until_stable("v2")
            await traffic.until_answered_by("v2")
            await user.publish("v3", uri="pvc://models/v3", digest=digests["v3"])
            status = await user.until(lambda s: s.get("failedVersions") == ["v3"] and condition(s, "Ready") == "True")
            await traffic.until_answered_by("v2")
    assert status["stable"] == "v2"
    assert "model.safetensors" in status["history"][-1]["reason"]
    assert {code for code, _ in traffic.answers} == {200}, [answer for answer in traffic.answers if answer[0] != 200]
    assert {version for _, version in traffic.answers} == {"v1", "v2"}
