"""Which scheduler places the pods of a job."""

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.training_runtime import SchedulerName, TrainingRuntimeSpec

NO_RUNTIME = TrainingRuntimeSpec()


def scheduler_of(spec: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> SchedulerName:
    """The runtime's choice; without one, a queue means Kueue."""
    base = runtime or NO_RUNTIME
    return base.scheduler or ("Kueue" if spec.queue_name or base.queue_name else "Default")
