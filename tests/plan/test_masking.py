"""What the cluster says of pods is shown without secrets: the operator, which knows none of them, goes by form."""

import json
from typing import Any

import pytest

from finetune_operator.plan.evidence import Evidence, event_facts
from finetune_operator.plan.lifecycle import plan_job
from plan.builders import NOW, failed_pod, follow, indexed_job, job, last_words, pod, rfc3339, snapshot_of, world

Resource = dict[str, Any]
SAID = "the proxy said: password=hunter2-planted"
STACK = json.dumps(
    {"outcome": "Hang", "message": "no step", "rank": 0, "stacks": [{"rank": 0, "text": f"x.py:3 {SAID}"}]}
)


def told(rank: int = 0, **status: Any) -> Resource:
    """A pod with this in its status."""
    item = pod(rank, phase=status.pop("phase", "Pending"))
    item["status"] |= status
    return item


def disrupted(reason: str) -> Resource:
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": SAID}
    return told(phase="Failed", conditions=[disruption])


WAITING = {
    "containerStatuses": [{"name": "trainer", "state": {"waiting": {"reason": "ErrImagePull", "message": SAID}}}]
}
UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": SAID}
EVENT = {
    "reason": "FailedCreate",
    "message": SAID,
    "involvedObject": {"kind": "Job", "name": "tickets-1"},
    "lastTimestamp": rfc3339(NOW),
}


@pytest.mark.parametrize(
    ("given", "pods"),
    [
        ({}, [failed_pod(0, 1, SAID)]),
        ({}, [failed_pod(0, 1, last_words("Crash", SAID))]),
        ({}, [failed_pod(0, 76, STACK)]),
        ({}, [told(**WAITING)]),
        ({}, [told(conditions=[UNPLACED])]),
        ({}, [disrupted("PreemptionByScheduler")]),
        ({}, [told(phase="Failed", reason="Evicted", message=SAID)]),
        ({}, [told(phase="Failed", reason="UnexpectedAdmissionError", message=SAID)]),
        ({"Failed": f"BackoffLimitExceeded: {SAID}"}, []),
        ({}, []),
    ],
    ids=["log", "words", "stacks", "waiting", "placing", "disruption", "eviction", "kubelet", "job", "event"],
)
def test_no_secret_of_a_form_that_is_known_reaches_the_status_or_an_event(
    given: Resource, pods: list[Resource]
) -> None:
    item = job()
    item = follow(item, plan_job(world(item)))
    evidence = {} if given or pods else {"evidence": Evidence({}, (event_facts(EVENT),))}
    shown = ""
    for after in (60, 200):
        plan = plan_job(world(item, [indexed_job(**given)], pods, after, snapshot=snapshot_of(item), **evidence))
        item = follow(item, plan)
        shown += json.dumps(plan.status) + str(plan.events)
    assert "the proxy said: password=[redacted]" in shown
    assert "hunter2" not in shown
