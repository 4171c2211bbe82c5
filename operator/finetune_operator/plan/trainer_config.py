"""job.json: the part of a job that the trainer reads."""

from finetune_api.metrics import DEFAULT_TOP_K
from finetune_api.trainer_config import JobIdentity, TrainerConfig
from finetune_operator.plan.resolution import ResolvedJob


def trainer_config(job: ResolvedJob, attempt: int) -> TrainerConfig:
    """Of one attempt; storage and output are final."""
    spec = job.spec
    return TrainerConfig(
        job=JobIdentity(namespace=job.namespace, name=job.name, uid=job.uid, attempt=attempt),
        model=job.model,
        task=spec.task,
        dataset=spec.dataset,
        method=spec.method,
        training=job.training,
        distributed=spec.distributed,
        checkpoint=job.checkpoint,
        output=job.output,
        hang_timeout_seconds=job.failure_policy.hang_timeout_seconds,
        postprocess=job.postprocess,
        top_k=spec.evaluation.top_k or DEFAULT_TOP_K,
    )
