"""Carries a plan out: the decision first, by compare-and-swap on the status, then the writes that follow from it.

Nothing is written on a stale view: either the status patch has just proved that the cache was current, or, when
the status is already as it should be, the live object is compared with the cache first. So a finished job never
runs again, also when a new leader's cache lags behind the old leader's last write.
"""

import asyncio
import logging
import re
from collections.abc import Coroutine
from typing import Any

from finetune_api.names import FIELD_MANAGER
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Key
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.resources import (
    CONFIG_MAPS,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Kind,
)
from finetune_operator.plan.reasons import event_type
from finetune_operator.plan.status_draft import REPORTED
from finetune_operator.plan.world import Apply, Create, Delete, Plan, Write
from finetune_operator.schedulers.native import Native

log = logging.getLogger(__name__)
Resource = dict[str, Any]
KINDS: dict[str, Kind] = {
    kind.kind: kind
    for kind in (
        CONFIG_MAPS,
        SERVICES,
        SERVICE_ACCOUNTS,
        NETWORK_POLICIES,
        JOBS,
        PODS,
        MODEL_VERSIONS,
        MODEL_DEPLOYMENTS,
        FINE_TUNE_JOBS,
    )
}
POD_GROUPS: dict[str, Kind] = {
    version: Kind(version, "PodGroup", "podgroups")
    for version in ("scheduling.volcano.sh/v1beta1", "scheduling.x-k8s.io/v1alpha1", *Native.apis)
}


DENIED = re.compile(r"admission webhook .* denied the request")
"""https://github.com/kubernetes/apiserver/blob/release-1.36/pkg/admission/plugin/webhook/errors/statuserror.go"""


class StaleCache(Exception):
    """The cached job is not the live one any more: wait for the cache."""


class CannotCreate(Exception):
    """The API server does not take an object of the plan."""

    def __init__(self, body: Resource, message: str, error: ApiError) -> None:
        super().__init__(message)
        self.kind = str(body["kind"])
        self.invalid = error.status in (400, 422) and not DENIED.search(error.message)
        """The object itself is wrong: trying again cannot help. What a webhook denies it may let in a minute later: one
        that verifies images denies them, with 400, while the registry does not answer."""
        self.error = error


