"""Asks the API server for a job's gang, where a plan would end or restart it for what the caches do not show.

Each kind has a watch of its own, and one whose connection is half open is noticed after two minutes only: until then
its cache shows an old state, to a new leader one from before the gang was made. What is seen to have ended has ended;
what is not seen may be there.
"""

import time
from collections.abc import Callable
from typing import Any

from finetune_api.names import LABEL_JOB
from finetune_operator.controllers.job_caches import JobCaches
from finetune_operator.controllers.job_indices import Gang, owned_by
from finetune_operator.kube.client import KubeApi
from finetune_operator.kube.informer import Informer
from finetune_operator.plan.names import ANNOTATION_SNAPSHOT, short_name

Resource = dict[str, Any]
PATIENCE_SECONDS = 10.0
"""Until a job whose cache was found to be behind is looked at again."""


class LiveGangs:
    """Reads past the caches, and remembers whose gang they do not show as it is."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._behind: dict[str, float] = {}

    async def read(self, cache: JobCaches, job: Resource) -> Gang:
        """As the API server has it now, in the form of the caches. Raises ApiError: then nobody knows."""
        uid = job["metadata"]["uid"]
        jobs = owned_by(uid, await self._list(cache.jobs, job))
        pods = await self._list(cache.pods, job)
        config_maps = owned_by(uid, await self._list(cache.config_maps, job))
        annotations = (one["metadata"].get("annotations") or {} for one in jobs)
        return Gang(
            jobs=[cache.jobs.as_cached(one) for one in jobs],
            pods=[cache.pods.as_cached(one) for one in pods],
            config_maps=[cache.config_maps.as_cached(one) for one in config_maps],
            told=tuple(text for one in annotations if (text := one.get(ANNOTATION_SNAPSHOT))),
        )

    async def _list(self, informer: Informer, job: Resource) -> list[Resource]:
        label, namespace = short_name(job["metadata"]["name"]), job["metadata"]["namespace"]
        answer = await self._api.list(informer.kind, namespace, label_selector=f"{LABEL_JOB}={label}", limit=0)
        return list(answer.get("items") or ())

    def found_behind(self, uid: str) -> float:
        """The cache is not to be trusted about this job; the seconds for which it is left alone."""
        now = self._clock()
        self._behind = {one: until for one, until in self._behind.items() if until > now} | {
            uid: now + PATIENCE_SECONDS
        }
        return PATIENCE_SECONDS

    def wait(self, uid: str) -> float:
        """Seconds until it is worth another look; 0 when it was not found behind lately."""
        return max(0.0, self._behind.get(uid, 0.0) - self._clock())
