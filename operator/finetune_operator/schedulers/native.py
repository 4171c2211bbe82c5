"""The scheduler of Kubernetes itself, where its API for gangs is switched on: a PodGroup is placed whole or not at all.

Beta in 1.37, alpha in 1.36 under another version; both are off unless the feature gate GenericWorkload and the version
are enabled. The PodGroup stands for itself: a Workload would only be the template of one, and 1.35, which has nothing
but Workloads, is not supported. https://kubernetes.io/docs/concepts/workloads/podgroup-api/lifecycle/
"""

from typing import Any

from finetune_operator.schedulers.scheduler import GangRequest, first_served


class Native:
    """Implements `Scheduler`."""

    apis = ("scheduling.k8s.io/v1beta1", "scheduling.k8s.io/v1alpha3", "scheduling.k8s.io/v1alpha2")
    holds_jobs = False

    def pod_fields(self, gang: GangRequest) -> dict[str, Any]:
        return {"schedulingGroup": {"podGroupName": gang.name}}

    def pod_metadata(self, gang: GangRequest) -> dict[str, Any]:
        return {}

    def job_labels(self, gang: GangRequest) -> dict[str, str]:
        return {}

    def objects(self, gang: GangRequest) -> list[dict[str, Any]]:
        spec: dict[str, Any] = {"schedulingPolicy": {"gang": {"minCount": gang.members}}}
        if gang.priority_class:
            spec["priorityClassName"] = gang.priority_class
        return [{"apiVersion": first_served(self.apis, gang.served), "kind": "PodGroup", "spec": spec}]