class PlanCarrier:
    """The only place that writes for the FineTuneJob controller."""

    def __init__(self, api: KubeApi, expectations: Expectations, recorder: EventRecorder) -> None:
        self._api = api
        self._expectations = expectations
        self._recorder = recorder
        self._making: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        """Writes of objects that belong to a namespace: every job that starts finds the first one missing."""

    async def carry_out(self, key: Key, job: Resource, plan: Plan) -> Resource:
        """The job as it is after the plan. Raises StaleCache, CannotCreate or ApiError; the rest comes later."""
        patch = merge_patch(own_status(job), plan.status)
        if patch:
            job = await self._patch_status(key, job, patch)
        elif plan.writes:
            await self._verify(job)
        try:
            for write in plan.writes:
                await self._write(key, write)
        finally:
            for event in plan.events if patch or plan.writes else ():
                self._recorder.record(job, event_type(event.reason), event.reason, event.note)
        return job

    async def _write(self, key: Key, write: Write) -> None:
        match write:
            case Create(shared=True):
                await self._once(write.body, self._create(key, write))
            case Create():
                await self._create(key, write)
            case Apply():
                await self._once(write.body, self._apply(key, write.body))
            case Delete():
                await self._delete(key, write)

    async def _once(self, body: Resource, write: Coroutine[Any, Any, None]) -> None:
        """Jobs that want the same at the same time wait for the one request."""
        place = body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]
        if place in self._making:
            write.close()
        else:
            task = self._making[place] = asyncio.create_task(write)
            task.add_done_callback(lambda _: self._making.pop(place))
        await asyncio.shield(self._making[place])

    async def _patch_status(self, key: Key, job: Resource, patch: Resource) -> Resource:
        metadata = job["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": patch}
        written = await self._api.patch(
            FINE_TUNE_JOBS,
            metadata["name"],
            body,
            metadata["namespace"],
            subresource="status",
            field_manager=FIELD_MANAGER,
        )
        self._expectations.expect(key, FINE_TUNE_JOBS.kind, written)
        return written

    async def live(self, job: Resource) -> Resource:
        """The job as the API server has it. Raises StaleCache when it is gone, or made anew."""
        metadata = job["metadata"]
        try:
            live = await self._api.get(FINE_TUNE_JOBS, metadata["name"], metadata["namespace"])
        except ApiError as error:
            if error.not_found:
                raise StaleCache from error
            raise
        if live["metadata"]["uid"] != metadata["uid"]:
            raise StaleCache
        return live

    async def _verify(self, job: Resource) -> None:
        if _substance(await self.live(job)) != _substance(job):
            raise StaleCache

    async def _create(self, key: Key, write: Create) -> None:
        error = await self._try_create(key, write.body, shared=write.shared)
        if error and error.already_exists and write.fallback:
            error = await self._try_create(key, write.fallback, shared=write.shared)
        if error is None:
            return
        if write.dispensable:
            log.info("%s is done without: %s", _what(write.body), error.message or error.reason)
            return
        body, what = write.body, _what(write.body)
        if error.already_exists:
            message = f"{what} exists and is not this job's: delete it, or rename the FineTuneJob"
            raise CannotCreate(body, message, error)
        message = f"{what}: {error.message or error.reason}"
        raise CannotCreate(body, message, error)

    async def _try_create(self, key: Key, body: Resource, *, shared: bool) -> ApiError | None:
        """None when the object is there and ours. An object that exists is never changed: it may be another's."""
        kind, metadata = kind_of(body), body["metadata"]
        try:
            made = await self._api.create(kind, body, metadata["namespace"])
        except ApiError as error:
            if error.already_exists and shared:
                return None
            if error.already_exists:
                existing = await self._api.get(kind, metadata["name"], metadata["namespace"])
                return None if _same_owner(existing, body) else error
            if refuses(error):
                return error
            raise
        self._expectations.expect(key, kind.kind, made)
        return None

    async def _apply(self, key: Key, body: Resource) -> None:
        kind = kind_of(body)
        try:
            made = await self._api.apply(kind, body, field_manager=FIELD_MANAGER)
        except ApiError as error:
            if refuses(error):
                raise CannotCreate(body, f"{_what(body)}: {error.message or error.reason}", error) from error
            raise
        self._expectations.expect(key, kind.kind, made)

    async def _delete(self, key: Key, write: Delete) -> None:
        kind = KINDS[write.kind]
        try:
            answer = await self._api.delete(
                kind,
                write.name,
                write.namespace,
                propagation=write.propagation,
                uid=write.uid,
                grace_period_seconds=write.grace_seconds,
            )
        except ApiError as error:
            if error.conflict:  # the name has another uid by now: ours is gone
                return
            raise
        if answer and answer.get("kind") == kind.kind and answer["metadata"].get("resourceVersion"):
            self._expectations.expect(key, kind.kind, answer)


def _what(body: Resource) -> str:
    return f"{body['kind']} {body['metadata']['name']}"


def refuses(error: ApiError) -> bool:
    """Worth a word to the user: the server answered, and not with a conflict, a pause or a doubt about who we are.

    500 is what a webhook that cannot be called comes to.
    """
    return error.status >= 400 and error.status not in (401, 409, 429)


def kind_of(body: Resource) -> Kind:
    """Several schedulers have a PodGroup each."""
    return POD_GROUPS[body["apiVersion"]] if body["kind"] == "PodGroup" else KINDS[body["kind"]]


def own_status(job: Resource) -> Resource:
    """The status without what the progress receiver writes."""
    return {name: value for name, value in (job.get("status") or {}).items() if name not in REPORTED}


def merge_patch(old: Resource, new: Resource) -> Resource:
    """RFC 7386: what turns `old` into `new`; empty when they are equal."""
    patch: Resource = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := merge_patch(before, value):
                patch[name] = inner
        elif value != before:
            patch[name] = value
    return patch


def _substance(job: Resource) -> tuple[Any, ...]:
    metadata = job["metadata"]
    return metadata["uid"], metadata.get("generation"), metadata.get("deletionTimestamp"), own_status(job)


def _same_owner(existing: Resource, wanted: Resource) -> bool:
    """Made for the same FineTuneJob: by its controller, or by the job that a ModelVersion records."""
    if existing["metadata"].get("deletionTimestamp"):
        return False
    if wanted["kind"] == MODEL_VERSIONS.kind:
        return bool(existing["spec"].get("job") == wanted["spec"]["job"])
    return _controller(existing) == _controller(wanted)


def _controller(item: Resource) -> str | None:
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)
