"""Names of what the operator makes: deterministic, and short enough for Kubernetes."""

import hashlib
import re
from functools import lru_cache

ANNOTATION_JOB = "finetune-operator.io/job-name"
"""Full name of the FineTuneJob; the label may be a shortened form of it."""
ANNOTATION_NETWORK = "finetune-operator.io/network-policy"
"""Of an attempt's Job: spec of the NetworkPolicy that its pods were made for, as JSON."""
ANNOTATION_SNAPSHOT = "finetune-operator.io/snapshot"
"""Of an attempt's Job: what the job started with, for when the ConfigMap that keeps it is deleted."""
MAX_ATTEMPT_NAME = 57
"""An Indexed Job's pods are called `<name>-<index>`, a DNS label; indexes go up to 1023."""
FIRST_PORT, PORTS = 20_000, 10_000


@lru_cache(maxsize=4096)
def short_name(name: str, limit: int = 63) -> str:
    """`name` as a DNS label of at most `limit` characters; a hash keeps shortened names apart."""
    label = re.sub(r"[^a-z0-9-]", "-", name.lower())
    if label == name and len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{label[: limit - 9].rstrip('-')}-{digest}"


def attempt_name(job: str, number: int) -> str:
    """Name of the Job, the Service and the ConfigMap of one attempt."""
    suffix = f"-{number}"
    # A Service's name must start with a letter, a FineTuneJob's may start with a digit.
    stem = job if job[:1].isalpha() else f"job-{job}"
    return short_name(stem, MAX_ATTEMPT_NAME - len(suffix)) + suffix


def preflight_name(job: str) -> str:
    """Name of the Job that looks while the gang waits; those of attempts end in a number."""
    return short_name(f"{job}-preflight", MAX_ATTEMPT_NAME)


def master_port(uid: str, number: int) -> int:
    """Rendezvous port, 20000-29999: gangs that share a machine's network rarely meet."""
    return FIRST_PORT + int(hashlib.sha256(f"{uid}/{number}".encode()).hexdigest()[:8], 16) % PORTS


def storage_suffix(job: str, uid: str) -> str:
    """Folder of one job below a shared storage: a job made anew under the same name starts afresh."""
    return f"{job}-{uid[:8]}"


def model_version_names(job: str, digest: str) -> tuple[str, str]:
    """Name of the ModelVersion, and the longer one for when another artifact already has the first."""
    hexadecimal = digest.removeprefix("sha256:")
    return f"{short_name(job, 58)}-{hexadecimal[:4]}", f"{short_name(job, 50)}-{hexadecimal[:12]}"


def claim_volume(claim: str) -> str:
    """Name of the pod volume that mounts a PersistentVolumeClaim."""
    return short_name(f"pvc-{claim}")
