"""The ModelDeployment controller: read the caches, plan, write the status, then apply."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from finetune_api.names import ANNOTATION_DESIRED_HASH, FIELD_MANAGER
from finetune_operator.controllers.carry_out import merge_patch
from finetune_operator.controllers.look_ups import LookUps
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.kinds import MODEL_DEPLOYMENTS
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result, owner_keys
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.expectations import Expectations
from finetune_operator.kube.resources import DEPLOYMENTS, SERVICES
from finetune_operator.plan.model_deployment import Observed, Plan, plan_model_deployment
from finetune_operator.plan.named_objects import Question, secret

Resource = dict[str, Any]
Clock = Callable[[], datetime]
KINDS = {kind.kind: kind for kind in (DEPLOYMENTS, SERVICES)}
STALE_RETRY_SECONDS = 1.0
REFUSALS = (400, 403, 422)
"""Statuses that trying again alone does not mend."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class ModelDeploymentReconciler:
    """Brings one ModelDeployment a step further."""

    def __init__(
        self,
        api: KubeApi,
        caches: Sequence[ServingCaches],
        recorder: EventRecorder,
        expectations: Expectations,
        serving_image: str,
        look_ups: LookUps,
        clock: Clock = utc_now,
    ) -> None:
        self._api = api
        self._look_ups = look_ups
        self._caches = {cache.model_deployments.namespace: cache for cache in caches}
        self._recorder = recorder
        self._expectations = expectations
        self._serving_image = serving_image
        self._clock = clock
        self._applied: dict[tuple[Key, str], tuple[str, ...]] = {}
        """What our last apply left behind: a change of it by anyone else is undone."""
        self._refused: dict[Key, tuple[tuple[str, ...], str]] = {}
        """Objects that the API server did not take, by their hashes, and why."""

    async def reconcile(self, key: Key) -> Result | None:
        """One step. The status goes first: a rollback that is not remembered would be tried again."""
        cache = self._caches.get(key[0]) or self._caches[None]
        resource = cache.model_deployments.get(*key)
        if resource is None:
            self._forget(key)
            return None
        if resource["metadata"].get("deletionTimestamp"):
            return None  # its children go by their owner references
        observed, plan, again = await self._plan(key, resource, cache)
        seen = {item["kind"]: item for item in (observed.deployment, observed.service) if item}
        outdated = [item for item in plan.objects if self._differs(key, item, seen.get(item["kind"]))]
        if not await self._write_status(key, resource, plan, verify=bool(outdated)):
            return Result(requeue_after=STALE_RETRY_SECONDS)
        await self._apply(key, plan, outdated)
        return None if again is None else Result(requeue_after=again)

    async def _plan(self, key: Key, resource: Resource, cache: ServingCaches) -> tuple[Observed, Plan, float | None]:
        """Also in how many seconds what the pods lack is worth another look."""
        observed = cache.observed(resource)
        plan = self._plan_for(resource, observed)
        if plan.objects and not (observed.deployment and observed.service):
            observed = await self._with_foreign(key, observed)
            plan = self._plan_for(resource, observed)
        asked = [Question(secret(name)) for name in plan.secrets]
        found = await self._look_ups.answer(key[0], asked)
        if found.absent:
            observed = replace(observed, absent=found.absent)
            plan = self._plan_for(resource, observed)
        hashes, message = self._refused.get(key, ((), ""))
        if hashes and hashes == _hashes(plan):
            plan = self._plan_for(resource, observed, message)
        return observed, plan, found.again

    def _plan_for(self, resource: Resource, observed: Observed, refused: str = "") -> Plan:
        return plan_model_deployment(resource, observed, self._clock(), self._serving_image, refused)

    async def _with_foreign(self, key: Key, observed: Observed) -> Observed:
        """Objects of our names that are not in our cache: a forced apply must not take over someone else's."""
        found: list[Resource | None] = []
        for kind, cached in ((DEPLOYMENTS, observed.deployment), (SERVICES, observed.service)):
            try:
                found.append(cached or await self._api.get(kind, key[1], key[0]))
            except ApiError as error:
                if not error.not_found:
                    raise
                found.append(None)
        return replace(observed, deployment=found[0], service=found[1])

    async def _write_status(self, key: Key, resource: Resource, plan: Plan, *, verify: bool) -> bool:
        """False when the cache turns out to be stale; nothing may be applied then."""
        patch = merge_patch(resource.get("status") or {}, plan.status)
        if not patch:
            return not verify or await self._is_current(resource)
        body = {"metadata": {"resourceVersion": resource["metadata"]["resourceVersion"]}, "status": patch}
        written = await self._api.patch(
            MODEL_DEPLOYMENTS, key[1], body, key[0], subresource="status", field_manager=FIELD_MANAGER
        )
        self._expectations.expect(key, MODEL_DEPLOYMENTS.kind, written)
        for event in plan.events:
            self._recorder.record(resource, event.type, event.reason, event.note)
        return True

    async def _is_current(self, resource: Resource) -> bool:
        metadata = resource["metadata"]
        try:
            live = await self._api.get(MODEL_DEPLOYMENTS, metadata["name"], metadata["namespace"])
        except ApiError as error:
            if error.not_found:
                return False
            raise
        same = all(live["metadata"].get(field) == metadata.get(field) for field in ("uid", "generation"))
        return same and live.get("status") == resource.get("status")

    def _differs(self, key: Key, wanted: Resource, seen: Resource | None) -> bool:
        """By the hash of what we want, and by what our last apply left: defaults of the API server don't count."""
        if seen is None or _hash(wanted) != _hash(seen):
            return True
        return self._applied.get((key, wanted["kind"])) != _mark(seen)

    async def _apply(self, key: Key, plan: Plan, outdated: list[Resource]) -> None:
        for item in outdated:
            kind = KINDS[item["kind"]]
            try:
                written = await self._api.apply(kind, item, field_manager=FIELD_MANAGER)
            except ApiError as error:
                if error.status in REFUSALS:
                    self._refused[key] = _hashes(plan), f"{item['kind']}: {error.message or error.reason}"
                raise
            self._applied[key, kind.kind] = _mark(written)
            self._expectations.expect(key, kind.kind, written)
        self._refused.pop(key, None)

    def _forget(self, key: Key) -> None:
        self._expectations.forget(key)
        self._refused.pop(key, None)
        for kind in KINDS:
            self._applied.pop((key, kind), None)


