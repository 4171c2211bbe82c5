"""Which ends of workers Ray need not mend, or could not."""

from finetune_api.reports import TerminationMessage
from finetune_trainer.launch.verdict import Surroundings, WorkerEnd, judge

FINAL = ("ConfigurationError", "DataError", "ExportError", "OutOfMemory")
"""What the same workers in the same pods would have again."""


def beyond_ray(ends: list[WorkerEnd], processes: int, around: Surroundings) -> TerminationMessage | None:
    """What a pod of so many workers says when it ends now; None while its end is Ray's affair."""
    said = [end.message.outcome for end in ends if end.message]
    stopped = said.count("Preempted") == processes
    out_of_memory = around.oom_kills > 0 and len(said) < len(ends)
    if stopped or out_of_memory or any(outcome in FINAL for outcome in said):
        return judge(ends, around)
    return None
