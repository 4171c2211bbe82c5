"""The Job controller: Indexed and NonIndexed, with the conditions in the order of the real one (1.31 and later)."""

import asyncio
import copy
import logging
from collections import defaultdict
from typing import Any

from finetune_local import timestamps
from finetune_local.controllers.conditions import find, with_condition
from finetune_local.controllers.indexes import format_indexes
from finetune_local.controllers.job_view import (
    INDEX_FAILURES_KEY,
    INDEX_KEY,
    TRACKING,
    JobView,
    Outcome,
    decide,
    index_failures,
    missing,
    pod_index,
    view_job,
)
from finetune_local.controllers.owned_pods import (
    OWNER_UID,
    delete_pod,
    is_finished,
    is_terminating,
    pod_from_template,
    random_suffix,
)
from finetune_local.knobs import Knobs
from finetune_local.kubelet.pod_context import Recorder
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result, owner_keys
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.informer import Informer
from finetune_operator.kube.resources import JOBS, PODS

log = logging.getLogger(__name__)

Object = dict[str, Any]

INTERIM = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}
OURS = (None, "", "kubernetes.io/job-controller")


class JobController:
    def __init__(self, api: KubeApi, jobs: Informer, pods: Informer, recorder: Recorder, knobs: Knobs) -> None:
        self._api = api
        self._jobs = jobs
        self._pods = pods
        self._recorder = recorder
        self._knobs = knobs
        self._expectations = Expectations()
        self._counted: dict[str, set[str]] = defaultdict(set)
        """Job uid → pods that its status counts already."""
        self._failures: dict[str, tuple[int, float]] = {}
        """Job uid → failures in a row and the loop time from which a new pod may be made."""
        self._expectations.watch(jobs)
        self._expectations.watch(pods)
        self.controller = Controller("job", self.reconcile, workers=8, expectations=self._expectations)
        self.controller.watch(jobs)
        self.controller.watch(pods, owner_keys("Job"))

    async def reconcile(self, key: Key) -> Result | None:
        job = self._jobs.get(*key)
        await self._release_orphans(key, job)
        if job is None:
            self._expectations.forget(key)
            return None
        if job["spec"].get("managedBy") not in OURS:
            return None
        uid = job["metadata"]["uid"]
        pods = self._pods.by_index(OWNER_UID, uid)
        self._counted[uid] &= {pod["metadata"]["uid"] for pod in pods}
        view = view_job(job, pods, self._counted[uid])
        if job["metadata"].get("deletionTimestamp"):
            await self._release(key, view, pods)
            return None
        if view.finished():
            await self._release(key, view, view.counted)
            return await self._expire(job)
        return await self._sync(key, view)

    async def _release_orphans(self, key: Key, job: Object | None) -> None:
        """Pods whose Job is gone keep no finalizer: else they could never be deleted."""
        for pod in self._pods.by_index("jobName", f"{key[0]}/{key[1]}"):
            owners = [owner["uid"] for owner in pod["metadata"].get("ownerReferences") or []]
            if TRACKING in pod["metadata"].get("finalizers", ()) and (
                job is None or job["metadata"]["uid"] not in owners
            ):
                await self._drop_finalizer(key, pod)

    async def _sync(self, key: Key, view: JobView) -> Result | None:
        status = copy.deepcopy(view.status)
        if not view.suspended and not status.get("startTime"):
            status["startTime"] = timestamps.now()
        outcome = None if view.suspended else decide(view, _seconds_active(status))
        requeue = self._note_failures(view)
        if outcome or view.suspended:
            await self._delete_all(key, view)
        else:
            requeue = await self._manage(key, view, requeue)
        status["conditions"] = self._conditions(view, outcome)
        self._suspend_or_resume(view, status)
        self._finish(view, outcome, status)
        written = await self._write(key, view, status)
        await self._release(key, written, view.counted)
        if outcome or view.suspended:
            return None
        return _earliest(requeue, _until_deadline(view, status))

    def _note_failures(self, view: JobView) -> float | None:
        """Seconds until new pods may be made, None when at once."""
        uid = view.job["metadata"]["uid"]
        loop = asyncio.get_running_loop()
        if view.new_failures:
            count = self._failures.get(uid, (0, 0.0))[0] + len(view.new_failures)
            delay = min(self._knobs.job_backoff * 2 ** (count - 1), self._knobs.job_backoff_limit)
            self._failures[uid] = count, loop.time() + delay
        elif any((pod.get("status") or {}).get("phase") == "Succeeded" for pod in view.counted):
            self._failures.pop(uid, None)
        remaining = self._failures.get(uid, (0, 0.0))[1] - loop.time()
        return remaining if remaining > 0 else None

    async def _manage(self, key: Key, view: JobView, wait: float | None) -> float | None:
        create, excess = missing(view)
        for pod in excess:
            await self._delete(key, view, pod)
        if not create:
            return None
        if wait is not None:
            return wait
        for index in create:
            pod = await self._api.create(PODS, self._new_pod(view, index), key[0])
            self._expectations.expect(key, "Pod", pod)
            view.active.append(pod)
            self._recorder.record(view.job, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return None

    def _new_pod(self, view: JobView, index: int | None) -> Object:
        job = view.job
        name = job["metadata"]["name"]
        part = name if index is None else f"{name}-{index}"
        pod = pod_from_template(job, view.spec["template"], f"{part}-{random_suffix()}")
        metadata, spec = pod["metadata"], pod["spec"]
        uid = job["metadata"]["uid"]
        metadata["finalizers"].append(TRACKING)
        metadata["labels"] |= {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        if index is None:
            return pod
        metadata["labels"][INDEX_KEY] = str(index)
        metadata["annotations"][INDEX_KEY] = str(index)
        if view.spec.get("backoffLimitPerIndex") is not None:
            metadata["annotations"][INDEX_FAILURES_KEY] = str(_earlier_failures(view, index))
        spec.setdefault("hostname", part)
        for field in ("initContainers", "containers"):
            if field in spec:
                spec[field] = [_with_index(container) for container in spec[field] or []]
        return pod

    async def _delete_all(self, key: Key, view: JobView) -> None:
        for pod in list(view.active):
            await self._delete(key, view, pod)

    async def _delete(self, key: Key, view: JobView, pod: Object) -> None:
        deleted = await delete_pod(self._api, pod)
        if deleted is not None and deleted.get("kind") == "Pod":
            self._expectations.expect(key, "Pod", deleted)
            view.terminating.append(deleted)
        view.active.remove(pod)
        self._recorder.record(view.job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _conditions(self, view: JobView, outcome: Outcome | None) -> list[Object]:
        conditions = view.conditions
        if outcome is None:
            return conditions
        interim = INTERIM[outcome.kind]
        return with_condition(conditions, interim, "True", outcome.reason, outcome.message, probe="lastProbeTime")

    def _suspend_or_resume(self, view: JobView, status: Object) -> None:
        before = find(status["conditions"], "Suspended")
        was = before is not None and before["status"] == "True"
        if view.suspended:
            status.pop("startTime", None)
            self._set(view, status, "Suspended", "True", "JobSuspended", "Job suspended", event=not was)
        elif was:
            status["startTime"] = timestamps.now()
            self._set(view, status, "Suspended", "False", "JobResumed", "Job resumed", event=True)

    def _set(
        self, view: JobView, status: Object, kind: str, value: str, reason: str, text: str, *, event: bool
    ) -> None:
        status["conditions"] = with_condition(status["conditions"], kind, value, reason, text, probe="lastProbeTime")
        if event:
            self._recorder.record(view.job, "Normal", reason.removeprefix("Job"), text)

    def _finish(self, view: JobView, outcome: Outcome | None, status: Object) -> None:
        """Complete and Failed come only when no pod is left alive."""
        if outcome is None or view.active or view.terminating:
            return
        status["conditions"] = with_condition(
            status["conditions"], outcome.kind, "True", outcome.reason, outcome.message, probe="lastProbeTime"
        )
        if outcome.kind == "Complete":
            status["completionTime"] = timestamps.now()
            self._recorder.record(view.job, "Normal", "Completed", "Job completed")
        else:
            self._recorder.record(view.job, "Warning", outcome.reason, outcome.message)

    async def _write(self, key: Key, view: JobView, status: Object) -> JobView:
        status["active"], status["ready"] = len(view.active), view.ready
        status["terminating"] = len(view.terminating)
        status["succeeded"], status["failed"] = view.succeeded, view.failed
        status["uncountedTerminatedPods"] = {}
        if view.indexed:
            status["completedIndexes"] = format_indexes(view.completed_indexes)
            if view.spec.get("backoffLimitPerIndex") is not None:
                status["failedIndexes"] = format_indexes(view.failed_indexes)
        status = {name: value for name, value in status.items() if value not in (0, "") or name in view.status}
        if status != view.status:
            job = await self._api.replace_status(JOBS, {**view.job, "status": status})
            self._expectations.expect(key, "Job", job)
        self._counted[view.job["metadata"]["uid"]] |= {pod["metadata"]["uid"] for pod in view.counted}
        return view

    async def _release(self, key: Key, view: JobView, pods: list[Object]) -> None:
        """Counted pods need their finalizer no more."""
        for pod in pods:
            if TRACKING in (pod["metadata"].get("finalizers") or []):
                await self._drop_finalizer(key, pod)
        if view.finished() or view.suspended:
            for pod in view.pods:
                done = is_finished(pod) or is_terminating(pod)
                if done and pod not in pods and TRACKING in (pod["metadata"].get("finalizers") or []):
                    await self._drop_finalizer(key, pod)

    async def _drop_finalizer(self, key: Key, pod: Object) -> None:
        metadata = pod["metadata"]
        kept = [one for one in metadata.get("finalizers") or [] if one != TRACKING]
        patch = {"metadata": {"uid": metadata["uid"], "finalizers": kept or None}}
        try:
            written = await self._api.patch(PODS, metadata["name"], patch, metadata["namespace"])
        except ApiError as error:
            if error.not_found or error.conflict:
                return
            raise
        self._expectations.expect(key, "Pod", written)

    async def _expire(self, job: Object) -> Result | None:
        self._failures.pop(job["metadata"]["uid"], None)
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return None
        remaining = ttl - timestamps.seconds_since(_finished_at(job))
        if remaining > 0:
            return Result(requeue_after=remaining)
        metadata = job["metadata"]
        await self._api.delete(JOBS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return None


def _finished_at(job: Object) -> str:
    for condition in job["status"]["conditions"]:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["lastTransitionTime"])
    raise ValueError(f"job {job['metadata']['name']} is not finished")


def _seconds_active(status: Object) -> float | None:
    start = status.get("startTime")
    return timestamps.seconds_since(start) if start else None


def _until_deadline(view: JobView, status: Object) -> float | None:
    deadline = view.spec.get("activeDeadlineSeconds")
    active = _seconds_active(status)
    return None if deadline is None or active is None else max(0.0, deadline - active)


def _earliest(*waits: float | None) -> Result | None:
    known = [wait for wait in waits if wait is not None]
    return Result(requeue_after=min(known)) if known else None


def _earlier_failures(view: JobView, index: int) -> int:
    return max((index_failures(pod) + 1 for pod in view.pods if pod_index(pod) == index), default=0)


def _with_index(container: Object) -> Object:
    """JOB_COMPLETION_INDEX, as in every container of an Indexed Job."""
    env = container.get("env") or []
    if any(variable["name"] == "JOB_COMPLETION_INDEX" for variable in env):
        return container
    reference = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_KEY}']"}}
    return {**container, "env": [*env, {"name": "JOB_COMPLETION_INDEX", "valueFrom": reference}]}
