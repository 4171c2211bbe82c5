"""Which scheduler places the pods of a job, and from which queue."""

from finetune_api.fine_tune_job import FineTuneJobSpec
from finetune_api.training_runtime import SchedulerName, TrainingRuntimeSpec
from finetune_operator.plan.named_objects import Named
from finetune_operator.schedulers.kueue import QUEUE_KIND, queue_api

NO_RUNTIME = TrainingRuntimeSpec()


def scheduler_of(spec: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> SchedulerName:
    """The runtime's choice; without one, a queue means Kueue."""
    base = runtime or NO_RUNTIME
    return base.scheduler or ("Kueue" if queue_of(spec, runtime) else "Default")


def queue_of(spec: FineTuneJobSpec, runtime: TrainingRuntimeSpec | None) -> str | None:
    """The job's own, or else the runtime's."""
    return spec.queue_name or (runtime or NO_RUNTIME).queue_name


def local_queue(scheduler: SchedulerName, queue: str | None, served: frozenset[str] | None) -> Named | None:
    """The object that holds the gangs of a queue, in a version that the cluster serves; None where there is none."""
    api = queue_api(served)
    if scheduler != "Kueue" or not queue or api is None:
        return None
    return Named(api, QUEUE_KIND, queue)
