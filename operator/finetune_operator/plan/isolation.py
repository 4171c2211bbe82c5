"""What keeps training pods apart from the rest of the cluster: an account without rights, and a NetworkPolicy."""

from typing import Any

import orjson

from finetune_api.names import LABEL_JOB, LABEL_MANAGED_BY, LABEL_NETWORK, MANAGER, TRAINER_SERVICE_ACCOUNT
from finetune_operator.plan.names import ANNOTATION_NETWORK, short_name
from finetune_operator.plan.network_policy import network_policy_spec
from finetune_operator.plan.ownership import owner_reference
from finetune_operator.plan.resolution import ResolvedJob
from finetune_operator.plan.settings import Settings
from finetune_operator.plan.world import Apply, Create, World

Resource = dict[str, Any]


def isolation_writes(job: ResolvedJob, world: World) -> list[Create | Apply]:
    """What is missing, or was changed. Made before any pod of the job.

    The account and the shared policies belong to the namespace and stay: whoever deleted one when the last job that
    needs it ends would open the network of a job that starts just then.
    """
    account = [] if world.has_account else [Create(service_account(job.namespace), shared=True)]
    policy = network_policy(job, world.settings)
    return [*account, *(_policy_writes(policy, world) if policy else [])]


def keep_isolation(job: ResolvedJob, gang: Resource | None, world: World) -> list[Create | Apply]:
    """Of pods that are there, by what their Job recorded: another operator, with other settings, may have made them."""
    recorded = (gang or {}).get("metadata", {}).get("annotations", {}).get(ANNOTATION_NETWORK)
    if recorded is None:
        return isolation_writes(job, world)
    return _policy_writes(policy_with(job, orjson.loads(recorded)), world)


def recorded_label(gang: Resource) -> str | None:
    """By what a shared policy selects the pods of a Job, empty where none does; None where nothing is recorded."""
    recorded = gang["metadata"].get("annotations", {}).get(ANNOTATION_NETWORK)
    return (_shared_label(orjson.loads(recorded)) or "") if recorded else None


def _policy_writes(policy: Resource, world: World) -> list[Create | Apply]:
    shared = _shared_label(policy["spec"]) is not None
    known = (world.policies or {}).get(policy["metadata"]["name"])
    if known is None:
        # The name of a shared one says what it holds: whatever else has it is put right.
        return [Apply(policy)] if shared else [Create(policy)]
    return [] if known["spec"] == policy["spec"] else [Apply(policy)]


def service_account(namespace: str) -> Resource:
    """Nothing is bound to it, and nothing of it is mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": TRAINER_SERVICE_ACCOUNT, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGER}},
        "automountServiceAccountToken": False,
    }


def network_policy(job: ResolvedJob, settings: Settings) -> Resource | None:
    """What pods that are made now need."""
    spec = network_policy_spec(job, settings)
    return None if spec is None else policy_with(job, spec)


def policy_with(job: ResolvedJob, spec: Resource) -> Resource:
    """The gang's own for all attempts of a job, for there is never more than one gang; or one that pods share."""
    metadata: Resource = {"namespace": job.namespace, "labels": {LABEL_MANAGED_BY: MANAGER}}
    if label := _shared_label(spec):
        metadata["name"] = shared_name(label)
    else:
        metadata["name"] = short_name(f"{job.name}-training")
        metadata["labels"] |= {LABEL_JOB: short_name(job.name)}
        metadata["ownerReferences"] = [owner_reference(job.name, job.uid)]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def shared_name(label: str) -> str:
    """Of the policy of all pods with this label."""
    return f"{TRAINER_SERVICE_ACCOUNT}-{label}"


def _shared_label(spec: Resource) -> str | None:
    label = spec["podSelector"]["matchLabels"].get(LABEL_NETWORK)
    return None if label is None else str(label)
