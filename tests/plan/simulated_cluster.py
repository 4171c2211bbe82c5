"""A cluster in memory around one FineTuneJob: what its Job controller, kubelet and garbage collector would do.

Every write goes through a store whose revisions order them, and whose listeners judge them.
"""

import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from finetune_api.names import LABEL_ATTEMPT
from finetune_local.apiserver.revision_store import RevisionStore
from finetune_operator.plan.attempt import SNAPSHOT_KEY, Snapshot
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.plan.world import Create, Delete, World, Write
from plan import builders

Resource = dict[str, Any]
Key = tuple[str, str]
FINE_TUNE_JOB: Key = ("finetune-operator.io", "finetunejobs")
JOB, POD = ("batch", "jobs"), ("", "pods")
KEYS: dict[str, Key] = {
    "FineTuneJob": FINE_TUNE_JOB,
    "Job": JOB,
    "Pod": POD,
    "Service": ("", "services"),
    "ConfigMap": ("", "configmaps"),
    "NetworkPolicy": ("networking.k8s.io", "networkpolicies"),
    "ModelVersion": ("finetune-operator.io", "modelversions"),
    "ModelDeployment": ("finetune-operator.io", "modeldeployments"),
}
ENDED = ("Succeeded", "Failed")
NODES = 2


class SimulatedCluster:
    """Objects by kind and name; `now` is its clock."""

    def __init__(self, store: RevisionStore, job: Resource) -> None:
        self.store = store
        self.now: datetime = builders.NOW
        self.lost: set[str] = set()
        """Names of pods whose node says nothing any more."""
        self._uids = 0
        self.put("FineTuneJob", job)

    # Reading and writing

    def all(self, kind: str) -> list[Resource]:
        return [stored.copy() for stored in self.store.collection(KEYS[kind]).items()]

    def get(self, kind: str, name: str) -> Resource | None:
        stored = self.store.collection(KEYS[kind]).get("ml", name)
        return stored.copy() if stored else None

    @property
    def job(self) -> Resource:
        job = self.get("FineTuneJob", "tickets")
        assert job is not None
        return job

    @property
    def finished(self) -> bool:
        return bool((self.job.get("status") or {}).get("completionTime"))

    def put(self, kind: str, body: Resource) -> None:
        self.store.put(KEYS[kind], "ml", body["metadata"]["name"], copy.deepcopy(body))

    def remove(self, kind: str, body: Resource) -> None:
        self.store.remove(KEYS[kind], "ml", body["metadata"]["name"], body)

    # The operator's side

    def world(self) -> World:
        """As full and fresh caches show it."""
        config_maps = self.all("ConfigMap")
        snapshots = [Snapshot.load(item["data"][SNAPSHOT_KEY]) for item in config_maps]
        world = builders.world(self.job, self.all("Job"), self.all("Pod"))
        return replace(
            world,
            now=self.now,
            parts=(*self.all("Service"), *config_maps),
            snapshot=snapshots[0] if snapshots else None,
            versions=tuple(self.all("ModelVersion")),
        )

    def carry_out(self, write: Write) -> None:
        """As the API server takes it: what exists stays, what is gone is gone."""
        if isinstance(write, Create):
            if self.get(write.body["kind"], write.body["metadata"]["name"]) is None:
                self._uids += 1
                made = {"uid": f"uid-{self._uids}", "creationTimestamp": rfc3339(self.now)}
                self.put(write.body["kind"], {**write.body, "metadata": {**write.body["metadata"], **made}})
            return
        assert isinstance(write, Delete), "a gang's own policy is made once, and nobody edits it here"
        found = self.get(write.kind, write.name)
        if found is None or found["metadata"]["uid"] != write.uid:
            return
        if write.kind == "Job" or (write.kind == "Pod" and write.grace_seconds != 0):
            self._ask_to_end(write.kind, found)
        else:
            self.remove(write.kind, found)

    def _ask_to_end(self, kind: str, item: Resource) -> None:
        if kind == "Pod" and item["status"]["phase"] in ENDED:
            self.remove(kind, item)  # as the API server does: there is nobody to wait for
        elif not item["metadata"].get("deletionTimestamp"):
            item["metadata"]["deletionTimestamp"] = rfc3339(self.now)
            self.put(kind, item)

    # The cluster's own controllers

    def settle(self) -> None:
        """One round of each."""
        owners = {job["metadata"]["uid"] for job in self.all("Job")}
        for pod in self.all("Pod"):
            if pod["metadata"]["ownerReferences"][0]["uid"] not in owners:
                self._ask_to_end("Pod", pod)
        for job in self.all("Job"):
            self._tend(job, [pod for pod in self.all("Pod") if _attempt(pod) == _attempt(job)])
        for pod in self.all("Pod"):
            if pod["metadata"].get("deletionTimestamp") and pod["metadata"]["name"] not in self.lost:
                self._end(pod)

    def _end(self, pod: Resource) -> None:
        """The kubelet tells how a pod ended before it lets it go."""
        if pod["status"]["phase"] in ENDED:
            self.remove("Pod", pod)
        else:
            self.fail(pod, 143, "Preempted")

    def _tend(self, job: Resource, pods: list[Resource]) -> None:
        conditions = job.setdefault("status", {}).setdefault("conditions", [])
        phases = [pod["status"]["phase"] for pod in pods]
        over = any(one["type"] in ("Complete", "Failed") for one in conditions)
        if job["metadata"].get("deletionTimestamp"):
            for pod in pods:
                self._ask_to_end("Pod", pod)
            if not pods:
                self.remove("Job", job)
        elif over:
            return
        elif "Failed" in phases:
            conditions.append({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": ""})
            self.put("Job", job)
        elif phases == ["Succeeded"] * NODES:
            conditions.append({"type": "Complete", "status": "True", "reason": "Completions", "message": ""})
            self.put("Job", job)
        else:
            self._make_pods(job, {_rank(pod) for pod in pods})

    def _make_pods(self, job: Resource, there: set[int]) -> None:
        owner = [{"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}]
        for rank in set(range(NODES)) - there:
            self._uids += 1
            pod = builders.pod(rank, _attempt(job), phase="Pending")
            pod["metadata"] |= {"uid": f"uid-{self._uids}", "ownerReferences": owner}
            pod["metadata"]["name"] += f"-{self._uids}"
            self.put("Pod", pod)

    def give_up_lost_nodes(self) -> None:
        """The node controller's eviction: from now on their pods are asked to end."""
        for pod in self.all("Pod"):
            if pod["metadata"]["name"] in self.lost:
                self._ask_to_end("Pod", pod)

    # What happens to pods

    def living(self) -> list[Resource]:
        """Pods that have not ended, were not asked to, and whose nodes speak."""
        return [
            pod
            for pod in self.all("Pod")
            if pod["status"]["phase"] not in ENDED
            and not pod["metadata"].get("deletionTimestamp")
            and pod["metadata"]["name"] not in self.lost
        ]

    def set_status(self, pod: Resource, like: Resource) -> None:
        """The status of a pod that the builders made."""
        self.put("Pod", {**pod, "status": like["status"]})

    def run_all(self) -> None:
        for pod in self.living():
            self.set_status(pod, builders.pod(_rank(pod), _attempt(pod)))

    def succeed_all(self) -> None:
        for pod in self.living():
            self.set_status(pod, builders.done_pod(_rank(pod), _attempt(pod)))

    def fail(self, pod: Resource, exit_code: int, outcome: str, **more: Any) -> None:
        words = builders.last_words(outcome, "chaos", _rank(pod))
        failed = builders.failed_pod(_rank(pod), exit_code, words, _attempt(pod), at=self.now, **more)
        self.set_status(pod, failed)

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def _attempt(item: Resource) -> int:
    return int(item["metadata"]["labels"][LABEL_ATTEMPT])


def _rank(pod: Resource) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
