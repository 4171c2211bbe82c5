"""What a job started with, when somebody deletes the ConfigMap that says so: kept until the job has one again.

A process that sees the deletion can undo it: the leader, or a standby, whose caches see it, too. Another one finds what
it said with the Job of the attempt, if there is one. Of a job whose snapshot is gone it is remembered that the API
server has none: nobody asks again until a ConfigMap comes.
"""

from typing import Any

from finetune_operator.controllers import job_indices as index
from finetune_operator.kube.controller import Key, owner_keys
from finetune_operator.kube.informer import Informer
from finetune_operator.plan.attempt import SNAPSHOT_KEY, Snapshot

Resource = dict[str, Any]


class KeptSnapshots:
    """By what the caches tell; forgotten with the process."""

    def __init__(self, fine_tune_jobs: Informer, config_maps: Informer) -> None:
        self._jobs = fine_tune_jobs
        self._config_maps = config_maps
        self._kept: dict[Key, Resource] = {}
        self._lost: dict[Key, str] = {}
        """The job's uid."""
        config_maps.add_handler(self._changed)

    def of(self, job: Resource) -> list[Resource]:
        """The ConfigMap with the job's snapshot that is no more, if it is needed."""
        kept = self._kept.get(_key(job))
        return [kept] if kept is not None else []

    def is_lost(self, job: Resource) -> bool:
        """Whether the API server was found to have none, and nothing has changed since."""
        return bool(self._lost.get(_key(job)) == job["metadata"]["uid"])

    def note_loss(self, job: Resource) -> None:
        """No ConfigMap that the API server has holds it."""
        self._lost[_key(job)] = job["metadata"]["uid"]

    def keep(self, job: Resource, snapshot: Snapshot) -> None:
        """One that was found at the API server, and that no cached ConfigMap holds."""
        if index.snapshot(job, self._config_maps.by_index("owner", job["metadata"]["uid"])) is None:
            self._kept[_key(job)] = {"data": {SNAPSHOT_KEY: snapshot.dump()}}

    def forget(self, key: Key) -> None:
        """The job is gone."""
        self._kept.pop(key, None)
        self._lost.pop(key, None)

    def _changed(self, old: Resource | None, new: Resource | None) -> None:
        for key in owner_keys("FineTuneJob")(new or old or {}):
            self._lost.pop(key, None)
            kept = self._kept.get(key)
            if new is not None and kept is not None and new["data"] == kept["data"]:
                del self._kept[key]
            elif new is None and old is not None and self._needs(key, old):
                self._kept[key] = old

    def _needs(self, key: Key, config_map: Resource) -> bool:
        job = self._jobs.get(*key)
        if job is None or job["metadata"]["uid"] not in index.owner_uids(config_map) or not index.unfinished(job):
            return False
        others = self._config_maps.by_index("owner", job["metadata"]["uid"])
        return index.snapshot(job, [config_map]) is not None and index.snapshot(job, others) is None


def _key(job: Resource) -> Key:
    return job["metadata"]["namespace"], job["metadata"]["name"]
