"""The cluster's default scheduler: pods are placed one by one, nothing is added."""

from typing import Any

from finetune_operator.schedulers.scheduler import GangRequest


class DefaultScheduler:
    """Implements `Scheduler`."""

    apis = ()
    holds_jobs = False

    def pod_fields(self, gang: GangRequest) -> dict[str, Any]:
        return {}

    def pod_metadata(self, gang: GangRequest) -> dict[str, Any]:
        return {}

    def job_labels(self, gang: GangRequest) -> dict[str, str]:
        return {}

    def objects(self, gang: GangRequest) -> list[dict[str, Any]]:
        return []
