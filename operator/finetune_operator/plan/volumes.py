"""Volumes of a training pod, and where they appear."""

from typing import Any

from finetune_api.names import (
    CONFIG_MOUNT,
    PVC_MOUNT,
    SCRATCH_MOUNT,
    TOKEN_MOUNT,
    progress_audience,
)
from finetune_api.sources import claim_of
from finetune_operator.plan.names import claim_volume
from finetune_operator.plan.resolution import ResolvedJob

CONFIG_KEY = "job.json"
CA_KEY = "ca.crt"
TOKEN_VOLUME = "progress-token"
TOKEN_LIFETIME_SECONDS = 3600


def claims(job: ResolvedJob) -> dict[str, bool]:
    """Every PersistentVolumeClaim of the job, and whether it is only read."""
    found = dict.fromkeys(claims_read(job), True)
    for uri in (job.checkpoint.storage, job.output):
        if claim := claim_of(uri):
            found[claim] = False
    return found


def claims_read(job: ResolvedJob) -> list[str]:
    """Those that hold something for it."""
    return list(dict.fromkeys(claim for uri in job.reads if (claim := claim_of(uri))))


def pod_volumes(job: ResolvedJob, attempt: str, *, progress: bool, with_ca: bool) -> list[dict[str, Any]]:
    """The volumes of one attempt's pods."""
    config = [_keyed(attempt, CONFIG_KEY)]
    if with_ca:
        # Another operator, which spoke plain HTTP, may have made the ConfigMap: then reports fail, but no pod waits.
        config.append(_keyed(attempt, CA_KEY) | {"optional": True})
    volumes: list[dict[str, Any]] = [
        {"name": "config", "projected": {"sources": [{"configMap": source} for source in config]}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    if progress:
        volumes.append({"name": TOKEN_VOLUME, "projected": {"sources": [_token_source(job)]}})
    for claim, read_only in claims(job).items():
        source = {"claimName": claim, **({"readOnly": True} if read_only else {})}
        volumes.append({"name": claim_volume(claim), "persistentVolumeClaim": source})
    return volumes


def _keyed(config_map: str, key: str) -> dict[str, Any]:
    return {"name": config_map, "items": [{"key": key, "path": key}]}


def volume_mounts(job: ResolvedJob, *, progress: bool) -> list[dict[str, Any]]:
    """The mounts of the trainer container."""
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": CONFIG_MOUNT, "readOnly": True},
        {"name": "scratch", "mountPath": SCRATCH_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shared-memory", "mountPath": "/dev/shm"},
    ]
    if progress:
        mounts.append({"name": TOKEN_VOLUME, "mountPath": TOKEN_MOUNT, "readOnly": True})
    for claim, read_only in claims(job).items():
        mount: dict[str, Any] = {"name": claim_volume(claim), "mountPath": f"{PVC_MOUNT}/{claim}"}
        mounts.append(mount | ({"readOnly": True} if read_only else {}))
    return mounts


def _token_source(job: ResolvedJob) -> dict[str, Any]:
    return {
        "serviceAccountToken": {
            "path": "token",
            "audience": progress_audience(job.namespace, job.name, job.uid),
            "expirationSeconds": TOKEN_LIFETIME_SECONDS,
        }
    }
