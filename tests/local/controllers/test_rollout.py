"""Whatever the state of a rollout: never fewer available pods than promised, never more pods than allowed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finetune_local.controllers.rollout import limits, plan_scales

Object = dict[str, Any]


def replica_set(name: str, replicas: int, available: int) -> Object:
    return {"metadata": {"name": name}, "spec": {"replicas": replicas}, "status": {"availableReplicas": available}}


sizes = st.integers(0, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size)))


@given(
    wanted=st.integers(1, 12),
    surge=st.one_of(st.integers(0, 4), st.just("25%")),
    unavailable=st.one_of(st.integers(0, 4), st.just("25%")),
    new=sizes,
    old=st.lists(sizes, max_size=3),
)
def test_one_step_keeps_the_promises(
    wanted: int, surge: int | str, unavailable: int | str, new: tuple[int, int], old: list[tuple[int, int]]
) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    deployment = {"spec": {"replicas": wanted, "strategy": rolling}}
    sets = [replica_set("new", *new), *(replica_set(f"old-{n}", *size) for n, size in enumerate(old))]
    scales = plan_scales(deployment, sets[0], sets[1:])
    most, missing = limits(deployment)
    before = sum(one["spec"]["replicas"] for one in sets)
    after = sum(scales.get(one["metadata"]["name"], one["spec"]["replicas"]) for one in sets)
    assert after <= max(before, wanted + most)
    assert all(replicas >= 0 for replicas in scales.values())
    available = sum(one["status"]["availableReplicas"] for one in sets)
    # At worst every pod that goes is one that was available, but for those that were not even counted as such.
    left = sum(
        min(one["status"]["availableReplicas"], scales.get(one["metadata"]["name"], one["spec"]["replicas"]))
        for one in sets[1:]
    ) + min(sets[0]["status"]["availableReplicas"], scales.get("new", sets[0]["spec"]["replicas"]))
    assert left >= min(available, wanted - missing)


@given(wanted=st.integers(1, 10), old=st.integers(0, 10))
def test_a_healthy_rollout_ends(wanted: int, old: int) -> None:
    deployment: Object = {"spec": {"replicas": wanted}}
    sets = {"new": replica_set("new", 0, 0), "old": replica_set("old", old, old)}
    for _ in range(50):
        scales = plan_scales(deployment, sets["new"], [sets["old"]])
        for name, replicas in scales.items():
            sets[name] = replica_set(name, replicas, replicas)
        if not scales:
            break
    assert sets["new"]["spec"]["replicas"] == wanted
    assert sets["old"]["spec"]["replicas"] == 0
