"""Whether the ResourceQuotas of a namespace leave room for a gang.

Only ever a warning: quotas and what uses them change while a job waits, and limit ranges may add to its pods. What the
API server then really refuses is shown by the condition Running.
https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.training_runtime import TrainingRuntimeSpec
from finetune_operator.kube.quantities import parse_quantity

Resource = dict[str, Any]
COMPUTE = ("cpu", "memory", "ephemeral-storage")
"""Quotas may name their requests without the prefix, and demand that every pod says how much it wants."""


def quota_warnings(
    job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None, quotas: Sequence[Resource] | None
) -> list[str]:
    """A line for each limit that the gang would run into; None: the quotas are not known."""
    demand = gang_demand(job, runtime)
    return [
        warning
        for quota in quotas or ()
        if not _selects(quota)
        for warning in _conflicts(quota, demand, job.distributed.nodes)
    ]


def gang_demand(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> dict[str, Decimal]:
    """What all pods together ask for, by the names that quotas have for it. Requests default to the limits."""
    nodes = job.distributed.nodes
    demand = {"pods": Decimal(nodes), "count/pods": Decimal(nodes), "count/jobs.batch": Decimal(1)}
    resources = job.resources or (runtime.resources if runtime else None)
    if resources is None:
        return demand
    limits = resources.limits or {}
    for name, amount in {**limits, **(resources.requests or {})}.items():
        demand[f"requests.{name}"] = nodes * parse_quantity(amount)
        if name in COMPUTE:
            demand[name] = demand[f"requests.{name}"]
    demand |= {f"limits.{name}": nodes * parse_quantity(amount) for name, amount in limits.items()}
    return demand


def _conflicts(quota: Resource, demand: dict[str, Decimal], nodes: int) -> Iterator[str]:
    name, status = quota["metadata"]["name"], quota.get("status") or {}
    # The status says what is enforced; one that was just made has none yet.
    enforced = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
    for resource, limit in enforced.items():
        hard, used = parse_quantity(limit), parse_quantity((status.get("used") or {}).get(resource, 0))
        wanted = demand.get(resource)
        if wanted is None:
            if _must_be_said(resource):
                yield f"spec.resources: ResourceQuota {name!r} wants every pod to say {_field(resource)}; set it"
        elif wanted > hard:
            yield f"{_what(resource, wanted, nodes)}; ResourceQuota {name!r} allows {hard:f} in all: it can never start"
        elif wanted > hard - used:
            left = max(hard - used, Decimal(0))
            yield f"{_what(resource, wanted, nodes)}; ResourceQuota {name!r} has {left:f} of {hard:f} left: it waits"


def _what(resource: str, wanted: Decimal, nodes: int) -> str:
    field = "spec.distributed.nodes" if resource in ("pods", "count/pods") else "spec.resources"
    return f"{field}: the {nodes} pods need {wanted:f} of {resource}"


def _must_be_said(resource: str) -> bool:
    """The API server refuses pods that leave out what a quota limits, if it is compute."""
    return resource.removeprefix("requests.").removeprefix("limits.") in COMPUTE[:2]


def _field(resource: str) -> str:
    return resource if "." in resource else f"requests.{resource}"


def _selects(quota: Resource) -> bool:
    """It counts some pods only, and whether these are among them is the API server's to say."""
    spec = quota.get("spec") or {}
    return bool(spec.get("scopes") or spec.get("scopeSelector"))
