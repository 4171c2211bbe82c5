"""Pods without processes: Running, then Succeeded after a while. For benchmarks of controllers."""

import asyncio
import json
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
KILLED: Object = {"exitCode": 137, "reason": "Error"}
SAVED: Object = {
    "exitCode": 75,
    "reason": "Error",
    "message": json.dumps({"outcome": "Preempted", "message": "stopped on request after a checkpoint"}),
}
"""EX_TEMPFAIL: as a program ends that is told to stop, and can go on from where it was."""


class StubbedPods:
    """Stands in for the kubelet: statuses as it writes them, `Knobs.stubbed_start` and `stubbed_run` seconds apart."""

    def __init__(self, api: KubeApi, pods: Informer, knobs: Knobs) -> None:
        self._api = api
        self._pods = pods
        self._knobs = knobs
        self.save_seconds = knobs.stubbed_save
        """`Knobs.stubbed_save`; what is set here holds for pods that are told to stop from now on."""
        self._due: dict[str, float] = {}
        """Pod uid → loop time of its next step."""
        self._stops: dict[str, tuple[float, Object]] = {}
        """Pod uid → loop time and state in which a pod that is told to stop ends."""
        self.controller = Controller("stubbed-pods", self.reconcile, workers=4)
        self.controller.watch(pods)

    async def reconcile(self, key: Key) -> Result | None:
        pod = self._pods.get(*key)
        if pod is None or not pod["spec"].get("nodeName"):
            return None
        phase = (pod.get("status") or {}).get("phase")
        if pod["metadata"].get("deletionTimestamp"):
            return await self._stop(pod)
        if phase in ("Succeeded", "Failed") or (phase == "Running" and self._runs_on(pod)):
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

    def _runs_on(self, pod: Object) -> bool:
        return self._knobs.stubbed_run is None or pod["spec"].get("restartPolicy", "Always") == "Always"

    async def _stop(self, pod: Object) -> Result | None:
        """It saves a checkpoint, for which its grace period may be too short."""
        uid, now = pod["metadata"]["uid"], asyncio.get_running_loop().time()
        self._due.pop(uid, None)
        due, end = self._stops.setdefault(uid, self._way_to_stop(pod, now))
        if now < due and not _ended(pod):
            return Result(requeue_after=due - now)
        await self._delete(pod, end)
        del self._stops[uid]
        return None

    def _way_to_stop(self, pod: Object, now: float) -> tuple[float, Object]:
        started = _started_at(pod)
        if started is None or self.save_seconds is None:
            return now, KILLED
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        return now + min(self.save_seconds, grace), KILLED if self.save_seconds > grace else SAVED

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

    async def _delete(self, pod: Object, end: Object) -> None:
        metadata = pod["metadata"]
        if not _ended(pod):
            times = {"finishedAt": timestamps.now(), "startedAt": _started_at(pod)}
            await self._write(pod, {"terminated": end | times})
        try:
            await self._api.delete(
                PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_period_seconds=0
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise


def _ended(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _started_at(pod: Object) -> str | None:
    """When its first container began to run; None before that, and when it has ended."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or [{}]
    started: str | None = ((statuses[0].get("state") or {}).get("running") or {}).get("startedAt")
    return started
