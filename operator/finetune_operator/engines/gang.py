"""A gang of pods as the engines see it, and what an engine gives."""

from dataclasses import dataclass
from typing import Any, Protocol

COMPLETION_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


@dataclass(frozen=True)
class Gang:
    """`nodes` pods behind one headless Service; pod 0 is the rendezvous host. A single pod needs no Service."""

    name: str
    namespace: str
    nodes: int
    processes_per_node: int
    port: int

    @property
    def alone(self) -> bool:
        """One pod, whose processes find each other without any name."""
        return self.nodes == 1

    def host(self, index: int) -> str:
        """DNS name of one pod; the cluster's domain is left to the resolver's search list."""
        return f"{self.name}-{index}.{self.name}.{self.namespace}.svc"


class Engine(Protocol):
    """How the processes of a gang find each other."""

    def environment(self, gang: Gang) -> list[dict[str, Any]]:
        """Environment of the trainer container, the same in every pod."""

    def ports(self, gang: Gang) -> list[dict[str, Any]]:
        """Ports that the pods open to each other."""
