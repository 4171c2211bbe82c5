"""Kueue: Jobs start suspended, and Kueue lets them run when their queue has quota for the whole gang.

Priority it takes from the pods' priority class. https://kueue.sigs.k8s.io/docs/tasks/run/jobs/
"""

from typing import Any

from finetune_operator.schedulers.scheduler import GangRequest

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
QUEUE_KIND = "LocalQueue"
QUEUE_APIS = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")
"""Best first. https://kueue.sigs.k8s.io/docs/concepts/local_queue/"""


def queue_api(served: frozenset[str] | None) -> str | None:
    """The version in which the cluster has LocalQueues; None where that is not known."""
    return next((api for api in QUEUE_APIS if served is not None and api in served), None)


class Kueue:
    """Implements `Scheduler`. Quota is given for all pods at once, so they need no gang scheduler besides."""

    apis = ("kueue.x-k8s.io",)
    holds_jobs = True

    def pod_fields(self, gang: GangRequest) -> dict[str, Any]:
        return {}

    def pod_metadata(self, gang: GangRequest) -> dict[str, Any]:
        return {}

    def job_labels(self, gang: GangRequest) -> dict[str, str]:
        return {QUEUE_LABEL: gang.queue} if gang.queue else {}

    def objects(self, gang: GangRequest) -> list[dict[str, Any]]:
        return []
