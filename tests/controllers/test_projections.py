"""What the caches keep of an object is all that a plan reads of it."""

from typing import Any

import pytest

from finetune_operator.controllers.projections import project_job, project_pod
from finetune_operator.plan.observation import AttemptFacts, observe_attempt
from plan.builders import NOW, done_pod, failed_pod, indexed_job, pod

FACTS = [name for name, value in vars(AttemptFacts).items() if isinstance(value, property)]


@pytest.mark.parametrize(
    "pods",
    [
        [pod(0), pod(1, phase="Pending", unschedulable="0/3 nodes are available")],
        [failed_pod(0, 1, "boom")],
        [done_pod(0), pod(1, deleting=NOW, disruption="EvictionByEvictionAPI", reason="Evicted")],
        [],
    ],
    ids=["starting", "one of two failed", "done and evicted", "no pods"],
)
@pytest.mark.parametrize("over", [{}, {"Complete": "x: y"}, {"Suspended": "x: y", "Failed": "PodFailurePolicy: y"}])
def test_a_gang_looks_the_same(pods: list[dict[str, Any]], over: dict[str, str]) -> None:
    gang = indexed_job(**over) | {"spec": {"completions": 2, "parallelism": 2, "suspend": bool(over)}}
    gang["status"]["startTime"] = "2026-11-22T08:59:00Z"
    whole = observe_attempt(1, [gang], pods)
    kept = observe_attempt(1, [project_job(gang)], [project_pod({"apiVersion": "v1"} | one) for one in pods])
    assert kept.pods == whole.pods
    assert {name: getattr(kept, name) for name in FACTS} == {name: getattr(whole, name) for name in FACTS}
