"""The FineTuneJob controller: read the caches, plan, carry out."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from finetune_api.names import GROUP, MANAGER
from finetune_operator.controllers.carry_out import CannotCreate, PlanCarrier, StaleCache
from finetune_operator.controllers.deletions import DeletionsSeen
from finetune_operator.controllers.evidence import EvidenceReader
from finetune_operator.controllers.job_caches import JobCaches, cache_of
from finetune_operator.controllers.job_indices import Gang
from finetune_operator.controllers.live_gang import LiveGangs
from finetune_operator.controllers.look_ups import LookUps
from finetune_operator.controllers.outdated_policies import OutdatedPolicies
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.controller import Controller, Key, Result, owner_keys
from finetune_operator.kube.events import EventRecorder
from finetune_operator.kube.expectations import Expectations
from finetune_operator.plan.deletion import is_held, wind_up
from finetune_operator.plan.lifecycle import at_a_loss, cannot_create, plan_job, reject
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.world import Plan, World

STALE_RETRY_SECONDS = 1.0
ATTEMPT_KINDS = ("ConfigMap", "Service", "Job")
MANAGED_BY = f"{GROUP}/{MANAGER}"
"""This operator, in `spec.managedBy`; unset means the same."""
Clock = Callable[[], datetime]
Resource = dict[str, Any]


def utc_now() -> datetime:
    """The wall clock: Kubernetes' own timestamps are compared with it."""
    return datetime.now(UTC)


class FineTuneJobReconciler:
    """Brings one job a step further."""

    def __init__(
        self,
        caches: Sequence[JobCaches],
        carrier: PlanCarrier,
        expectations: Expectations,
        settings: Callable[[], Settings],
        evidence: EvidenceReader,
        live_gangs: LiveGangs,
        look_ups: LookUps,
        clock: Clock = utc_now,
    ) -> None:
        self._caches = caches
        self._evidence = evidence
        self._live_gangs = live_gangs
        self._look_ups = look_ups
        self._carrier = carrier
        self._expectations = expectations
        self._settings = settings
        self._clock = clock
        self._deletions = DeletionsSeen()

    async def reconcile(self, key: Key) -> Result | None:
        """One step; what it leaves open wakes the key again."""
        cache = cache_of(self._caches, key[0])
        job = cache.fine_tune_jobs.get(*key) if cache else None
        if cache is None or job is None:
            self._expectations.forget(key)
            self._deletions.forget(key)
            if cache is not None:
                cache.snapshots.forget(key)
            return None
        if managed_elsewhere(job):
            return None
        if job["metadata"].get("deletionTimestamp") and not is_held(job):
            return None  # its children go by their owner references
        world, plan = await self._plan(key, cache, job)
        if plan.unseen:
            if (wait := self._live_gangs.wait(world.uid)) > 0:
                return Result(requeue_after=wait)
            world, plan = await self._plan(key, cache, job, await self._live_gangs.read(cache, job))
            if world.snapshot is None:
                cache.snapshots.note_loss(job)
            else:
                cache.snapshots.keep(job, world.snapshot)
            if not plan.unseen:
                plan = replace(plan, requeue_after=_sooner(plan, self._live_gangs.found_behind(world.uid)))
        try:
            await self._carry_out(key, job, world, plan)
        except StaleCache:
            return Result(requeue_after=STALE_RETRY_SECONDS)
        return Result(requeue_after=plan.requeue_after) if plan.requeue_after is not None else None

    async def _plan(self, key: Key, cache: JobCaches, job: Resource, live: Gang | None = None) -> tuple[World, Plan]:
        seen = self._deletions.with_times(key, cache.world(job, self._settings(), self._clock(), live))
        world = await self._evidence.with_evidence(seen)
        try:
            if job["metadata"].get("deletionTimestamp"):
                return world, wind_up(world)
            world = await self._look_ups.with_answers(world)
            return world, plan_job(world)
        except Exception as fault:  # one job that we cannot handle must not be silent
            await self._carrier.carry_out(key, job, at_a_loss(world, fault))
            raise

    async def _carry_out(self, key: Key, job: Resource, world: World, plan: Plan) -> None:
        try:
            await self._carrier.carry_out(key, job, plan)
        except CannotCreate as refused:
            await self._tell(key, world, refused)

    async def _tell(self, key: Key, world: World, refused: CannotCreate) -> None:
        """Shows in the status what the API server did not take; raises when it is to be tried again."""
        live = await self._carrier.live(world.job)
        world = replace(world, job=live)
        if refused.invalid and refused.kind in ATTEMPT_KINDS:
            await self._carrier.carry_out(key, live, reject(world, str(refused)))
            return
        await self._carrier.carry_out(key, live, cannot_create(world, refused.kind, str(refused)))
        raise refused.error


def _sooner(plan: Plan, seconds: float) -> float:
    return seconds if plan.requeue_after is None else min(plan.requeue_after, seconds)


def managed_elsewhere(job: Resource) -> bool:
    """`spec.managedBy` gives the job to another controller, as MultiKueue does with the original of a remote job."""
    return job["spec"].get("managedBy") not in (None, MANAGED_BY)


def build_controller(
    api: KubeApi,
    caches: Sequence[JobCaches],
    recorder: EventRecorder,
    settings: Callable[[], Settings],
    *,
    workers: int = 16,
    clock: Clock = utc_now,
    prepare: Sequence[Callable[[], Awaitable[object]]] = (),
    look_ups: LookUps | None = None,
) -> Controller:
    """The controller with all its watches; `settings` may be asked once all of `prepare` is done."""
    expectations = Expectations()
    for cache in caches:
        for informer in cache.all():
            expectations.watch(informer)
    carrier = PlanCarrier(api, expectations, recorder)
    reconciler = FineTuneJobReconciler(
        caches, carrier, expectations, settings, EvidenceReader(api), LiveGangs(api), look_ups or LookUps(api), clock
    )
    controller = Controller("finetunejob", reconciler.reconcile, workers=workers, expectations=expectations)
    controller.prepare += [*prepare, OutdatedPolicies(api, caches).remove]
    for cache in caches:
        _watch(controller, cache)
    return controller


def _watch(controller: Controller, cache: JobCaches) -> None:
    owner = owner_keys("FineTuneJob")
    controller.watch(cache.fine_tune_jobs)
    for informer in (cache.jobs, cache.services, cache.config_maps):
        controller.watch(informer, owner)
    controller.watch(cache.pods, cache.keys_of_pod)
    controller.watch(cache.runtimes, cache.keys_of_runtime)
    controller.watch(cache.cluster_runtimes, cache.keys_of_runtime)
    controller.watch(cache.versions, cache.keys_of_version)
    controller.watch(cache.deployments, cache.keys_of_deployment)
    controller.watch(cache.claims, cache.keys_of_claim)
    controller.watch(cache.policies, cache.keys_of_policy, when=was_altered)
    controller.watch(cache.accounts, nobody)
    controller.watch(cache.quotas, nobody)


def was_altered(old: Resource | None, new: Resource | None) -> bool:
    """Edited or deleted: what is new was made by us, and nobody waits for it."""
    return old is not None and (new is None or old["spec"] != new["spec"])


def nobody(_: Resource) -> Iterable[Key]:
    """For what is only looked at: no job waits for it."""
    return ()
