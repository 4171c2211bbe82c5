"""What keeps training pods apart from the rest of the cluster: an account without rights, and a NetworkPolicy."""

from typing import Any

from finetune_api.names import LABEL_JOB, LABEL_MANAGED_BY, MANAGER, TRAINER_SERVICE_ACCOUNT
from finetune_operator.plan.names import short_name
from finetune_operator.plan.network_policy import network_policy_spec
from finetune_operator.plan.ownership import owner_reference
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.world import Create

Resource = dict[str, Any]


def isolation_writes(job: ResolvedJob, settings: Settings, *, has_account: bool) -> list[Create]:
    """Made before any pod of the job. The account belongs to the namespace and stays."""
    account = [] if has_account else [Create(service_account(job.namespace), shared=True)]
    policy = network_policy(job, settings)
    return [*account, *([Create(policy)] if policy else [])]


def service_account(namespace: str) -> Resource:
    """Nothing is bound to it, and nothing of it is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": TRAINER_SERVICE_ACCOUNT, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGER}},
        "automountServiceAccountToken": False,
    }


def network_policy(job: ResolvedJob, settings: Settings) -> Resource | None:
    """One for all attempts of a job: there is never more than one gang."""
    spec = network_policy_spec(job, settings)
    if spec is None:
        return None
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": short_name(f"{job.name}-training"),
            "namespace": job.namespace,
            "labels": {LABEL_JOB: short_name(job.name), LABEL_MANAGED_BY: MANAGER},
            "ownerReferences": [owner_reference(job.name, job.uid)],
        },
        "spec": spec,
    }
