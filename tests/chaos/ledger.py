"""What must never happen, checked at every single write that the API server takes.

A listener of the store sees each version of each object, in order: nothing between two looks can be missed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from chaos.belongings import (
    BATCH_JOB,
    FINE_TUNE_JOB,
    MODEL_VERSION,
    POD,
    RULES,
    STANDARD,
    Key,
    controller,
    goes_with_its_owner,
    misplaced,
)
from finetune_api.exit_codes import ExitCode
from finetune_api.failure_policy import FailurePolicy
from finetune_api.names import LABEL_ATTEMPT, LABEL_JOB
from finetune_local.apiserver.revision_store import RevisionStore, StoredObject
from finetune_operator.plan.causes import Cause, class_of
from finetune_operator.plan.conditions import is_true

Resource = dict[str, Any]
Place = tuple[Key, str, str]
FINAL = ("phase", "attempt", "attempts", "restarts", "completionTime", "modelVersion", "artifact")
"""Fields of the status that a finished job keeps for ever."""
NO_FAILURES = (Cause.SUCCEEDED, Cause.SUSPENDED, Cause.RESIZED)
BLAMED = {
    Cause.USER_ERROR: ExitCode.CONFIGURATION,
    Cause.BAD_DATA: ExitCode.DATA,
    Cause.HOST_OUT_OF_MEMORY: ExitCode.OUT_OF_MEMORY,
    Cause.GPU_OUT_OF_MEMORY: ExitCode.OUT_OF_MEMORY,
}
"""Causes that only the trainer itself tells of here: no fault of the cluster may be taken for one."""


class Ledger:
    """Violations are collected, not raised: a listener must not disturb the server."""

    def __init__(self, store: RevisionStore) -> None:
        self.violations: list[str] = []
        self.seen: Counter[str] = Counter()
        self._objects: dict[Place, Resource] = {}
        self._suspensions: Counter[str] = Counter()
        self._failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Job uid → attempts that failed, by cause: counted here, whatever the status says."""
        self._exit_codes: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
        """Namespace, job and attempt → how its pods were seen to end."""
        self._of_jobs: set[str] = set()
        """Namespaces that have had FineTuneJobs; nobody but the operator and Kubernetes makes anything there."""
        store.listeners.append(self.note)

    def note(self, key: Key, namespace: str, name: str, stored: StoredObject | None, revision: int) -> None:
        if key == FINE_TUNE_JOB:
            self._of_jobs.add(namespace)
        elif key not in RULES or namespace not in self._of_jobs or (*key, name) in STANDARD:
            return
        place = (key, namespace, name)
        before, after = self._objects.get(place), stored.copy() if stored else None
        if key == FINE_TUNE_JOB and before and after:
            self._judge(revision, name, self._job_changed(before, after))
        elif key != FINE_TUNE_JOB and after and before is None:
            self._judge(revision, f"{key[1]} {name}", self._child_made(key, after))
        if key == POD and after:
            self._note_exit_codes(after)
        self.seen[key[1]] += 1
        if after:
            self._objects[place] = after
        else:
            self._objects.pop(place, None)

    def left(self) -> list[str]:
        """What should be gone with the jobs and deployments that it belongs to."""
        return [
            f"{key[1]} {name}"
            for (key, _, name), item in self._objects.items()
            if key != FINE_TUNE_JOB and goes_with_its_owner(key, item)
        ]

    def _note_exit_codes(self, pod: Resource) -> None:
        for one in (pod.get("status") or {}).get("containerStatuses") or ():
            if ended := (one.get("state") or {}).get("terminated"):
                self._exit_codes[_gang(pod)].add(ended["exitCode"])

    def _judge(self, revision: int, what: str, wrongs: Iterator[str]) -> None:
        self.violations += [f"revision {revision}: {what}: {wrong}" for wrong in wrongs]

    def _job_changed(self, before: Resource, after: Resource) -> Iterator[str]:
        if before["metadata"]["uid"] != after["metadata"]["uid"]:
            return
        old, new = before.get("status") or {}, after.get("status") or {}
        if _finished(old):
            yield from (f"finished, and {f} changed to {new.get(f)}" for f in FINAL if old.get(f) != new.get(f))
            self.seen["writes to finished jobs"] += old != new
        yield from _backwards(old, new)
        yield from _checkpoint_lost(old, new)
        yield from self._progress(old.get("progress") or {}, new.get("progress") or {})
        yield from self._over_budget(after, old, new)
        yield from self._unpublished(after, new)

    def _progress(self, old: Resource, new: Resource) -> Iterator[str]:
        self.seen["reports"] += old != new
        if (new.get("attempt", 0), new.get("step", 0)) < (old.get("attempt", 0), old.get("step", 0)):
            yield f"progress of step {old['step']} became {new}"

    def _over_budget(self, job: Resource, old: Resource, new: Resource) -> Iterator[str]:
        uid = job["metadata"]["uid"]
        ended = {one["number"] for one in old.get("attempts") or () if one.get("endedAt")}
        for one in new.get("attempts") or ():
            if one.get("endedAt") and one["number"] not in ended:
                self._suspensions[uid] += one["cause"] in (Cause.SUSPENDED, Cause.RESIZED)
                yield from self._attempt_ended(job, one)
        restarts = new.get("restarts") or {}
        for cause, count in (restarts.get("byCause") or {}).items():
            if count > _allowed(job, cause):
                yield f"{count} restarts after {cause}, allowed are {_allowed(job, cause)}"
        if new.get("attempt", 0) > 1 + restarts.get("total", 0) + self._suspensions[uid]:
            yield f"attempt {new['attempt']} after restarts {restarts} and {self._suspensions[uid]} suspensions"

    def _attempt_ended(self, job: Resource, record: Resource) -> Iterator[str]:
        metadata, cause = job["metadata"], record["cause"]
        if cause in NO_FAILURES:
            return
        self._failures[metadata["uid"]][cause] += 1
        failed, allowed = self._failures[metadata["uid"]][cause], _allowed(job, cause)
        if failed > allowed + 1:
            yield f"{failed} attempts ended by {cause}, allowed are {allowed} restarts"
        codes = self._exit_codes[metadata["namespace"], metadata["name"], str(record["number"])]
        if cause in BLAMED and BLAMED[cause] not in codes:
            yield f"attempt {record['number']}: {cause}, though its pods ended with {sorted(codes)}"

    def _unpublished(self, job: Resource, status: Resource) -> Iterator[str]:
        metadata, name = job["metadata"], status.get("modelVersion")
        version = self._objects.get((MODEL_VERSION, metadata["namespace"], name)) if name else None
        if name and (version is None or version["spec"]["job"]["uid"] != metadata["uid"]):
            yield f"ModelVersion {name} is not there, or another job's"

    def _child_made(self, key: Key, child: Resource) -> Iterator[str]:
        yield from misplaced(key, child)
        owner = controller(child)
        if key == MODEL_VERSION:
            yield from self._second_version(child)
        elif key == BATCH_JOB and owner:
            job = self._objects.get((FINE_TUNE_JOB, child["metadata"]["namespace"], owner["name"]))
            if job is None or job["metadata"]["uid"] != owner["uid"]:
                return  # the garbage collector's business
            if _finished(job.get("status") or {}):
                yield "a gang of a finished job"
        elif key == POD and _gang(child)[2]:
            yield from self._second_gang(child)

    def _second_version(self, version: Resource) -> Iterator[str]:
        for (key, _, name), other in self._objects.items():
            if key == MODEL_VERSION and other["spec"]["job"]["uid"] == version["spec"]["job"]["uid"]:
                yield f"its job has published {name}"

    def _second_gang(self, pod: Resource) -> Iterator[str]:
        namespace, job, attempt = _gang(pod)
        for (key, _, name), other in self._objects.items():
            if key != POD or _ended(other) or _gang(other)[:2] != (namespace, job) or not _gang(other)[2]:
                continue
            if _gang(other)[2] != attempt:
                yield f"a second gang: {name} of attempt {_gang(other)[2]} has not ended"


