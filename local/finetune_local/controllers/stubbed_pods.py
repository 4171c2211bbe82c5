"""Pods without processes: Running, then Succeeded after a while. For benchmarks of controllers."""

import asyncio
from typing import Any

from finetune_local import timestamps
from finetune_local.knobs import Knobs
from finetune_local.kubelet.statuses import ContainerRecord, PodRecord, pod_status
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import PODS

Object = dict[str, Any]


class StubbedPods:
    """Stands in for the kubelet: statuses as it writes them, `Knobs.stubbed_start` and `stubbed_run` seconds apart."""

    def __init__(self, api: KubeApi, pods: Informer, knobs: Knobs) -> None:
        self._api = api
        self._pods = pods
        self._knobs = knobs
        self._due: dict[str, float] = {}
        """Pod uid → loop time of its next step."""
        self.controller = Controller("stubbed-pods", self.reconcile, workers=4)
        self.controller.watch(pods)

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.get(*key)
        if pod is None or not pod["spec"].get("nodeName"):
            return None
        phase = (pod.get("status") or {}).get("phase")
        if pod["metadata"].get("deletionTimestamp"):
            await self._delete(pod)
            return None
        if phase in ("Succeeded", "Failed") or (phase == "Running" and self._knobs.stubbed_run is None):
            self._due.pop(pod["metadata"]["uid"], None)
            return None
        delay = self._knobs.stubbed_run if phase == "Running" else self._knobs.stubbed_start
        now = asyncio.get_running_loop().time()
        due = self._due.setdefault(pod["metadata"]["uid"], now + (delay or 0.0))
        if now < due:
            return Result(requeue_after=due - now)
        del self._due[pod["metadata"]["uid"]]
        state = self._succeeded(pod) if phase == "Running" else {"running": {"startedAt": timestamps.now()}}
        await self._write(pod, state)
        return None

    def _succeeded(self, pod: Object) -> Object:
        running = pod["status"]["containerStatuses"][0]["state"]["running"]
        ended = {"startedAt": running["startedAt"], "finishedAt": timestamps.now()}
        words = {"message": self._knobs.stubbed_message} if self._knobs.stubbed_message else {}
        return {"terminated": {"exitCode": 0, "reason": "Completed", **words, **ended}}

    async def _write(self, pod: Object, state: Object) -> None:
        running = "running" in state
        containers = [
            ContainerRecord(one["name"], one.get("image", ""), state, ready=running, started=running)
            for one in pod["spec"]["containers"]
        ]
        started = (pod.get("status") or {}).get("startTime") or timestamps.now()
        record = PodRecord([], containers, "127.0.0.1", start_time=started, sandbox_ready=running)
        record.terminal = not running
        try:
            await self._api.replace_status(PODS, {**pod, "status": pod_status(pod, record)})
        except ApiError as error:
            if not error.not_found:
                raise

    async def _delete(self, pod: Object) -> None:
        metadata = pod["metadata"]
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            killed = {"exitCode": 137, "reason": "Error", "finishedAt": timestamps.now(), "startedAt": None}
            await self._write(pod, {"terminated": killed})
        try:
            await self._api.delete(
                PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_period_seconds=0
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
