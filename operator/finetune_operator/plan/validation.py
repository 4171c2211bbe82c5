"""The verdict on a FineTuneJob: every error with its field path and the mend."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from finetune_api.errors import told
from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.postprocess import averaging_problems
from finetune_api.training_runtime import TrainingRuntimeSpec
from finetune_api.unknown import decidable, read
from finetune_operator.plan.places import MODEL_VERSION, read_places
from finetune_operator.plan.pod_shape import template_errors
from finetune_operator.plan.scheduler_choice import scheduler_of
from finetune_operator.plan.size_limits import too_large
from finetune_operator.schedulers.registry import QUEUEING


class InvalidSpec(ValueError):
    """The job can never run as it is written; the message names every field at fault, one a line."""

    def __init__(self, *errors: str) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(frozen=True, eq=False)
class Validated:
    """A job and its runtime that fit together. Shared between reconciles: never change one."""

    spec: FineTuneJobSpec
    runtime: TrainingRuntimeSpec | None
    errors: tuple[str, ...] = ()
    """What `examine` finds wrong."""


def validate(spec: dict[str, Any], runtime: dict[str, Any] | None, *, complete: bool = True) -> Validated:
    """The parsed job and runtime. Raises InvalidSpec with all errors, one a line.

    Not `complete`: the runtime is unknown, what it may still give is not asked for.
    """
    sizes = {"spec": too_large(spec), "runtime.spec": runtime and too_large(runtime)}
    if errors := [f"{root}: {problem}" for root, problem in sizes.items() if problem]:
        raise InvalidSpec(*errors)
    valid = examine(spec, runtime, complete=complete)
    if valid.errors:
        raise InvalidSpec(*valid.errors)
    return valid


def examine(spec: dict[str, Any], runtime: dict[str, Any] | None, *, complete: bool = True) -> Validated:
    """The job and runtime with all errors. What an older operator has let in may break rules that are newer: what can
    be read of it is there."""
    return _verdict(_canonical(spec), None if runtime is None else _canonical(runtime), complete)


def _canonical(spec: dict[str, Any]) -> bytes:
    return orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=64)
def _verdict(spec: bytes, runtime: bytes | None, complete: bool) -> Validated:
    """Each reconcile asks again about the same few specs."""
    job, wrong = read(FineTuneJobSpec, orjson.loads(spec))
    defaults, wrong_defaults = (None, []) if runtime is None else read(TrainingRuntimeSpec, orjson.loads(runtime))
    checks: list[Callable[[], Iterable[str]]] = [
        *((lambda: _storage_errors(job, defaults), lambda: _trust_errors(job, defaults)) if complete else ()),
        lambda: _averaging_errors(job, defaults),
        lambda: _source_errors(job),
        lambda: _queue_errors(job, defaults),
        lambda: _priority_errors(job),
        lambda: _elastic_errors(job, defaults),
        lambda: _template_errors(job, defaults),
    ]
    errors = [
        *(f"spec.{each}" for each in wrong),
        *(f"runtime.spec.{each}" for each in wrong_defaults),
        *decidable(*checks),
    ]
    return Validated(job, defaults, tuple(told(errors)))


def _storage_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[str]:
    errors = []
    for field in ("checkpoint", "output"):
        if getattr(job, field) is None and (runtime is None or getattr(runtime, field) is None):
            errors.append(
                f"spec.{field}.storage: required; set it here or in the TrainingRuntime, "
                "to s3://BUCKET/PREFIX or pvc://CLAIM/PATH"
            )
    return errors or _one_place_errors(job, runtime)


def _one_place_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[str]:
    """Each gets a folder of the same name below its place: the model would lie among the checkpoints."""
    checkpoint, output = job.checkpoint or (runtime and runtime.checkpoint), job.output or (runtime and runtime.output)
    if checkpoint and output and checkpoint.storage.rstrip("/") == output.storage.rstrip("/"):
        return [
            f"spec.output.storage: {output.storage!r} is where the checkpoints go; give each a folder of its own, "
            "such as …/models and …/checkpoints"
        ]
    return []


def _averaging_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[str]:
    checkpoint = job.checkpoint or (runtime.checkpoint if runtime else None)
    return [f"spec.{problem}" for problem in averaging_problems(job.postprocess, checkpoint)] if checkpoint else []


def _trust_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[str]:
    """Somebody else's code in a pod with storage credentials is the platform team's decision."""
    if not job.model.trust_remote_code or (runtime is not None and runtime.allow_trust_remote_code):
        return []
    return [
        "spec.model.trustRemoteCode: only a runtime can allow it (allowTrustRemoteCode: true); set it to false, or "
        "name such a runtime in runtimeRef"
    ]


def _queue_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[str]:
    scheduler = runtime.scheduler if runtime else None
    queue = job.queue_name or (runtime.queue_name if runtime else None)
    if scheduler == "Kueue" and not queue:
        return [
            "spec.queueName: required, since the runtime's scheduler is Kueue; set it here or in the TrainingRuntime"
        ]
    if queue and scheduler and scheduler not in QUEUEING:
        return [
            f"spec.queueName: the runtime's scheduler {scheduler} has no queues; remove it (got {queue!r}), or use a "
            "runtime with Kueue or Volcano"
        ]
    return []


def _priority_errors(job: FineTuneJobSpec) -> list[str]:
    pod = (job.pod_template or {}).get("spec")
    own = pod.get("priorityClassName") if isinstance(pod, dict) else None
    if not job.priority_class_name or not own or own == job.priority_class_name:
        return []
    return [
        f"spec.priorityClassName: {job.priority_class_name!r} here and {own!r} in spec.podTemplate; keep one of the two"
    ]


def _elastic_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> list[str]:
    """Others place all pods of a gang or none: there is nothing to go on with."""
    scheduler = scheduler_of(job, runtime)
    if job.distributed.elastic is None or scheduler == "Default":
        return []
    return [
        f"spec.distributed.elastic: the scheduler {scheduler} places all pods of a gang or none; remove elastic, or "
        "use a runtime with the scheduler Default and no queue"
    ]


def _source_errors(job: FineTuneJobSpec) -> list[str]:
    return [
        f"{path}: modelversion:// names a model, not data; got {source!r}"
        for path, source in read_places(job)
        if path.startswith("spec.dataset.") and source.startswith(MODEL_VERSION)
    ]


def _template_errors(job: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> Iterator[str]:
    templates = {"runtime.spec.podTemplate": runtime.pod_template} if runtime else {}
    return template_errors(templates | {"spec.podTemplate": job.pod_template})
