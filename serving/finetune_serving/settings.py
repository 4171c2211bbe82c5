"""What `finetune-serving` was told on its command line."""

from dataclasses import dataclass
from pathlib import Path

from finetune_api.names import SERVING_PORT


@dataclass(frozen=True)
class Limits:
    """What one request may cost. Times are in seconds, sizes in bytes."""

    max_request_bytes: int = 4 * 1024 * 1024
    request_timeout: float = 60.0
    max_concurrency: int = 64
    """Requests in progress, waiting ones included; one more gets 429."""
    max_batch_size: int = 16
    max_batch_delay: float = 0.002
    """How long the first text of a batch waits for company."""


@dataclass(frozen=True)
class Shutdown:
    """How SIGTERM is obeyed, in seconds. Their sum stays below the pod's terminationGracePeriodSeconds."""

    drain_delay: float = 5.0
    """Still serving, but not ready: load balancers need this long to notice."""
    grace_period: float = 45.0
    """Then the requests in progress get this long to finish."""


@dataclass(frozen=True)
class ModelSource:
    """Which artifact to serve, and under which name."""

    uri: str
    scratch: Path
    """Where remote files are fetched to."""
    name: str = "model"
    version: str = "1"
    digest: str | None = None
    """`sha256:…` of the artifact's manifest; None serves what is there, and still checks every file."""
    base_uri: str | None = None
    """Base model of an adapter; None takes the one that the artifact names."""
    base_digest: str | None = None
    base_revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Settings:
    """Everything the process needs to know."""

    model: ModelSource
    host: str = "0.0.0.0"
    port: int = SERVING_PORT
    limits: Limits = Limits()
    shutdown: Shutdown = Shutdown()
