"""What does not go with several processes or a sharded model, whatever the method.

Validation and the CRD's rules are made from it.
"""

from collections.abc import Iterator

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


def unshardable(task: Task, training: Training, distributed: Distributed) -> Iterator[str]:
    """What cannot be trained in shards: each names the field, the reason and the mend."""
    if not distributed.shards:
        return
    if task == "Recommendation":
        yield TABLES
    if task in WRITING:
        yield WRITES
    if training.optimizer != "AdamW":
        yield OPTIMIZER
    if training.precision == "Float16":
        yield FLOAT16
    if training.l1:
        yield L1
    if training.compile:
        yield COMPILE


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
    return [
        rule(f"!({SHARDS} && self.task == 'Recommendation')", TABLES),
        rule(f"!({SHARDS} && self.task in {list(WRITING)})", WRITES),
        rule(f"!({SHARDS} && self.training.optimizer != 'AdamW')", OPTIMIZER),
        rule(f"!({SHARDS} && self.training.precision == 'Float16')", FLOAT16),
        rule(f"!({SHARDS} && self.training.l1 > 0.0)", L1),
        rule(f"!({SHARDS} && self.training.compile)", COMPILE),
    ]
