"""Volcano: a PodGroup holds the pods back until all of them fit.

https://volcano.sh/en/docs/podgroup/
"""

from typing import Any

from finetune_operator.schedulers.scheduler import GangRequest

GROUP_ANNOTATION = "scheduling.k8s.io/group-name"


class Volcano:
    """Implements `Scheduler`."""

    apis = ("scheduling.volcano.sh",)
    holds_jobs = False

    def pod_fields(self, gang: GangRequest) -> dict[str, Any]:
        return {"schedulerName": "volcano"}

    def pod_metadata(self, gang: GangRequest) -> dict[str, Any]:
        return {"annotations": {GROUP_ANNOTATION: gang.name}}

    def job_labels(self, gang: GangRequest) -> dict[str, str]:
        return {}

    def objects(self, gang: GangRequest) -> list[dict[str, Any]]:
        spec: dict[str, Any] = {"minMember": gang.members}
        if gang.queue:
            spec["queue"] = gang.queue
        if gang.priority_class:
            spec["priorityClassName"] = gang.priority_class
        return [{"apiVersion": f"{self.apis[0]}/v1beta1", "kind": "PodGroup", "spec": spec}]
