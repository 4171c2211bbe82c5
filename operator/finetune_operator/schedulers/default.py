"""The cluster's default scheduler: pods are placed one by one, nothing is added."""

from typing import Any


class DefaultScheduler:
    """Implements `Scheduler`."""

    def pod_fields(self, gang: str) -> dict[str, Any]:
        return {}

    def pod_labels(self, gang: str) -> dict[str, str]:
        return {}

    def objects(self, gang: str, namespace: str, members: int) -> list[dict[str, Any]]:
        return []
