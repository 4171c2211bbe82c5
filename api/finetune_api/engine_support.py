"""What does not go with several processes or a sharded model, whatever the method.

Validation, the CRD's rules and docs/methods.md are made from it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from finetune_api.base import rule
from finetune_api.distributed import Distributed
from finetune_api.metrics import Task
from finetune_api.training import Training

MEND = "or use engine Torchrun without distributed.fsdp"
OPTIMIZER = f"training.optimizer: its state cannot be cut into shards; set AdamW, {MEND}"
FLOAT16 = f"training.precision: the scale of the loss would differ between shards; set BFloat16, {MEND}"
L1 = f"training.l1: it is added to whole gradients, and here each process has a part; remove it, {MEND}"
COMPILE = f"training.compile: compiled layers have not been tested in shards; set it to false, {MEND}"
TABLES = f"task: Recommendation has tables and no layers to cut into shards; {MEND[3:]}"
WRITING: tuple[Task, ...] = ("Seq2Seq", "ReinforcementLearning")
WRITES = (
    "task: Seq2Seq and ReinforcementLearning write texts while they train, and processes that hold parts would wait "
    f"for each other; {MEND[3:]}"
)
SHARDS = "(has(self.distributed.fsdp) || self.distributed.engine == 'DeepSpeed' || has(self.distributed.deepspeed))"


@dataclass(frozen=True)
class Unshardable:
    """Something that cannot be trained in shards: for Python, for a FineTuneJob's CEL rules, and for people."""

    feature: str
    asked: Callable[[Task, Training], bool]
    cel: str
    refusal: str
    """Names the field, the reason and the mend."""


UNSHARDABLE = (
    Unshardable("Recommendation", lambda task, _: task == "Recommendation", "self.task == 'Recommendation'", TABLES),
    Unshardable(" and ".join(WRITING), lambda task, _: task in WRITING, f"self.task in {list(WRITING)}", WRITES),
    Unshardable(
        "training.optimizer but AdamW",
        lambda _, training: training.optimizer != "AdamW",
        "self.training.optimizer != 'AdamW'",
        OPTIMIZER,
    ),
    Unshardable(
        "training.precision Float16",
        lambda _, training: training.precision == "Float16",
        "self.training.precision == 'Float16'",
        FLOAT16,
    ),
    Unshardable("training.l1", lambda _, training: training.l1 > 0, "self.training.l1 > 0.0", L1),
    Unshardable("training.compile", lambda _, training: training.compile, "self.training.compile", COMPILE),
)


def unshardable(task: Task, training: Training, distributed: Distributed) -> Iterator[str]:
    """Why the job cannot be trained in the shards that it asks for."""
    if distributed.shards:
        yield from (one.refusal for one in UNSHARDABLE if one.asked(task, training))


def uneven_batch(training: Training, distributed: Distributed) -> Iterator[str]:
    """Every process takes as many micro-batches as the others."""
    micro = training.micro_batch_size or 1
    asked = {"distributed.nodes": distributed}
    if distributed.elastic:
        asked["distributed.elastic.minNodes"] = distributed.of(distributed.elastic.min_nodes)
    for field, sized in asked.items():
        if not is_even(training, sized):
            yield (
                f"training.batchSize ({training.batch_size}) must be a multiple of {field} × "
                f"distributed.processesPerNode × training.microBatchSize ({sized.world_size} × {micro})"
            )


def is_even(training: Training, distributed: Distributed) -> bool:
    """Whether a global batch can be shared out."""
    return training.batch_size % (distributed.world_size * (training.micro_batch_size or 1)) == 0


def shard_rules() -> list[dict[str, str]]:
    """The same as CEL rules of a FineTuneJob's spec."""
    return [rule(f"!({SHARDS} && {one.cel})", one.refusal) for one in UNSHARDABLE]
