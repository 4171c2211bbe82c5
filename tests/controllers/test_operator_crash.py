"""The operator dies between any two writes, and a new one with fresh caches comes to the same end."""

import asyncio
import contextlib
from typing import Any

import pytest

from controllers.cluster_user import NAMESPACE, ClusterUser, eventually
from controllers.operator_under_test import OperatorUnderTest
from finetune_local.cluster import Cluster
from finetune_operator.kinds import FINE_TUNE_JOBS, MODEL_DEPLOYMENTS, MODEL_VERSIONS
from finetune_operator.kube.resources import CONFIG_MAPS, JOBS, PODS, SERVICES
from plan.builders import last_words

SPEC = {"publish": {"modelName": "tickets"}, "deploy": {"name": "tickets"}}
WRITES_OF_THE_STORY = 16
"""A start, a crash of a rank, a restart, a success with publication: every write of it, and some to spare."""


class Story:
    """What the cluster does to the job, whoever operates it."""

    def __init__(self, user: ClusterUser) -> None:
        self.user = user
        self.done = asyncio.Event()
        self.gangs: list[str] = []

    async def play(self) -> None:
        await self.user.apply(**SPEC)
        await self._running(1)
        pods = await self.user.pods(1)
        await self.user.end_pod(pods[1], 1, last_words("Crash", "device lost", 1))
        await self._running(2)
        await self.user.finish_gang(2)
        await self.user.phase("Succeeded")
        self.done.set()

    async def _running(self, attempt: int) -> None:
        """The pods run; the operator may be dead and not have seen it."""

        async def gang() -> bool:
            pods = await self.user.pods(attempt)
            return len(pods) == 2 and all((p.get("status") or {}).get("phase") == "Running" for p in pods)

        await eventually(gang, f"gang {attempt}", self.user.dump)


async def end_state(user: ClusterUser) -> dict[str, Any]:
    status = (await user.job())["status"]
    return {
        "phase": status["phase"],
        "attempts": [(a["number"], a["cause"], a.get("rank")) for a in status["attempts"]],
        "restarts": status["restarts"],
        "conditions": sorted((c["type"], c["status"]) for c in status["conditions"]),
        "version": status["modelVersion"],
        "children": [
            await user.names(kind) for kind in (JOBS, SERVICES, CONFIG_MAPS, MODEL_VERSIONS, MODEL_DEPLOYMENTS)
        ],
    }


EXPECTED = {
    "phase": "Succeeded",
    "attempts": [(1, "Crash", 1), (2, "Succeeded", None)],
    "restarts": {"total": 1, "byCause": {"Crash": 1}},
    "version": "tickets-ab12",
    "children": [["tickets-2"], ["tickets-2"], ["tickets-1", "tickets-2"], ["tickets-ab12"], ["tickets"]],
}


async def operate(cluster: Cluster, story: Story, die_after: int) -> bool:
    """One operator that dies after so many writes, then one that lives. Whether the first one died."""
    async with OperatorUnderTest(cluster.kubeconfig, die_after) as first:
        waits = [asyncio.ensure_future(first.api.dead.wait()), asyncio.ensure_future(story.done.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    if story.done.is_set():
        return False
    async with OperatorUnderTest(cluster.kubeconfig):
        await story.done.wait()
    return True


@pytest.mark.parametrize("die_after", range(1, WRITES_OF_THE_STORY + 1))
async def test_a_death_after_any_write_changes_nothing_in_the_end(
    cluster: Cluster, user: ClusterUser, die_after: int
) -> None:
    story = Story(user)
    playing = asyncio.create_task(story.play())
    operating = asyncio.create_task(operate(cluster, story, die_after))
    await asyncio.wait([playing, operating], return_when=asyncio.FIRST_EXCEPTION)
    if playing.done() and playing.exception():
        operating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await operating
    await playing
    await operating
    state = await end_state(user)
    conditions = dict(state.pop("conditions"))
    assert state == EXPECTED
    assert (conditions["Succeeded"], conditions["Running"], conditions["Published"]) == ("True", "False", "True")


async def test_the_story_has_no_more_writes_than_are_tested(cluster: Cluster, user: ClusterUser) -> None:
    story = Story(user)
    playing = asyncio.create_task(story.play())
    assert await operate(cluster, story, WRITES_OF_THE_STORY + 10) is False
    await playing


async def test_a_finished_job_never_runs_again(cluster: Cluster, user: ClusterUser) -> None:
    """Its children vanish, and the operator starts afresh, and the job is touched."""
    async with OperatorUnderTest(cluster.kubeconfig):
        await user.apply()
        await user.phase("Running")
        await user.finish_gang()
        finished = await user.phase("Succeeded")
    for kind in (JOBS, SERVICES, CONFIG_MAPS):
        await user.api.delete(kind, "tickets-1", NAMESPACE)
        await user.gone(kind, "tickets-1")
    async with OperatorUnderTest(cluster.kubeconfig) as second:
        await user.edit(training={"epochs": 9}, suspend=False)
        await user.observed(2)
        await user.apply("other")
        await user.phase("Running", "other")
        assert await user.names(JOBS) == ["other-1"]
        assert second.api.requests["delete"] == 0
    after = await user.job()
    assert after["status"]["attempts"] == finished["status"]["attempts"]
    assert after["status"]["phase"] == "Succeeded"


async def test_a_new_leader_whose_cache_lags_starts_nothing(cluster: Cluster, user: ClusterUser) -> None:
    """Its cache still shows the announced attempt, the job has long finished, and the children are gone."""
    async with OperatorUnderTest(cluster.kubeconfig):
        await user.apply()

        async def announced() -> dict[str, Any] | None:
            job = await user.job()
            return job if (job.get("status") or {}).get("attempt") == 1 else None

        stale = await eventually(announced, "attempt 1", user.dump)
        await user.phase("Running")
        await user.finish_gang()
        await user.phase("Succeeded")
        await user.api.delete(JOBS, "tickets-1", NAMESPACE)
        await user.gone(JOBS, "tickets-1")

    async with OperatorUnderTest(cluster.kubeconfig) as lagging:
        store = lagging.caches.fine_tune_jobs._store
        status = dict(stale["status"].items())
        status["attempts"] = [{k: v for k, v in status["attempts"][0].items() if k != "startedAt"}]
        store.put({**stale, "status": status})
        key = (NAMESPACE, "tickets")
        made = lagging.api.requests["create"]
        lagging.controller.queue.add(key)

        async def looked() -> bool:
            return lagging.api.requests["get"] > 0

        await eventually(looked, "a look at the live job", user.dump)
        assert lagging.api.requests["create"] == made == 0
    assert await user.names(JOBS) == []
    assert await user.names(PODS) == []
    assert (await user.api.get(FINE_TUNE_JOBS, "tickets", NAMESPACE))["status"]["phase"] == "Succeeded"
