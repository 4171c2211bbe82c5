"""What is worth asking the API server for by name, as the next step of a job depends on it and nobody watches it."""

from typing import Any

from finetune_operator.plan.attempt import scheduling_objects
from finetune_operator.plan.basis import Basis, basis
from finetune_operator.plan.conditions import is_true
from finetune_operator.plan.named_objects import MOST_SECRETS, Named, Question, named, secret
from finetune_operator.plan.observation import AttemptFacts
from finetune_operator.plan.queueing import is_held
from finetune_operator.plan.references import Surroundings, missing_runtime
from finetune_operator.plan.scheduler_choice import local_queue, queue_of, scheduler_of
from finetune_operator.plan.secret_references import named_secrets
from finetune_operator.plan.timestamps import seconds_between
from finetune_operator.plan.validation import InvalidSpec, validate
from finetune_operator.plan.world import World
from finetune_operator.schedulers.registry import SCHEDULERS

Resource = dict[str, Any]
NAMING = ("credentials", "podTemplate", "queueName")
"""Fields that lead to such objects, of jobs and of runtimes."""
FIRST_GROUP_SECONDS, LAST_GROUP_SECONDS = 60.0, 600.0
"""Between two looks for the group of a gang that waits for its place: soon at first. Of one that runs: the latter."""


def questions(world: World) -> tuple[Question, ...]:
    """None for most: before the start for what the pods will need, afterwards for what the gang waits in."""
    status = world.job.get("status") or {}
    if any(is_true(status.get("conditions"), done) for done in ("Succeeded", "Failed")):
        return ()
    if world.snapshot is not None:
        return _of_gang(world, world.facts(int(status.get("attempt", 0))))
    return () if status.get("attempt") else before_start(world.job["spec"], world.around)


def before_start(spec: Resource, around: Surroundings) -> tuple[Question, ...]:
    """Of a job that has not started, where its spec and its runtime are right in themselves."""
    absent = missing_runtime(spec, around)
    runtime = around.runtime["spec"] if spec.get("runtimeRef") and around.runtime else None
    if not _names_any(spec) and not _names_any(runtime or {}):
        return ()
    try:
        valid = validate(spec, runtime, complete=not absent)
    except InvalidSpec:
        return ()
    secrets = [secret(name) for _, name in named_secrets(valid.spec, valid.runtime)][:MOST_SECRETS]
    scheduler = scheduler_of(valid.spec, valid.runtime)
    queue = local_queue(scheduler, queue_of(valid.spec, valid.runtime), around.api_groups)
    return tuple(Question(one) for one in (*secrets, *((queue,) if queue else ())))


def _names_any(spec: Resource) -> bool:
    return any(spec.get(field) for field in NAMING)


def _of_gang(world: World, facts: AttemptFacts) -> tuple[Question, ...]:
    snapshot, placed = world.snapshot, ("scheduler", "queueName")
    if snapshot is None or not any(
        one.get(field) for one in (snapshot.spec, snapshot.runtime or {}) for field in placed
    ):
        return ()
    if facts.job is None or facts.stopping or facts.complete or facts.failing:
        return ()
    try:
        base = basis(world)
    except InvalidSpec:
        return ()
    if is_held(facts.job):
        queue = local_queue(base.job.scheduler, base.job.queue, base.job.served)
        return (Question(queue),) if queue else ()
    return tuple(Question(group, _patience(world, base, facts), kept=True) for group in _groups(base))


def _groups(base: Basis) -> list[Named]:
    """The objects by which its scheduler knows the gang, where the cluster serves them."""
    apis, served = SCHEDULERS[base.job.scheduler].apis, base.job.served
    if served is None or not served.intersection(apis):
        return []
    return [named(body) for body in scheduling_objects(base.job)]


def _patience(world: World, base: Basis, facts: AttemptFacts) -> float:
    created = (facts.job or {}).get("metadata", {}).get("creationTimestamp")
    if facts.running(base.job.spec.distributed.nodes) or not created:
        return LAST_GROUP_SECONDS
    return min(max(FIRST_GROUP_SECONDS, seconds_between(created, world.now) / 4), LAST_GROUP_SECONDS)
