"""To whom everything belongs that the operator may make. Its rights say what that is: the list cannot fall behind."""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

from finetune_api.names import LABEL_JOB, TRAINER_SERVICE_ACCOUNT
from finetune_operator.cli.local_installation import RIGHTS, manifests
from finetune_operator.options import LEASE

Resource = dict[str, Any]
Key = tuple[str, str]
"""API group and plural."""
FINE_TUNE_JOB, MODEL_VERSION = ("finetune-operator.io", "finetunejobs"), ("finetune-operator.io", "modelversions")
MODEL_DEPLOYMENT = ("finetune-operator.io", "modeldeployments")
BATCH_JOB, POD, REPLICA_SET = ("batch", "jobs"), ("", "pods"), ("apps", "replicasets")
ACCOUNT, POLICY = ("", "serviceaccounts"), ("networking.k8s.io", "networkpolicies")
LEASES = ("coordination.k8s.io", "leases")
NO_OBJECTS = {("authentication.k8s.io", "tokenreviews"), ("events.k8s.io", "events")}
"""A question, and what the API server forgets by itself."""
OF_CONTROLLERS = {POD, REPLICA_SET}
"""What Kubernetes makes of Jobs and Deployments."""
STANDARD = {("", "configmaps", "kube-root-ca.crt"), (*ACCOUNT, "default")}
"""What every namespace has."""


class Belongs(Enum):
    """Who an object goes with."""

    TO_AN_OWNER = auto()
    TO_A_GANG_OR_ITS_NAMESPACE = auto()
    """NetworkPolicies: of one job, or shared by all pods of the namespace that may reach the same."""
    TO_ITS_NAMESPACE = auto()
    """One, by its name."""
    TO_THE_USER = auto()
    """It outlives the job that it came from, until a person deletes it."""


RULES: dict[Key, Belongs] = {
    BATCH_JOB: Belongs.TO_AN_OWNER,
    POD: Belongs.TO_AN_OWNER,
    ("apps", "deployments"): Belongs.TO_AN_OWNER,
    REPLICA_SET: Belongs.TO_AN_OWNER,
    ("", "services"): Belongs.TO_AN_OWNER,
    ("", "configmaps"): Belongs.TO_AN_OWNER,
    ("scheduling.volcano.sh", "podgroups"): Belongs.TO_AN_OWNER,
    ("scheduling.x-k8s.io", "podgroups"): Belongs.TO_AN_OWNER,
    ("scheduling.k8s.io", "podgroups"): Belongs.TO_AN_OWNER,
    POLICY: Belongs.TO_A_GANG_OR_ITS_NAMESPACE,
    ACCOUNT: Belongs.TO_ITS_NAMESPACE,
    LEASES: Belongs.TO_ITS_NAMESPACE,
    MODEL_VERSION: Belongs.TO_THE_USER,
    MODEL_DEPLOYMENT: Belongs.TO_THE_USER,
}
NAMES = {ACCOUNT: TRAINER_SERVICE_ACCOUNT, LEASES: LEASE}


def may_create() -> set[Key]:
    """What the chart lets the operator create, wherever it works."""
    return {
        (group, resource)
        for namespaces in ((), ("ml",))
        for role in manifests(RIGHTS, namespaces)
        for rule in role.get("rules", ())
        if "create" in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def controller(item: Resource) -> Resource | None:
    """The owner with which it goes."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def misplaced(key: Key, item: Resource) -> Iterator[str]:
    """What is wrong with where a new object belongs."""
    metadata = item["metadata"]
    owner, name = controller(item), metadata["name"]
    match RULES[key]:
        case Belongs.TO_AN_OWNER if owner is None:
            yield "nobody owns it"
        case Belongs.TO_A_GANG_OR_ITS_NAMESPACE if owner is None:
            if LABEL_JOB in (metadata.get("labels") or {}) or not name.startswith(TRAINER_SERVICE_ACCOUNT):
                yield "nobody owns it, and it is not shared"
        case Belongs.TO_ITS_NAMESPACE if name != NAMES[key]:
            yield f"of these a namespace has one, {NAMES[key]}"
        case Belongs.TO_THE_USER if metadata.get("ownerReferences"):
            yield "it would go with its owner"


def goes_with_its_owner(key: Key, item: Resource) -> bool:
    """Whether it must be gone once all jobs and deployments are."""
    if RULES[key] is Belongs.TO_A_GANG_OR_ITS_NAMESPACE:
        return controller(item) is not None
    return RULES[key] is Belongs.TO_AN_OWNER
