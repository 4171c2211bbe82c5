"""What an inference server is told about the model."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from finetune_api.sources import claim_of


@dataclass(frozen=True)
class ServedModel:
    """One ModelVersion with its base model resolved."""

    model_name: str
    version: str
    uri: str
    digest: str
    base_uri: str | None = None
    base_digest: str | None = None
    base_revision: str | None = None
    trust_remote_code: bool = False
    credentials: tuple[str, ...] = field(default=())
    """Secrets whose keys become environment variables; a later one wins."""

    @property
    def claims(self) -> list[str]:
        """PersistentVolumeClaims that hold its files."""
        found = [claim_of(self.uri), claim_of(self.base_uri)]
        return list(dict.fromkeys(claim for claim in found if claim))


class Server(Protocol):
    """An inference server: everything of its container that depends on which server it is."""

    container_name: str
    port: int
    grace_seconds: int
    """Time that a pod needs from SIGTERM until its last answer."""

    def command(self, model: ServedModel) -> list[str]: ...

    def probes(self) -> dict[str, Any]:
        """startupProbe, readinessProbe and livenessProbe."""
