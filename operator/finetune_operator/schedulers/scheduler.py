"""What a scheduler integration adds to a gang."""

from typing import Any, Protocol


class Scheduler(Protocol):
    """Who decides when and where the pods of an attempt run."""

    def pod_fields(self, gang: str) -> dict[str, Any]:
        """Fields of the pod spec: the scheduler's name, gates."""

    def pod_labels(self, gang: str) -> dict[str, str]:
        """Labels by which the scheduler knows the members of the gang."""

    def objects(self, gang: str, namespace: str, members: int) -> list[dict[str, Any]]:
        """Objects made beside the Job, such as a PodGroup."""
