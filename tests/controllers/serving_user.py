"""A platform engineer who publishes versions and deploys them, and the controllers that serve them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from finetune_local import timestamps
from finetune_operator.controllers import model_deployment, model_version
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.kinds import MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import HttpKubeApi, KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.resources import DEPLOYMENTS, EVENTS, PODS, Kind

Resource = dict[str, Any]
NAMESPACE = "ml"


@contextlib.asynccontextmanager
async def serving_controllers(kubeconfig: Path) -> AsyncIterator[HttpKubeApi]:
    """Both controllers, working until the block ends; then cancelled, as a SIGKILL would."""
    async with await HttpKubeApi.connect(str(kubeconfig)) as api:
        caches = ServingCaches.build(api, None)
        recorder = EventRecorder(api, "finetune-operator")
        controllers = [
            model_version.build_controller(api, [caches.versions], recorder),
            model_deployment.build_controller(api, [caches], recorder, "serving:test"),
        ]
        work = [*(i.run() for i in caches.all()), recorder.run(), *(c.run() for c in controllers)]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield api
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class ServingUser:
    """Acts through the API alone."""

    def __init__(self, api: KubeApi, patience: float = 30.0) -> None:
        self.api = api
        self._patience = patience

    async def publish(self, name: str, *, uri: str = "s3://models/m", digest: str = "a" * 64, **spec: Any) -> Resource:
        """Creates a ModelVersion of `tickets`."""
        body = {
            "apiVersion": MODEL_VERSIONS.api_version,
            "kind": "ModelVersion",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "modelName": "tickets",
                "artifact": {"uri": uri, "digest": f"sha256:{digest.removeprefix('sha256:')}"},
                "task": "TextClassification",
                **spec,
            },
        }
        # Creation times are whole seconds, and versions are followed in that order.
        await self._next_second(MODEL_VERSIONS)
        return await self.api.create(MODEL_VERSIONS, body, NAMESPACE)

    async def _next_second(self, kind: Kind) -> None:
        items = (await self.api.list(kind, NAMESPACE))["items"]
        newest = max((item["metadata"]["creationTimestamp"] for item in items), default="")
        while timestamps.now() <= newest:
            await asyncio.sleep(0.05)

    async def deploy(self, name: str = "tickets", **spec: Any) -> Resource:
        body = {
            "apiVersion": MODEL_DEPLOYMENTS.api_version,
            "kind": "ModelDeployment",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"modelName": "tickets", "replicas": 2, **spec},
        }
        return await self.api.create(MODEL_DEPLOYMENTS, body, NAMESPACE)

    async def edit(self, **spec: Any) -> Resource:
        return await self.api.patch(MODEL_DEPLOYMENTS, "tickets", {"spec": spec}, NAMESPACE)

    async def status(self, name: str = "tickets") -> Resource:
        return dict((await self.api.get(MODEL_DEPLOYMENTS, name, NAMESPACE)).get("status") or {})

    async def until(self, what: Callable[[Resource], Any], name: str = "tickets") -> Resource:
        """The first status of the ModelDeployment for which `what` is true."""
        deadline = asyncio.get_running_loop().time() + self._patience
        while asyncio.get_running_loop().time() < deadline:
            status = await self.status(name)
            if status and what(status):
                return status
            await asyncio.sleep(0.05)
        raise AssertionError(await self.dump())

    async def until_stable(self, version: str) -> Resource:
        """Wait until this version serves, and everything is settled."""
        return await self.until(lambda s: s.get("stable") == version and condition(s, "Ready") == "True")

    async def until_deployment(self, what: Callable[[Resource], Any], name: str = "tickets") -> Resource:
        deadline = asyncio.get_running_loop().time() + self._patience
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(ApiError):
                found = await self.api.get(DEPLOYMENTS, name, NAMESPACE)
                if what(found):
                    return found
            await asyncio.sleep(0.05)
        raise AssertionError(await self.dump())

    async def until_gone(self, kind: Kind, name: str) -> None:
        async with asyncio.timeout(self._patience):
            while name in [item["metadata"]["name"] for item in (await self.api.list(kind, NAMESPACE))["items"]]:
                await asyncio.sleep(0.05)

    async def events(self, name: str = "tickets") -> list[str]:
        items = (await self.api.list(EVENTS, NAMESPACE))["items"]
        mine = [e for e in items if e["regarding"].get("kind") == "ModelDeployment"]
        return [e["reason"] for e in mine if e["regarding"].get("name") == name]

    async def dump(self) -> str:
        """What the cluster holds, for a failed wait."""
        found: Resource = {}
        for kind in (MODEL_DEPLOYMENTS, DEPLOYMENTS, PODS):
            items = (await self.api.list(kind, NAMESPACE))["items"]
            found[kind.kind] = {item["metadata"]["name"]: item.get("status") for item in items}
        return json.dumps(found, indent=1)


def condition(status: Resource, kind: str) -> str | None:
    """Status of a condition."""
    return next((c["status"] for c in status.get("conditions") or () if c["type"] == kind), None)


def serving(deployment: Resource) -> str:
    """The version in the pod template."""
    return str(deployment["spec"]["template"]["metadata"]["annotations"]["finetune-operator.io/model-version"])
