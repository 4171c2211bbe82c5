"""What an attempt is made from: the job as it was when it started, over its runtime as it was then."""

from dataclasses import dataclass, replace
from typing import Any

from finetune_api.distributed import Distributed
from finetune_api.fine_tune_job import MUTABLE_AFTER_START
from finetune_operator.plan.attempt import Snapshot
from finetune_operator.plan.references import Missing
from finetune_operator.plan.resolution import ResolvedJob, resolve
from finetune_operator.plan.validation import InvalidSpec, examine, validate
from finetune_operator.plan.verdict import judge
from finetune_operator.plan.world import World


class NotYet(Exception):
    """Things that the job refers to do not exist yet."""

    def __init__(self, missing: tuple[Missing, ...]) -> None:
        super().__init__("\n".join(one.message for one in missing))
        self.reason = missing[0].reason


@dataclass(frozen=True)
class Basis:
    """Everything from which the objects of an attempt follow."""

    job: ResolvedJob
    """On as many nodes as the current attempt has."""
    snapshot: Snapshot
    asked: Distributed
    """As the job says it, elastic or not."""
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    """Of a job that has started: why this operator, perhaps a newer one, would not let it start."""

    def on(self, nodes: int) -> "Basis":
        """For an attempt on so many nodes."""
        if self.asked.elastic is None:
            return self
        spec = self.job.spec.model_copy(update={"distributed": self.asked.of(nodes)})
        return replace(self, job=replace(self.job, spec=spec))


def basis(world: World) -> Basis:
    """From the snapshot once there is one. Before the first start it raises InvalidSpec, or NotYet."""
    snapshot = world.snapshot
    warnings: tuple[str, ...] = ()
    judged = examine
    if snapshot is None:
        snapshot, warnings = _take_snapshot(world)
        judged = validate
    valid = judged(started_spec(snapshot.spec, world.job["spec"]), snapshot.runtime)
    name, namespace, uid = (world.job["metadata"][field] for field in ("name", "namespace", "uid"))
    job = resolve(
        name, namespace, uid, valid, tuple(snapshot.artifacts.items()), world.settings, world.around.api_groups
    )
    made = Basis(job, snapshot, job.spec.distributed, warnings, valid.errors)
    return made.on((world.job.get("status") or {}).get("nodes") or job.spec.distributed.nodes)


def started_spec(started: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The spec that counts: what the job started with, and the few fields that may change later."""
    fixed = {name: value for name, value in started.items() if name not in MUTABLE_AFTER_START}
    return fixed | {name: current[name] for name in MUTABLE_AFTER_START if name in current}


def _take_snapshot(world: World) -> tuple[Snapshot, tuple[str, ...]]:
    spec, around = world.job["spec"], world.around
    verdict = judge(world.name, world.namespace, spec, around)
    if verdict.errors:
        raise InvalidSpec(*verdict.errors)
    if verdict.missing:
        raise NotYet(verdict.missing)
    runtime = around.runtime["spec"] if spec.get("runtimeRef") and around.runtime else None
    artifacts = {name: str(version["spec"]["artifact"]["uri"]) for name, version in around.source_versions.items()}
    return Snapshot(spec, runtime, artifacts), verdict.warnings