def _backwards(old: Resource, new: Resource) -> Iterator[str]:
    for field in ("attempt", "observedGeneration", "suspendedSeconds"):
        if new.get(field, 0) < old.get(field, 0):
            yield f"{field} went from {old[field]} to {new.get(field)}"
    if new.get("attempt", 0) > old.get("attempt", 0) + 1:
        yield f"attempt jumped from {old.get('attempt')} to {new['attempt']}"
    restarts, known_restarts = new.get("restarts") or {}, old.get("restarts") or {}
    for cause, count in {"total": known_restarts.get("total", 0), **known_restarts.get("byCause", {})}.items():
        if {"total": restarts.get("total", 0), **restarts.get("byCause", {})}.get(cause, 0) < count:
            yield f"restarts after {cause} went from {count} to {restarts}"
    known = {one["number"]: one for one in new.get("attempts") or ()}
    for one in old.get("attempts") or ():
        now = known.get(one["number"])
        if one.get("endedAt") and now and (now.get("endedAt"), now["cause"]) != (one["endedAt"], one["cause"]):
            yield f"attempt {one['number']} had ended: {one} became {now}"


def _checkpoint_lost(old: Resource, new: Resource) -> Iterator[str]:
    known = (old.get("lastCheckpoint") or {}).get("step", -1)
    if (new.get("lastCheckpoint") or {}).get("step", -1) < known:
        yield f"the checkpoint of step {known} became {new.get('lastCheckpoint')}"
    if new.get("attempt", 0) > old.get("attempt", 0) and known >= 0:
        resumed = new["attempts"][-1].get("resumedFromStep")
        if resumed != known:
            yield f"attempt {new['attempt']} resumes from {resumed} though step {known} is saved"


def _finished(status: Resource) -> bool:
    return is_true(status.get("conditions"), "Succeeded") or is_true(status.get("conditions"), "Failed")


def _ended(pod: Resource) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _gang(pod: Resource) -> tuple[str, str, str]:
    """Namespace, job and attempt; the attempt is empty for pods of no gang."""
    labels = pod["metadata"].get("labels") or {}
    return pod["metadata"]["namespace"], labels.get(LABEL_JOB, ""), labels.get(LABEL_ATTEMPT, "")


def _allowed(job: Resource, cause: str) -> int:
    """Restarts after this cause."""
    policy = FailurePolicy.model_validate(job["spec"].get("failurePolicy") or {})
    return int(policy.max_restarts.wire()[class_of(cause)])
