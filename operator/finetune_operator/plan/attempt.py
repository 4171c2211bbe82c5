"""The objects of one attempt: ConfigMap, Indexed Job, and for several pods a headless Service. None ever changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import orjson

from finetune_api.names import (
    ANNOTATION_DESIRED_HASH,
    LABEL_ATTEMPT,
    LABEL_JOB,
)
from finetune_operator.engines.gang import Gang
from finetune_operator.plan.names import (
    ANNOTATION_JOB,
    ANNOTATION_NETWORK,
    ANNOTATION_SNAPSHOT,
    attempt_name,
    master_port,
    short_name,
)
from finetune_operator.plan.network_policy import network_policy_spec
from finetune_operator.plan.ownership import owner_reference
from finetune_operator.plan.pod_shape import CONTAINER
from finetune_operator.plan.pod_template import attempt_labels, gang_request, pod_template
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.trainer_config import trainer_config
from finetune_operator.plan.volumes import CA_KEY, CONFIG_KEY
from finetune_operator.schedulers.registry import SCHEDULERS

SNAPSHOT_KEY = "snapshot.json"
"""The job's and the runtime's spec as they were when the first attempt started."""
MOST_ANNOTATED = 64 * 1024
"""Characters of a snapshot that also go to the Job; all annotations of an object may have 256 KiB."""


@dataclass(frozen=True)
class Snapshot:
    """What a job started with: later edits of the job or the runtime don't change it."""

    spec: dict[str, Any]
    runtime: dict[str, Any] | None
    artifacts: Mapping[str, str]
    """Places of the ModelVersions that the spec names, by name."""

    def dump(self) -> str:
        """For the ConfigMap."""
        content = {"spec": self.spec, "runtime": self.runtime, "artifacts": self.artifacts}
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    @lru_cache(maxsize=64)
    def load(cls, text: str) -> "Snapshot":
        """From the ConfigMap. Shared between the reconciles of a job: never change it."""
        content = orjson.loads(text)
        return cls(content["spec"], content["runtime"], content["artifacts"])


def digest_of(snapshot: str) -> str:
    """What tells the snapshot of a job, which its status keeps, from any other text."""
    return f"sha256:{sha256(snapshot.encode()).hexdigest()}"


def attempt_objects(job: ResolvedJob, snapshot: Snapshot, number: int, settings: Settings) -> list[dict[str, Any]]:
    """In the order in which to make them: the pods need the others."""
    gang = gang_of(job, number)
    return [
        _config_map(job, snapshot, number, settings),
        *([] if gang.alone else [_service(job, gang, number)]),
        *scheduling_objects(job),
        _indexed_job(job, gang, snapshot, number, settings),
    ]


def scheduling_objects(job: ResolvedJob) -> list[dict[str, Any]]:
    """A PodGroup serves all attempts: the next gang starts when the one before has gone."""
    request = gang_request(job)
    metadata = {
        "name": request.name,
        "namespace": job.namespace,
        "labels": {LABEL_JOB: short_name(job.name)},
        "ownerReferences": [owner_reference(job.name, job.uid)],
    }
    return [body | {"metadata": metadata} for body in SCHEDULERS[job.scheduler].objects(request)]


def gang_of(job: ResolvedJob, number: int) -> Gang:
    """One attempt, as its pods see it."""
    return Gang(
        name=attempt_name(job.name, number),
        namespace=job.namespace,
        nodes=job.spec.distributed.nodes,
        processes_per_node=job.spec.distributed.processes_per_node,
        port=master_port(job.uid, number),
    )


def owned_metadata(job: ResolvedJob, number: int) -> dict[str, Any]:
    """Name, labels and owner of an object of one attempt."""
    return {
        "name": attempt_name(job.name, number),
        "namespace": job.namespace,
        "labels": attempt_labels(job.name, number),
        "annotations": {ANNOTATION_JOB: job.name},
        "ownerReferences": [owner_reference(job.name, job.uid)],
    }


def _config_map(job: ResolvedJob, snapshot: Snapshot, number: int, settings: Settings) -> dict[str, Any]:
    config = trainer_config(job, number).wire()
    data = {CONFIG_KEY: orjson.dumps(config, option=orjson.OPT_SORT_KEYS).decode(), SNAPSHOT_KEY: snapshot.dump()}
    if settings.progress_ca is not None:
        data[CA_KEY] = settings.progress_ca
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owned_metadata(job, number),
        "immutable": True,
        "data": data,
    }


def _service(job: ResolvedJob, gang: Gang, number: int) -> dict[str, Any]:
    labels = attempt_labels(job.name, number)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owned_metadata(job, number),
        "spec": {
            "clusterIP": "None",
            "selector": {LABEL_JOB: labels[LABEL_JOB], LABEL_ATTEMPT: labels[LABEL_ATTEMPT]},
            # The ranks must find each other before any of them is ready.
            "publishNotReadyAddresses": True,
            "ports": [{"name": "rendezvous", "port": gang.port, "protocol": "TCP"}],
        },
    }


def _indexed_job(job: ResolvedJob, gang: Gang, snapshot: Snapshot, number: int, settings: Settings) -> dict[str, Any]:
    scheduler = SCHEDULERS[job.scheduler]
    spec = {
        "completions": gang.nodes,
        "parallelism": gang.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": pod_template(job, gang, number, settings),
        **({"suspend": True} if scheduler.holds_jobs else {}),
    }
    metadata = owned_metadata(job, number)
    metadata["labels"] |= scheduler.job_labels(gang_request(job))
    metadata["annotations"] |= {ANNOTATION_DESIRED_HASH: desired_hash(spec), **recorded_network(job, settings)}
    if len(started := snapshot.dump()) <= MOST_ANNOTATED:
        metadata["annotations"][ANNOTATION_SNAPSHOT] = started
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def recorded_network(job: ResolvedJob, settings: Settings) -> dict[str, str]:
    """The rules that the pods are made for, as an annotation: those of a later operator may be others."""
    spec = network_policy_spec(job, settings)
    return {} if spec is None else {ANNOTATION_NETWORK: orjson.dumps(spec, option=orjson.OPT_SORT_KEYS).decode()}


def _failure_rules() -> list[dict[str, Any]]:
    """One pod lost is the gang lost: fail the Job at once, which stops the other pods."""
    return [
        {
            "action": "FailJob",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": CONTAINER, "operator": "NotIn", "values": [0]},
        },
    ]


def desired_hash(content: Any) -> str:
    """Short and stable: tells what was asked for from what defaulting and others added."""
    return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
