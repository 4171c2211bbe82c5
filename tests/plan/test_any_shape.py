"""Objects of any shape get a verdict: the defaulting webhook sees them before the API server has checked the schema."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from finetune_operator.plan.admission import Decision, decide, default_patch
from finetune_operator.plan.lifecycle import plan_job
from plan.builders import created, job, message, world
from plan.test_admission import Known, request

Resource = dict[str, Any]
Path = tuple[str | int, ...]
TEMPLATE = {
    "metadata": {"labels": {"team": "a"}},
    "spec": {
        "priorityClassName": "batch",
        "tolerations": [{"key": "gpu"}],
        "containers": [{"name": "trainer", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}],
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
    },
}
JOB = job(
    runtimeRef={"name": "gpu"},
    podTemplate=TEMPLATE,
    distributed={"nodes": 2, "elastic": {"minNodes": 1}},
    evaluation={"gate": [{"metric": "f1", "operator": ">=", "value": 0.8}]},
    publish={"modelName": "m"},
    deploy={"name": "m", "template": {"replicas": 1}},
    resources={"limits": {"memory": "1Gi"}},
    credentials={"secretName": "s3"},
)
DEPLOYMENT = {"metadata": {"name": "m"}, "spec": {"modelName": "m", "podTemplate": {"spec": {"containers": []}}}}
SHAPES: tuple[Any, ...] = ([], [[]], {}, True, 2**70)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        yield from places(inner, (*path, name))


def with_other(body: Resource, path: Path, value: Any) -> Resource:
    changed = copy.deepcopy(body)
    holder: Any = changed["spec"] if path else changed
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1] if path else "spec"] = value
    return changed


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
@pytest.mark.parametrize(("kind", "body"), [("FineTuneJob", JOB), ("ModelDeployment", DEPLOYMENT)])
def test_no_shape_of_a_field_keeps_an_object_from_its_verdict(kind: str, body: Resource, shape: Any) -> None:
    for path in places(body["spec"]):
        asked = request(with_other(body, path, shape), kind=kind)
        assert isinstance(decide(asked, Known()), Decision), path
        assert isinstance(default_patch(asked), list), path
        decide(asked | {"oldObject": body}, Known(snapshot=body["spec"]))
    decision = decide(request(with_other(body, (), shape), kind=kind), Known())
    assert decision.errors
    assert all(error.startswith("spec") for error in decision.errors)


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_no_shape_of_a_template_which_the_crd_leaves_open_keeps_a_job_from_an_answer(shape: Any) -> None:
    """Without webhooks: it starts, and what is wrong for the API server is that one's to say, or it is refused."""
    only = job(podTemplate=TEMPLATE)
    for path in places(TEMPLATE, ("podTemplate",)):
        plan = plan_job(world(with_other(only, path, shape)))
        assert created(plan) or message(plan, "Failed").startswith("spec"), path
