"""FineTuneJobs, Jobs and pods as the API server would show them."""

import copy
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_api.names import API_VERSION, LABEL_ATTEMPT, LABEL_JOB
from finetune_operator.plan.attempt import Snapshot
from finetune_operator.plan.names import ANNOTATION_JOB, attempt_name
from finetune_operator.plan.observation import NO_ATTEMPT, observe_attempt, observe_attempts
from finetune_operator.plan.references import Surroundings
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.status_draft import REPORTED
from finetune_operator.plan.timestamps import rfc3339
from finetune_operator.plan.world import Plan, World

Resource = dict[str, Any]
NOW = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)
UID = "5f0c2a1e-0000-4000-8000-000000000001"
SETTINGS = Settings("trainer:test", "https://receiver:8443", None)
DIGEST = "sha256:" + "ab12" * 16
RESULT = {
    "artifactUri": "s3://models/tickets-5f0c2a1e",
    "artifactDigest": DIGEST,
    "format": "Full",
    "baseRevision": "0123abcd",
    "metrics": {"f1": 0.91, "accuracy": 0.9, "loss": 0.3},
    "evaluatedOn": "test",
    "datasetFingerprint": "sha256:data",
    "versions": {"torch": "2.13.0"},
}


def spec(**changes: Any) -> Resource:
    """The spec of a two-node job; `None` removes a field."""
    fields = {
        "model": {"source": "hf://sentence-transformers/all-MiniLM-L6-v2"},
        "task": "TextClassification",
        "dataset": {
            "train": {"source": "pvc://data/train.jsonl"},
            "split": {"validation": 0.1, "test": 0.1},
        },
        "method": {"lora": {"rank": 8}},
        "distributed": {"nodes": 2},
        "checkpoint": {"storage": "pvc://work/checkpoints"},
        "output": {"storage": "s3://models"},
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def job(name: str = "tickets", **changes: Any) -> Resource:
    """A FineTuneJob that was just created."""
    return {
        "apiVersion": API_VERSION,
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": UID,
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": rfc3339(NOW),
        },
        "spec": spec(**changes),
    }


def indexed_job(number: int = 1, name: str = "tickets", **conditions: str) -> Resource:
    """The attempt's Job; `Failed="reason: message"` adds a condition."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": attempt_name(name, number),
            "namespace": "ml",
            "uid": f"job-{number}",
            "labels": {LABEL_JOB: name, LABEL_ATTEMPT: str(number)},
            "creationTimestamp": rfc3339(NOW),
        },
        "spec": {"completions": 2},
        "status": {
            "conditions": [
                {
                    "type": type_,
                    "status": "True",
                    "reason": text.partition(": ")[0],
                    "message": text.partition(": ")[2],
                }
                for type_, text in conditions.items()
            ]
        },
    }


def pod(rank: int, number: int = 1, *, phase: str = "Running", name: str = "tickets", **more: Any) -> Resource:
    """A pod of the gang. `terminated`, `waiting`, `disruption`, `reason`, `deleting` describe what befell it."""
    status: Resource = {"phase": phase, "conditions": []}
    state: Resource = {"running": {}} if phase == "Running" else {}
    if "terminated" in more:
        state = {"terminated": {"finishedAt": rfc3339(more.get("at", NOW)), **more["terminated"]}}
    if "waiting" in more:
        state = {"waiting": more["waiting"]}
    if "unschedulable" in more:
        status["conditions"].append(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": more["unschedulable"],
            }
        )
    if "disruption" in more:
        status["conditions"].append(
            {"type": "DisruptionTarget", "status": "True", "reason": more["disruption"], "message": "why"}
        )
    if "reason" in more:
        status["reason"] = more["reason"]
    status["containerStatuses"] = [{"name": "trainer", "state": state}]
    metadata = {
        "name": f"{attempt_name(name, number)}-{rank}-abcde",
        "namespace": "ml",
        "uid": f"pod-{number}-{rank}",
        "labels": {LABEL_JOB: name, LABEL_ATTEMPT: str(number)},
        "annotations": {
            "batch.kubernetes.io/job-completion-index": str(rank),
            ANNOTATION_JOB: name,
        },
    }
    if "deleting" in more:
        metadata["deletionTimestamp"] = rfc3339(more["deleting"])
    return {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": f"node-{rank}"}, "status": status}


def failed_pod(rank: int, exit_code: int, message: str = "", number: int = 1, **more: Any) -> Resource:
    """A pod whose trainer ended with this code and these last words."""
    ended = {"exitCode": exit_code, "reason": "Error", "message": message}
    return pod(rank, number, phase="Failed", **{"terminated": ended} | more)


def done_pod(rank: int, number: int = 1, result: Resource | None = None) -> Resource:
    """A pod that ended well; rank 0 tells of the result."""
    words = {"outcome": "Succeeded", "rank": rank}
    if rank == 0:
        words["result"] = RESULT if result is None else result
    return pod(rank, number, phase="Succeeded", terminated={"exitCode": 0, "message": json.dumps(words)})


def last_words(outcome: str, message: str, rank: int = 0) -> str:
    """A termination message."""
    return json.dumps({"outcome": outcome, "message": message, "rank": rank})


def snapshot_of(resource: Resource, runtime: Resource | None = None) -> Snapshot:
    """As the first attempt's ConfigMap keeps it."""
    fixed = copy.deepcopy(resource["spec"])
    return Snapshot(fixed, runtime, {})


SURROUNDINGS = {one.name for one in fields(Surroundings)}


def world(
    resource: Resource,
    jobs: list[Resource] | None = None,
    pods: list[Resource] | None = None,
    after: float = 0.0,
    **more: Any,
) -> World:
    """What the controller sees `after` seconds; `more` are fields of World, or of its Surroundings."""
    around = {name: more.pop(name) for name in SURROUNDINGS & more.keys()}
    return World(
        job=resource,
        now=NOW + timedelta(seconds=after),
        settings=SETTINGS,
        attempts=observe_attempts(jobs or [], pods or []),
        room=observe_attempt(NO_ATTEMPT, jobs or [], pods or []),
        around=Surroundings(**around),
        **({"has_account": True} | more),
    )


def follow(resource: Resource, plan: Plan) -> Resource:
    """The job after the plan's status was written."""
    reported = {k: v for k, v in (resource.get("status") or {}).items() if k in REPORTED}
    return {**resource, "status": {**copy.deepcopy(plan.status), **reported}}


def condition(plan: Plan, type_: str) -> tuple[str, str] | None:
    """Status and reason of a condition."""
    found = [c for c in plan.status["conditions"] if c["type"] == type_]
    return (found[0]["status"], found[0]["reason"]) if found else None


def message(plan: Plan, type_: str) -> str:
    """Message of a condition."""
    return next(str(c["message"]) for c in plan.status["conditions"] if c["type"] == type_)


def reasons(plan: Plan) -> list[str]:
    """Reasons of the plan's events."""
    return [str(event.reason) for event in plan.events]


def created(plan: Plan) -> list[str]:
    """`Kind/name` of what the plan makes, less the NetworkPolicy that all attempts share."""
    made = [write.body for write in plan.writes if hasattr(write, "body")]
    return [f"{body['kind']}/{body['metadata']['name']}" for body in made if body["kind"] != "NetworkPolicy"]


def deleted(plan: Plan) -> list[str]:
    """`Kind/name` of what the plan deletes."""
    return [f"{write.kind}/{write.name}" for write in plan.writes if not hasattr(write, "body")]
