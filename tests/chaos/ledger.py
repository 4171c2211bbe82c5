"""What must never happen, checked at every single write that the API server takes.

A listener of the store sees each version of each object, in order: nothing between two looks can be missed.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from finetune_api.names import LABEL_ATTEMPT, LABEL_JOB
from finetune_local.apiserver.revision_store import RevisionStore, StoredObject
from finetune_operator.plan.causes import class_of
from finetune_operator.plan.conditions import is_true

Resource = dict[str, Any]
Place = tuple[tuple[str, str], str, str]
FINE_TUNE_JOB = ("finetune-operator.io", "finetunejobs")
BATCH_JOB, POD = ("batch", "jobs"), ("", "pods")
CHILDREN = (BATCH_JOB, POD, ("", "services"), ("", "configmaps"), ("networking.k8s.io", "networkpolicies"))
FINAL = ("phase", "attempt", "attempts", "restarts", "completionTime", "modelVersion", "artifact")
"""Fields of the status that a finished job keeps for ever."""


class Ledger:
    """Violations are collected, not raised: a listener must not disturb the server."""

    def __init__(self, store: RevisionStore) -> None:
        self.violations: list[str] = []
        self.seen: Counter[str] = Counter()
        self._objects: dict[Place, Resource] = {}
        self._suspensions: Counter[str] = Counter()
        store.listeners.append(self.note)

    def note(self, key: tuple[str, str], namespace: str, name: str, stored: StoredObject | None, revision: int) -> None:
        if key != FINE_TUNE_JOB and key not in CHILDREN:
            return
        place = (key, namespace, name)
        before, after = self._objects.get(place), stored.copy() if stored else None
        if key == FINE_TUNE_JOB and before and after:
            self._judge(revision, name, self._job_changed(before, after))
        elif key != FINE_TUNE_JOB and after and _is_child(after) and before is None:
            self._judge(revision, f"{key[1]} {name}", self._child_made(key, after))
        self.seen[key[1]] += 1
        if after:
            self._objects[place] = after
        else:
            self._objects.pop(place, None)

    def left(self) -> list[str]:
        """Children that are still there."""
        return [f"{key[1]} {name}" for (key, _, name), item in self._objects.items() if _is_child(item)]

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

    def _progress(self, old: Resource, new: Resource) -> Iterator[str]:
        self.seen["reports"] += old != new
        if (new.get("attempt", 0), new.get("step", 0)) < (old.get("attempt", 0), old.get("step", 0)):
            yield f"progress of step {old['step']} became {new}"

    def _over_budget(self, job: Resource, old: Resource, new: Resource) -> Iterator[str]:
        uid = job["metadata"]["uid"]
        ended = {one["number"] for one in old.get("attempts") or () if one.get("endedAt")}
        for one in new.get("attempts") or ():
            if one.get("endedAt") and one["number"] not in ended and one["cause"] == "Suspended":
                self._suspensions[uid] += 1
        policy = (job["spec"].get("failurePolicy") or {}).get("maxRestarts") or {}
        restarts = new.get("restarts") or {}
        for cause, count in (restarts.get("byCause") or {}).items():
            allowed = policy.get(class_of(cause))
            if allowed is not None and count > allowed:
                yield f"{count} restarts after {cause}, allowed are {allowed}"
        if new.get("attempt", 0) > 1 + restarts.get("total", 0) + self._suspensions[uid]:
            yield f"attempt {new['attempt']} after restarts {restarts} and {self._suspensions[uid]} suspensions"

    def _child_made(self, key: tuple[str, str], child: Resource) -> Iterator[str]:
        owner = _controller(child)
        if owner is None:
            yield "nobody owns it"
        elif key == BATCH_JOB:
            job = self._objects.get((FINE_TUNE_JOB, child["metadata"]["namespace"], owner["name"]))
            if job is None or job["metadata"]["uid"] != owner["uid"]:
                return  # the garbage collector's business
            if _finished(job.get("status") or {}):
                yield "a gang of a finished job"
        elif key == POD:
            yield from self._second_gang(child)

    def _second_gang(self, pod: Resource) -> Iterator[str]:
        labels, namespace = pod["metadata"]["labels"], pod["metadata"]["namespace"]
        for (key, where, name), other in self._objects.items():
            theirs = other["metadata"].get("labels") or {}
            if (key, where, theirs.get(LABEL_JOB)) != (POD, namespace, labels[LABEL_JOB]) or _ended(other):
                continue
            if theirs[LABEL_ATTEMPT] != labels[LABEL_ATTEMPT]:
                yield f"a second gang: {name} of attempt {theirs[LABEL_ATTEMPT]} has not ended"


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


def _is_child(item: Resource) -> bool:
    return LABEL_JOB in (item["metadata"].get("labels") or {})


def _controller(item: Resource) -> Resource | None:
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)
