"""What an attempt is made from: the job as it was when it started, over its runtime as it was then."""

from dataclasses import dataclass
from typing import Any

from finetune_api.fine_tune_job import MUTABLE_AFTER_START
from finetune_operator.plan.attempt import Snapshot
from finetune_operator.plan.reasons import Reason
from finetune_operator.plan.resolution import ResolvedJob, resolve
from finetune_operator.plan.validation import InvalidSpec, validate
from finetune_operator.plan.world import World

MODEL_VERSION = "modelversion://"


class NotYet(Exception):
    """Something that the job refers to does not exist yet."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Basis:
    """Everything from which the objects of an attempt follow."""

    job: ResolvedJob
    snapshot: Snapshot


def basis(world: World) -> Basis:
    """From the snapshot once there is one. Raises InvalidSpec, or NotYet before the first start."""
    snapshot = world.snapshot or _take_snapshot(world)
    spec = started_spec(snapshot.spec, world.job["spec"])
    valid = validate(spec, snapshot.runtime)
    name, namespace, uid = (world.job["metadata"][field] for field in ("name", "namespace", "uid"))
    return Basis(resolve(name, namespace, uid, valid, snapshot.model_source, world.settings), snapshot)


def started_spec(started: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The spec that counts: what the job started with, and the few fields that may change later."""
    fixed = {name: value for name, value in started.items() if name not in MUTABLE_AFTER_START}
    return fixed | {name: current[name] for name in MUTABLE_AFTER_START if name in current}


def _take_snapshot(world: World) -> Snapshot:
    spec = world.job["spec"]
    reference = spec.get("runtimeRef")
    if reference and world.runtime is None:
        validate(spec, None, complete=False)  # what is wrong in itself needs no runtime to be refused
        kind = reference.get("kind", "ClusterTrainingRuntime")
        raise NotYet(
            Reason.RUNTIME_NOT_FOUND,
            f"spec.runtimeRef: there is no {kind} {reference.get('name')!r}; create it, or correct the name",
        )
    runtime = world.runtime["spec"] if reference and world.runtime else None
    validate(spec, runtime)
    return Snapshot(spec, runtime, _model_source(world, spec["model"]["source"]))


def _model_source(world: World, source: str) -> str:
    if not source.startswith(MODEL_VERSION):
        return source
    name = source.removeprefix(MODEL_VERSION)
    version = world.source_version
    if version is None:
        raise NotYet(
            Reason.MODEL_VERSION_NOT_FOUND,
            f"spec.model.source: there is no ModelVersion {name!r} in namespace {world.namespace}",
        )
    if version["spec"].get("format") == "Adapter":
        raise InvalidSpec(
            f"spec.model.source: ModelVersion {name!r} is an adapter, which cannot be trained further; "
            "start from its base model, or from a version of format Full"
        )
    return str(version["spec"]["artifact"]["uri"])
