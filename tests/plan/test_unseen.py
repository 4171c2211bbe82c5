"""Decisions that rest on what the caches do not show are marked: the live objects decide."""

from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.timestamps import rfc3339
from plan.builders import NOW, done_pod, failed_pod, indexed_job, pod
from plan.story import Story
from plan.test_elastic import elastic_job, shrunk

LATE = timedelta(seconds=600)
PENDING = [pod(rank, phase="Pending") for rank in (0, 1)]
GANG = [pod(0), pod(1)]
GOING = [pod(rank, deleting=NOW + LATE) for rank in (0, 1)]
CRASHED = [pod(0), failed_pod(1, 1, "boom")]


def over(**conditions: str) -> dict[str, Any]:
    job = indexed_job(**conditions)
    for one in job["status"]["conditions"]:
        one["lastTransitionTime"] = rfc3339(NOW)
    return job


def running(**changes: Any) -> Story:
    story = Story(**changes)
    story.step()
    story.step([indexed_job()], GANG)
    return story


@pytest.mark.parametrize(
    ("jobs", "pods", "changes"),
    [
        ([], GANG, {}),
        ([over(Complete="x: y")], GANG, {}),
        ([over(Complete="x: y")], [pod(0), done_pod(1)], {}),
        ([over(Failed="x: y")], GANG, {}),
        ([over(Failed="x: y")], [], {}),
        ([indexed_job()], GANG, {"activeDeadlineSeconds": 60}),
        ([indexed_job()], GANG, {"suspend": True}),
    ],
    ids=[
        "the Job is missing",
        "no pod has its result",
        "pod 0 has not ended",
        "no pod failed",
        "the pods are missing",
        "the completion in time is missing",
        "the completion before the suspension is missing",
    ],
)
def test_an_attempt_that_ends_though_nothing_is_seen_to_have_ended(
    jobs: list[dict[str, Any]], pods: list[dict[str, Any]], changes: dict[str, Any]
) -> None:
    story = running()
    story.item["spec"] |= changes
    plan = story.step(jobs, pods, seconds=LATE.seconds)
    assert plan.status["attempts"][-1]["endedAt"]
    assert plan.unseen


def test_pods_that_are_not_seen_to_start() -> None:
    story = Story(startDeadlineSeconds=60)
    story.step()
    assert not story.step([indexed_job()], PENDING).unseen
    plan = story.step([indexed_job()], PENDING, seconds=60)
    assert (plan.status["attempts"][-1]["cause"], plan.unseen) == ("StartDeadlineExceeded", True)
    smaller = shrunk(elastic_job(), 2)
    assert (smaller.status["attempts"][-1]["cause"], smaller.unseen) == ("Resized", True)


def test_the_next_gang_is_made_once_nothing_of_the_one_before_is_seen() -> None:
    story = Story(failurePolicy={"backoffSeconds": 0})
    assert not story.step().unseen, "there was none before the first"
    story.step([indexed_job()], GANG)
    ended = story.step([indexed_job(Failed="x: y")], CRASHED, seconds=20)
    assert ended.status["attempts"][-1]["endedAt"]
    assert not story.step([], GOING).unseen
    assert story.step([], []).unseen


def test_a_job_that_started_and_whose_snapshot_is_missing() -> None:
    story = running()
    assert story.step([indexed_job()], GANG, snapshot=None).unseen
    assert not story.step([indexed_job()], GANG, snapshot=None, snapshot_lost=True).unseen


@pytest.mark.parametrize(
    ("jobs", "pods"),
    [
        ([over(Complete="x: y")], [done_pod(0), done_pod(1)]),
        ([over(Failed="x: y")], CRASHED),
        ([], GOING),
        ([indexed_job()], GANG),
    ],
    ids=["a result", "a failed pod", "pods that are being deleted with their Job", "nothing ends"],
)
def test_what_is_seen_needs_no_second_look(jobs: list[dict[str, Any]], pods: list[dict[str, Any]]) -> None:
    assert not running().step(jobs, pods, seconds=LATE.seconds).unseen
