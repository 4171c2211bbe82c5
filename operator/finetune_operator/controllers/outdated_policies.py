"""Shared NetworkPolicies that no gang needs any more, such as those of an operator before its upgrade.

They go when an operator begins to lead, before its first reconcile. At no other time is it safe: a job that relies on a
policy which its cache still shows writes nothing, and would start its pods under none. That no Job needs one, the API
server itself is asked: the cache of a new leader may be from before the Job was made.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from finetune_api.names import LABEL_JOB
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.controllers.model_caches import PAGE
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.resources import JOBS, NETWORK_POLICIES
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.isolation import recorded_label, shared_name

log = logging.getLogger(__name__)
Resource = dict[str, Any]
SECONDS = 10.0
"""Until the caches show what was deleted; if they do not, its late echo wakes the jobs, which put it right."""


class OutdatedPolicies:
    """`remove()` with full caches, while nothing else writes."""

    def __init__(self, api: KubeApi, caches: Sequence[JobCaches]) -> None:
        self._api = api
        self._caches = caches
        self._changed = asyncio.Event()
        for cache in caches:
            cache.policies.add_handler(lambda old, new: self._changed.set())

    async def remove(self) -> None:
        """Deletes them and waits until the caches have forgotten them. Raises nothing: they do no harm."""
        removed = [
            (cache, policy)
            for cache in self._caches
            for policy in await self._outdated(cache)
            if await self._delete(policy)
        ]
        try:
            async with asyncio.timeout(SECONDS):
                while any(cache.policies.get(*_place(policy)) is not None for cache, policy in removed):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("the cache still shows NetworkPolicies that were deleted %g s ago", SECONDS)

    async def _outdated(self, cache: JobCaches) -> list[Resource]:
        """By the live Jobs; they are read where the cached ones need something less."""
        found = list(outdated(cache.policies.list(), cache.jobs.list()))
        kept: list[Resource] = []
        for namespace in sorted({_place(policy)[0] for policy in found}):
            try:
                jobs = await self._live_jobs(cache, namespace)
            except ApiError as error:
                log.warning("NetworkPolicies of %s, which no gang may need, stay: its Jobs: %s", namespace, error)
                continue
            kept += outdated([policy for policy in found if _place(policy)[0] == namespace], jobs)
        return kept

    async def _live_jobs(self, cache: JobCaches, namespace: str) -> list[Resource]:
        """Those that still have pods, or will: thousands may be over."""
        jobs: list[Resource] = []
        continue_ = ""
        while True:
            page = await self._api.list(JOBS, namespace, label_selector=LABEL_JOB, limit=PAGE, continue_=continue_)
            read = (cache.jobs.as_cached(item) for item in page.get("items") or ())
            jobs += [job for job in read if not _over(job)]
            continue_ = page["metadata"].get("continue") or ""
            if not continue_:
                return jobs

    async def _delete(self, policy: Resource) -> bool:
        """Whether the caches are to forget it."""
        namespace, name = _place(policy)
        try:
            await self._api.delete(NETWORK_POLICIES, name, namespace, uid=policy["metadata"]["uid"])
        except ApiError as error:
            log.warning("NetworkPolicy %s/%s, which no gang needs, is not deleted: %s", namespace, name, error)
            return error.unreachable  # it may be
        log.info("NetworkPolicy %s/%s: deleted, as no gang needs it", namespace, name)
        return True


def outdated(policies: Iterable[Resource], jobs: Iterable[Resource]) -> Iterator[Resource]:
    """Shared ones that select the pods of no Job that still has some, or will have."""
    shared = [policy for policy in policies if not policy["metadata"].get("ownerReferences")]
    if not shared:
        return
    labels = [(job["metadata"]["namespace"], recorded_label(job)) for job in jobs if not _over(job)]
    needed = {(namespace, shared_name(label)) for namespace, label in labels if label}
    unknown = {namespace for namespace, label in labels if label is None}
    for policy in shared:
        if _place(policy) not in needed and policy["metadata"]["namespace"] not in unknown:
            yield policy


def _over(job: Resource) -> bool:
    """Kubernetes says so once the last pod has ended."""
    conditions = job["status"].get("conditions")
    return is_true(conditions, "Complete") or is_true(conditions, "Failed")


def _place(policy: Resource) -> tuple[str, str]:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]