def _hash(item: Resource) -> str:
    return str((item["metadata"].get("annotations") or {}).get(ANNOTATION_DESIRED_HASH))


def _hashes(plan: Plan) -> tuple[str, ...]:
    return tuple(_hash(item) for item in plan.objects)


def _mark(item: Resource) -> tuple[str, ...]:
    """Moves with every change of the spec. Services have no generation, and hardly ever change."""
    metadata = item["metadata"]
    return metadata["uid"], str(metadata.get("generation") or metadata["resourceVersion"])


def build_controller(
    api: KubeApi,
    caches: Sequence[ServingCaches],
    recorder: EventRecorder,
    serving_image: str,
    *,
    workers: int = 8,
    clock: Clock = utc_now,
    look_ups: LookUps | None = None,
) -> Controller:
    """The controller with all its watches."""
    expectations = Expectations()
    reconciler = ModelDeploymentReconciler(
        api, caches, recorder, expectations, serving_image, look_ups or LookUps(api), clock
    )
    controller = Controller("modeldeployment", reconciler.reconcile, workers=workers, expectations=expectations)
    for cache in caches:
        for informer in (cache.model_deployments, cache.deployments, cache.services):
            expectations.watch(informer)
        controller.watch(cache.model_deployments)
        controller.watch(cache.deployments, owner_keys("ModelDeployment"))
        controller.watch(cache.services, owner_keys("ModelDeployment"))
        controller.watch(cache.versions, cache.keys_of_version)
        controller.watch(cache.pods, cache.keys_of_pod)
    return controller
