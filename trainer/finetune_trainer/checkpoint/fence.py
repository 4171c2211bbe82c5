"""Which attempt of a job may write: the newest one that has looked for checkpoints.

A node that is cut off from the cluster, or frozen for a while, may go on with an attempt whose pods were deleted by
force.
"""

from finetune_trainer.checkpoint.backend import FENCE, Backend, decode_fence
from finetune_trainer.errors import Superseded


def check_fence(backend: Backend, attempt: int) -> None:
    """Raises Superseded when a newer attempt has taken over."""
    newest = decode_fence(backend.read_record(FENCE))
    if newest > attempt:
        raise Superseded(f"attempt {newest} of the job has taken over; attempt {attempt} must not save any more")
