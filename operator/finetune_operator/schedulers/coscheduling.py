"""The coscheduling plugin of kubernetes-sigs/scheduler-plugins: pods of a PodGroup are bound together or not at all.

https://github.com/kubernetes-sigs/scheduler-plugins/tree/master/pkg/coscheduling
"""

from typing import Any

from finetune_operator.schedulers.scheduler import GangRequest

GROUP_LABEL = "scheduling.x-k8s.io/pod-group"
SCHEDULER = "scheduler-plugins-scheduler"
"""The name in the plugin's own chart; the runtime's podTemplate may set another one."""
WAIT_SECONDS = 600


class Coscheduling:
    """Implements `Scheduler`."""

    apis = ("scheduling.x-k8s.io",)
    holds_jobs = False

    def pod_fields(self, gang: GangRequest) -> dict[str, Any]:
        return {"schedulerName": SCHEDULER}

    def pod_metadata(self, gang: GangRequest) -> dict[str, Any]:
        return {"labels": {GROUP_LABEL: gang.name}}

    def job_labels(self, gang: GangRequest) -> dict[str, str]:
        return {}

    def objects(self, gang: GangRequest) -> list[dict[str, Any]]:
        spec = {"minMember": gang.members, "scheduleTimeoutSeconds": WAIT_SECONDS}
        return [{"apiVersion": f"{self.apis[0]}/v1alpha1", "kind": "PodGroup", "spec": spec}]
