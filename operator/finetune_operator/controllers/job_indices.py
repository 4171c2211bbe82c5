"""By what the caches of the FineTuneJob controller find objects, and what a gang consists of there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from finetune_api.names import LABEL_ATTEMPT
from finetune_api.sources import claim_of
from finetune_operator.plan.attempt import SNAPSHOT_KEY, Snapshot, digest_of
from finetune_operator.plan.conditions import find_condition, is_true
from finetune_operator.plan.names import ANNOTATION_JOB, attempt_name
from finetune_operator.plan.places import named_versions

Resource = dict[str, Any]


@dataclass(frozen=True)
class Gang:
    """What there is of a job's attempts."""

    jobs: list[Resource]
    pods: list[Resource]
    config_maps: list[Resource]
    told: tuple[str, ...] = ()
    """Snapshots that the Jobs themselves bear; not of the caches, which leave them out."""


def owned_by(uid: str, items: Iterable[Resource]) -> list[Resource]:
    """Those that the object of this uid controls."""
    return [item for item in items if uid in owner_uids(item)]


def phase_of(job: Resource) -> list[str]:
    """Index value; Pending until the first reconcile."""
    return [(job.get("status") or {}).get("phase", "Pending")]


def owner_uids(item: Resource) -> list[str]:
    owners = item["metadata"].get("ownerReferences") or []
    return [owner["uid"] for owner in owners if owner.get("controller")]


def pod_job(pod: Resource) -> list[str]:
    name = pod["metadata"].get("annotations", {}).get(ANNOTATION_JOB)
    return [f"{pod['metadata']['namespace']}/{name}"] if name else []


def job_of(pod: Resource) -> str | None:
    """The batch/v1 Job that made it."""
    owners = pod["metadata"].get("ownerReferences") or []
    return next((owner["name"] for owner in owners if owner["kind"] == "Job"), None)


def is_attempt(labelled: Resource, name: str | None, job: str) -> bool:
    """Whether the attempt of the label is the one of the name."""
    number = labelled["metadata"].get("labels", {}).get(LABEL_ATTEMPT, "")
    return bool(number.isdecimal() and name == attempt_name(job, int(number)))


def _attempt(job: Resource) -> int:
    return int((job.get("status") or {}).get("attempt", 0))


def runtime(job: Resource) -> list[str]:
    """Of a job that has not started; the others hold a snapshot."""
    reference = job["spec"].get("runtimeRef") or {}
    if "name" not in reference or _attempt(job):
        return []
    kind = reference.get("kind", "ClusterTrainingRuntime")
    namespace = job["metadata"]["namespace"] if kind == "TrainingRuntime" else ""
    return [f"{kind}/{namespace}/{reference['name']}"]


def versions(job: Resource) -> list[str]:
    """That a job waits to start from."""
    if _attempt(job):
        return []
    return [f"{job['metadata']['namespace']}/{name}" for name in named_versions(job["spec"])]


def deployment(job: Resource) -> list[str]:
    name = (job["spec"].get("deploy") or {}).get("name")
    return [f"{job['metadata']['namespace']}/{name}"] if name else []


def publishing(job: Resource) -> list[str]:
    """The model that an unfinished job will publish to."""
    model = (job["spec"].get("publish") or {}).get("modelName")
    return [f"{namespace}/{model}" for namespace in unfinished(job)] if model else []


def unfinished(job: Resource) -> list[str]:
    """The namespace of a job that may still have pods."""
    conditions = (job.get("status") or {}).get("conditions")
    over = is_true(conditions, "Succeeded") or is_true(conditions, "Failed")
    return [] if over else [job["metadata"]["namespace"]]


def waiting(job: Resource) -> list[str]:
    """The namespace of a job that waits for what it refers to."""
    validated = find_condition((job.get("status") or {}).get("conditions"), "Validated") or {}
    return [job["metadata"]["namespace"]] if validated.get("status") == "False" else []


def shared(policy: Resource) -> list[str]:
    """The namespace of a NetworkPolicy that belongs to no job."""
    return [] if owner_uids(policy) else [policy["metadata"]["namespace"]]


def awaited_claims(job: Resource) -> list[str]:
    """Of a job that waits: the claims that its spec names, and `namespace/` when a runtime may name more."""
    claims = {claim for text in _texts(job["spec"]) if (claim := claim_of(text))}
    if job["spec"].get("runtimeRef"):
        claims.add("")
    return [f"{place}/{claim}" for place in waiting(job) for claim in sorted(claims)]


def _texts(value: Any) -> Iterator[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _texts(one)
    if isinstance(value, str):
        yield value


def awaited_deployment(job: Resource) -> list[str]:
    """Of a job that is about to deploy, or waits for the name."""
    return deployment(job) if phase_of(job) == ["Publishing"] or waiting(job) else []


def namespace(item: Resource) -> list[str]:
    return [item["metadata"]["namespace"]]


def snapshot(job: Resource, config_maps: list[Resource]) -> Snapshot | None:
    """Every attempt's ConfigMap holds the same one; anybody may make another that claims to be one of them."""
    return snapshot_in(job, (data for item in config_maps if (data := item["data"].get(SNAPSHOT_KEY))))


def snapshot_in(job: Resource, texts: Iterable[str]) -> Snapshot | None:
    """Of these the one that the job's status tells by its digest."""
    digest = (job.get("status") or {}).get("snapshotDigest")
    text = next((one for one in texts if digest == digest_of(one)), None)
    return None if text is None else Snapshot.load(text)
