"""Names that several rooms must agree on: the API group, labels, mount points, environment variables, ports."""

from typing import Literal

GROUP = "finetune-operator.io"
VERSION = "v1alpha1"
API_VERSION: Literal["finetune-operator.io/v1alpha1"] = "finetune-operator.io/v1alpha1"

LABEL_JOB = f"{GROUP}/job"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_COMPONENT = f"{GROUP}/component"
"""`trainer` or `server`."""
LABEL_NETWORK = f"{GROUP}/network"
"""Of training pods: by which NetworkPolicy they are kept apart."""
LABEL_MODEL = f"{GROUP}/model"
LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_VERSION = f"{GROUP}/model-version"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
ANNOTATION_DESIRED_HASH = f"{GROUP}/desired-hash"
ANNOTATION_APPROVED = f"{GROUP}/approved"
"""`kubectl annotate mv NAME finetune-operator.io/approved=true` approves a ModelVersion by hand."""

MANAGER = "finetune-operator"
FIELD_MANAGER = MANAGER
PROGRESS_FIELD_MANAGER = f"{MANAGER}-progress"

TRAINER_SERVICE_ACCOUNT = "finetune-trainer"
"""Of the training pods, one a namespace: platform teams annotate it for their cloud's workload identity."""

PVC_MOUNT = "/mnt/pvc"
"""`pvc://CLAIM/PATH` is `/mnt/pvc/CLAIM/PATH` in every pod the operator makes."""
CONFIG_MOUNT = "/etc/finetune"
CONFIG_FILE = f"{CONFIG_MOUNT}/job.json"
TOKEN_MOUNT = "/var/run/secrets/finetune-operator.io"
TOKEN_FILE = f"{TOKEN_MOUNT}/token"
SCRATCH_MOUNT = "/scratch"
"""An emptyDir, gone with the pod: downloads, caches, unfinished files."""

ENV_PROGRESS_URL = "FINETUNE_PROGRESS_URL"
"""Where rank 0 posts a `ProgressReport`; unset means that nobody listens."""
ENV_PROGRESS_TOKEN_FILE = "FINETUNE_PROGRESS_TOKEN_FILE"
ENV_PROGRESS_CA_FILE = "FINETUNE_PROGRESS_CA_FILE"
ENV_STOP_GRACE = "FINETUNE_STOP_GRACE_SECONDS"
"""How long the workers may take to save after SIGTERM; below the pod's terminationGracePeriodSeconds."""
ENV_MEMORY_LIMIT = "FINETUNE_MEMORY_LIMIT_BYTES"
"""What the container may use; without a limit of its own, what its node has."""
ENV_SECRET_VARIABLES = "FINETUNE_SECRET_VARIABLES"
"""Names, separated by commas, of the variables that come from a Secret: their values are masked in logs."""
ENV_SECRET_PATHS = "FINETUNE_SECRET_PATHS"
"""Where Secrets are mounted, separated by colons: what the files hold is masked, too."""
ENV_TERMINATION_FILE = "FINETUNE_TERMINATION_FILE"
TERMINATION_FILE = "/dev/termination-log"
ENV_TERMINATION_BYTES = "FINETUNE_TERMINATION_BYTES"
"""The most that the kubelet keeps of what is written there, where the pod has other containers."""

METRICS_PORT = 9400
"""Prometheus metrics of a training pod."""
SERVING_PORT = 8080
"""HTTP port of an inference pod: predictions, health and metrics."""


def progress_audience(namespace: str, job: str, uid: str) -> str:
    """Audience of the projected token that lets a pod report for this one job."""
    return f"{GROUP}/jobs/{namespace}/{job}/{uid}"
