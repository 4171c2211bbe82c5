"""What is asked of the API server by name: nothing for most jobs, and nothing that the next step does not depend on."""

from typing import Any

import pytest

from finetune_operator.plan.lifecycle import plan_job
from finetune_operator.plan.look_ups import LAST_GROUP_SECONDS, questions
from finetune_operator.plan.named_objects import MOST_SECRETS, Named, Question, secret
from plan.builders import condition, created, done_pod, indexed_job, job, message, pod, reasons, snapshot_of, world
from plan.story import Story

Resource = dict[str, Any]
V1BETA1 = "kueue.x-k8s.io/v1beta1"
KUEUE = frozenset({"kueue.x-k8s.io", V1BETA1})
QUEUE = Named(V1BETA1, "LocalQueue", "team-a")
VOLCANO = frozenset({"scheduling.volcano.sh", "scheduling.volcano.sh/v1beta1"})
GROUP = Named("scheduling.volcano.sh/v1beta1", "PodGroup", "tickets")
SECRETIVE = {"credentials": {"secretName": "s3"}}
GANGS = {"spec": {"scheduler": "Volcano"}}
STARTED = {
    "status": {"attempt": 1, "attempts": [{"number": 1, "cause": "", "nodes": 2, "plannedAt": "2026-11-22T09:00:00Z"}]}
}


def asked(item: Resource, *, jobs: list[Resource] | None = None, **around: Any) -> list[Named]:
    return [one.about for one in questions(world(item, jobs, **around))]


def test_a_job_that_names_nothing_is_asked_nothing() -> None:
    assert asked(job(), api_groups=KUEUE) == []


@pytest.mark.parametrize(
    ("changes", "around", "wanted"),
    [
        (SECRETIVE, {}, [secret("s3")]),
        (SECRETIVE | {"queueName": "team-a"}, {"api_groups": KUEUE}, [secret("s3"), QUEUE]),
        ({"queueName": "team-a"}, {"api_groups": frozenset({"kueue.x-k8s.io"})}, []),
        ({"queueName": "team-a"}, {}, []),
        ({"runtimeRef": {"name": "r"}, "queueName": "team-a"}, {"api_groups": VOLCANO, "runtime": GANGS}, []),
        ({"runtimeRef": {"name": "r"}}, {"runtime": {"spec": SECRETIVE}}, [secret("s3")]),
        ({"runtimeRef": {"name": "r"}} | SECRETIVE, {}, [secret("s3")]),
        (SECRETIVE | {"task": "Cooking"}, {}, []),
    ],
    ids=[
        "credentials",
        "a queue",
        "a Kueue in versions that are not known",
        "APIs that are not known",
        "a queue of Volcano",
        "the runtime names it",
        "the runtime is not there",
        "the job is wrong",
    ],
)
def test_before_the_start_what_the_job_needs(changes: Resource, around: Resource, wanted: list[Named]) -> None:
    assert asked(job(**changes), **around) == wanted


def test_of_a_job_that_names_very_many_secrets_some_are_asked_for() -> None:
    """Nobody can have the operator send hundreds of requests every few seconds."""
    env = [{"name": f"A{n}", "valueFrom": {"secretKeyRef": {"name": f"s{n}", "key": "k"}}} for n in range(500)]
    template = {"spec": {"containers": [{"name": "trainer", "env": env}]}}
    assert asked(job(podTemplate=template)) == [secret(f"s{n}") for n in range(MOST_SECRETS)]


@pytest.mark.parametrize(
    "status",
    [{"attempt": 1}, {"conditions": [{"type": "Failed", "status": "True"}]}],
    ids=["started", "finished"],
)
def test_what_has_started_or_finished_needs_no_secret(status: Resource) -> None:
    assert asked(job(**SECRETIVE) | {"status": status}) == []


def queued(*, suspend: bool) -> Resource:
    held = indexed_job()
    held["spec"]["suspend"] = suspend
    return held


def test_a_gang_that_a_queue_holds_depends_on_it() -> None:
    item = job(queueName="team-a", **SECRETIVE)
    gang = {"snapshot": snapshot_of(item), "api_groups": KUEUE}
    assert asked(item | STARTED, jobs=[queued(suspend=True)], **gang) == [QUEUE]
    assert asked(item | STARTED, jobs=[queued(suspend=False)], **gang) == []


def test_a_queue_that_is_deleted_while_a_gang_waits_in_it_is_told() -> None:
    story = Story({"api_groups": KUEUE}, queueName="team-a")
    story.step()
    assert condition(story.step([queued(suspend=True)]), "Admitted") == ("False", "Queued")
    plan = story.step([queued(suspend=True)], absent=frozenset({QUEUE}), look_again=4.0)
    assert condition(plan, "Admitted") == ("False", "QueueNotFound")
    assert "no LocalQueue 'team-a' in namespace ml any more; create it" in message(plan, "Admitted")
    assert (plan.requeue_after, reasons(plan)) == (4.0, ["QueueNotFound"])
    assert reasons(story.step([queued(suspend=True)], absent=frozenset({QUEUE}))) == []
    assert condition(story.step([queued(suspend=True)]), "Admitted") == ("False", "Queued")


def gang(phase: str, after: float, **around: Any) -> Any:
    item = job(runtimeRef={"name": "r"})
    snapshot = snapshot_of(item, GANGS["spec"])
    pods = [pod(rank, phase=phase) for rank in (0, 1)]
    known = {"snapshot": snapshot, "api_groups": VOLCANO} | around
    return world(item | STARTED, [indexed_job()], pods, after, **known)


def test_the_group_of_a_gang_is_looked_for_often_at_first() -> None:
    times = [questions(gang("Pending", after))[0].fresh_seconds for after in (10, 1000, 86400)]
    assert times == [60.0, 250.0, LAST_GROUP_SECONDS]
    assert questions(gang("Running", 10)) == (Question(GROUP, LAST_GROUP_SECONDS, kept=True),)
    assert questions(gang("Pending", 10, api_groups=frozenset({"batch"}))) == ()


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_a_group_that_is_gone_is_made_again(phase: str) -> None:
    parts = tuple({"kind": kind, "metadata": {"name": "tickets-1"}} for kind in ("Service", "ConfigMap"))
    assert created(plan_job(gang(phase, 10, parts=parts))) == []
    plan = plan_job(gang(phase, 10, parts=parts, absent=frozenset({GROUP})))
    assert created(plan) == ["PodGroup/tickets"]


def test_a_gang_that_is_over_needs_no_group() -> None:
    item = job(runtimeRef={"name": "r"})
    over = world(
        item | STARTED,
        [indexed_job(Complete="x: y")],
        [done_pod(0), done_pod(1)],
        snapshot=snapshot_of(item, GANGS["spec"]),
        api_groups=VOLCANO,
    )
    assert questions(over) == ()
