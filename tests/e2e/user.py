"""What a user does with a cluster: apply, look, wait, delete."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import ApiError, HttpKubeApi
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Kind

Body = dict[str, Any]
CLAIM = "e2e"
KINDS = {
    kind.kind: kind
    for kind in (
        FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS, CONFIG_MAPS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
    )
}  # fmt: skip


def condition(body: Body, kind: str) -> Body:
    """One condition of an object; {} while it is not there."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == kind), {})


def is_true(kind: str) -> Callable[[Body], bool]:
    return lambda body: condition(body, kind).get("status") == "True"


def finished(body: Body) -> bool:
    return is_true("Succeeded")(body) or is_true("Failed")(body)


@dataclass
class User:
    """Works in one namespace of a cluster that has the operator."""

    api: HttpKubeApi
    namespace: str
    image: str
    webhooks: bool = False
    """Whether the cluster has the operator's webhooks."""

    async def apply(self, body: Body) -> Body:
        body["metadata"]["namespace"] = self.namespace
        return await self.api.apply(KINDS[body["kind"]], body, field_manager="e2e")

    async def get(self, kind: Kind, name: str) -> Body | None:
        try:
            return await self.api.get(kind, name, self.namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, selector: str = "") -> list[Body]:
        return list((await self.api.list(kind, self.namespace, label_selector=selector))["items"])

    async def delete(self, kind: Kind, name: str) -> None:
        await self.api.delete(kind, name, self.namespace)

    async def until(self, kind: Kind, name: str, done: Callable[[Body], bool], seconds: float = 240) -> Body:
        """The object as it was when `done` first held; the test fails with its last state otherwise."""
        body: Body | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    body = await self.get(kind, name)
                    if body is not None and done(body):
                        return body
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{kind.kind} {name}: {json.dumps((body or {}).get('status'), indent=1)}") from None

    async def until_gone(self, kind: Kind, selector: str, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while await self.list(kind, selector):
                await asyncio.sleep(0.1)

    async def run(self, name: str, script: str) -> str:
        """Runs Python code in a pod of the cluster; what it writes to /dev/termination-log is the answer."""
        await self.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"script.py": script}}
        )
        await self.apply(_script_job(name, self.image))
        await self.until(JOBS, name, lambda job: bool(is_true("Complete")(job) or is_true("Failed")(job)))
        (pod,) = await self.list(PODS, f"job-name={name}")
        ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 0, ended
        return str(ended.get("message", ""))


def _script_job(name: str, image: str) -> Body:
    container = {
        "name": "script",
        "image": image,
        "command": ["python", "/etc/script/script.py"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "script", "mountPath": "/etc/script"},
            {"name": "data", "mountPath": f"/mnt/pvc/{CLAIM}"},
        ],
    }
    volumes = [
        {"name": "script", "configMap": {"name": name}},
        {"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}},
    ]
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def fine_tune_job(name: str, **changes: Any) -> Body:
    """A job that learns the prepared data in a few seconds, on two nodes."""
    spec: Body = {
        "model": {"source": f"pvc://{CLAIM}/model"},
        "task": "TextClassification",
        "dataset": {
            "train": {"source": f"pvc://{CLAIM}/data/train.jsonl"},
            "test": {"source": f"pvc://{CLAIM}/data/test.jsonl"},
            "split": {"validation": 0.1, "stratifyBy": "label"},
            "maxLength": 32,
        },
        "method": {"full": {}},
        "training": {"maxSteps": 80, "batchSize": 24, "learningRate": 1e-2, "logEverySteps": 5},
        "distributed": {"nodes": 2},
        "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}},
        "checkpoint": {"storage": f"pvc://{CLAIM}/checkpoints", "everySteps": 10},
        "output": {"storage": f"pvc://{CLAIM}/models"},
    }
    return {
        "apiVersion": "finetune-operator.io/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": spec | changes,
    }
