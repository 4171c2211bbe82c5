"""Jobs on their way, and the gangs that they have."""

from typing import Any

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.world import Plan
from plan.builders import (
    failed_pod,
    follow,
    indexed_job,
    job,
    pod,
    snapshot_of,
    world,
)

OBJECTS = ["ConfigMap/tickets-{0}", "Service/tickets-{0}", "Job/tickets-{0}"]
GANG = [pod(0), pod(1)]


def objects_of(number: int) -> list[str]:
    return [name.format(number) for name in OBJECTS]


def started(**changes: Any) -> dict:
    """A job whose first attempt was announced."""
    fresh = job(**changes)
    return follow(fresh, plan_job(world(fresh, runtime={"spec": {}})))


def step(item: dict, jobs: list | None = None, pods: list | None = None, after: float = 10, **more: Any) -> Plan:
    more.setdefault("snapshot", snapshot_of(item))
    more.setdefault("parts", parts(item["status"]["attempt"]) if jobs else ())
    return plan_job(world(item, jobs, pods, after, **more))


def running(**changes: Any) -> dict:
    """A job whose gang runs."""
    item = started(**changes)
    return follow(item, step(item, [indexed_job()], GANG, after=5))


def parts(number: int) -> tuple[dict, ...]:
    return tuple(
        {"kind": kind, "metadata": {"name": f"tickets-{number}", "uid": f"{kind}-{number}"}}
        for kind in ("Service", "ConfigMap")
    )


def restarting(**changes: Any) -> dict:
    """A job whose gang has crashed, before the next one."""
    item = running(**changes)
    crashed = [failed_pod(0, 1, "x"), failed_pod(1, 1, "y")]
    return follow(item, step(item, [indexed_job(Failed="BackoffLimitExceeded: x")], crashed, after=10))
