"""For how long pods have been seen to be deleted: a deletionTimestamp is by the API server's clock, not by ours."""

import time
from collections.abc import Callable
from dataclasses import replace

from finetune_operator.kube.controller import Key
from finetune_operator.plan.world import World


class DeletionsSeen:
    """Forgotten with the process: then what is stuck is waited for once more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: dict[Key, dict[str, float]] = {}
        """By job: when each of its pods was first seen so, by uid."""

    def with_times(self, key: Key, world: World) -> World:
        """The same world, with the times of the pods that are in it."""
        now, before = self._clock(), self._first.pop(key, {})
        pods = (pod for facts in world.attempts.values() for pod in facts.pods if pod.deleting_at)
        first = {pod.uid: before.get(pod.uid, now) for pod in pods}
        if not first:
            return world
        self._first[key] = first
        return replace(world, deleting_for={uid: now - seen for uid, seen in first.items()})

    def forget(self, key: Key) -> None:
        """The job is gone."""
        self._first.pop(key, None)
