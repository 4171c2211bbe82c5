"""What a ModelDeployment's next step needs of its model's versions, of which there may be thousands."""

import copy
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.conftest import Decodings
from finetune_operator.controllers.serving_caches import ServingCaches
from finetune_operator.plan.model_deployment import Observed, plan_model_deployment
from plan.serving_world import IMAGE, World, version

Resource = dict[str, Any]
NAMES = [f"v{number}" for number in range(7)]
INVALID = {"artifact": {"uri": "s3://m", "digest": "none"}}


def caches_with(versions: list[Resource]) -> ServingCaches:
    caches = ServingCaches.build(None, None)  # type: ignore[arg-type] - nothing is asked for
    for number, one in enumerate(versions):
        item = copy.deepcopy(one)
        item["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(number)}
        caches.versions._take({"type": "ADDED", "object": item})
    return caches


@st.composite
def histories(draw: st.DrawFn) -> list[Resource]:
    """Versions of two models, some unapproved, unreadable or being deleted, some adapters of others."""
    versions = []
    for name in draw(st.permutations(NAMES)):
        spec: Resource = draw(st.sampled_from([{}, {}, {}, INVALID]))
        if base := draw(st.sampled_from([None, None, *NAMES])):
            spec = spec | {"format": "Adapter", "baseModel": {"source": f"modelversion://{base}"}}
        model = draw(st.sampled_from(["tickets", "tickets", "other"]))
        one = version(name, minute=draw(st.integers(0, 3)), approved=draw(st.booleans()), model=model, **spec)
        if draw(st.sampled_from([True, False, False, False])):
            one["metadata"]["deletionTimestamp"] = "2026-11-22T08:30:00Z"
        versions.append(one)
    return versions


@given(
    versions=histories(),
    pin=st.sampled_from([None, None, None, *NAMES]),
    stable=st.sampled_from([None, *NAMES]),
    failed=st.lists(st.sampled_from(NAMES), unique=True, max_size=4),
    outcome=st.sampled_from([World.roll_out, World.get_stuck, None]),
)
@settings(max_examples=80, deadline=None)
def test_the_few_versions_that_are_looked_at_lead_to_the_plan_that_all_would(
    versions: list[Resource], pin: str | None, stable: str | None, failed: list[str], outcome: Any
) -> None:
    world = World(versions)
    world.edit(version=pin)
    world.status = {"stable": stable, "failedVersions": failed} if stable else {}
    caches = caches_with(versions)
    for _ in range(3):
        everything = Observed(versions, world.deployment, world.service, world.pods)
        few = replace(everything, versions=caches.observed(world.resource).versions)
        plan = plan_model_deployment(world.resource, few, world.now, IMAGE)
        assert plan == plan_model_deployment(world.resource, everything, world.now, IMAGE)
        world.step()
        if outcome and world.deployment:
            outcome(world)


def test_a_look_and_an_event_cost_the_same_however_many_versions_there_are(decodings: Decodings) -> None:
    costs = []
    for many in (10, 300):
        adapter = {"format": "Adapter", "baseModel": {"source": "modelversion://v0"}}
        versions = [version("v0"), *(version(f"v{number}", minute=1, **adapter) for number in range(1, many))]
        caches, world = caches_with(versions), World(versions, status={"stable": "v1", "failedVersions": ["v2"]})
        resource = world.resource
        resource["metadata"]["resourceVersion"] = "1"
        caches.model_deployments._take({"type": "ADDED", "object": resource})
        before = decodings.count
        looked_at = {one["metadata"]["name"] for one in caches.observed(resource).versions}
        assert looked_at == {"v0", "v1", "v2", *sorted(f"v{number}" for number in range(3, many))[-2:]}
        assert caches.keys_of_version(versions[0]) == [("ml", "tickets")]
        costs.append(decodings.count - before)
    assert costs[0] == costs[1] == 5
