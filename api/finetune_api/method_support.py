"""What each method goes with: the one table that validation, the CRD's rules and docs/methods.md are made from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

from finetune_api.base import rule
from finetune_api.distributed import Distributed
from finetune_api.method import Method
from finetune_api.metrics import TASKS, Task
from finetune_api.objectives import objective_problems
from finetune_api.training import Training
from finetune_api.unknown import decidable

FeatureBesidesTasks = Literal[
    "TextClassification, decoders",
    "RewardModeling, decoders",
    "training.packing",
    "training.gradientCheckpointing",
    "training.earlyStopping",
    "training.optimizer Muon",
    "training.layerwiseLearningRateDecay",
    "training.precision Float16",
    "training.compile",
    "distributed.fsdp",
    "distributed.deepspeed",
]
Feature = Task | FeatureBesidesTasks
FEATURES: tuple[Feature, ...] = (*TASKS, *get_args(FeatureBesidesTasks))
"""Columns of the table. Whether a model is a decoder is known once its config.json is read: the trainer asks then."""

CEL: dict[Feature, str] = {
    **{task: f"self.task == '{task}'" for task in TASKS},
    "training.packing": "self.training.packing",
    "training.gradientCheckpointing": "self.training.gradientCheckpointing",
    "training.earlyStopping": "has(self.training.earlyStopping)",
    "training.optimizer Muon": "self.training.optimizer == 'Muon'",
    "training.layerwiseLearningRateDecay": "has(self.training.layerwiseLearningRateDecay)",
    "training.precision Float16": "self.training.precision == 'Float16'",
    "training.compile": "self.training.compile",
    "distributed.fsdp": "has(self.distributed.fsdp)",
    "distributed.deepspeed": "(self.distributed.engine == 'DeepSpeed' || has(self.distributed.deepspeed))",
}


@dataclass(frozen=True)
class Support:
    """One row."""

    trains: str
    """What is learnt, for people."""
    learning_rate: str
    """Where to begin, for people."""
    served: Literal["Whole", "Merged", "Beside its base"]
    refused: dict[Feature, str] = field(default_factory=dict)
    """Why a feature does not go with the method, and the mend. What is not here works."""


PACKED_VIRTUAL_TOKENS = (
    "only the first text of a packed row would see the virtual tokens, and the texts would see each other; "
    "set packing to false, or use lora"
)
POOLED_VIRTUAL_TOKENS = (
    "decoders classify at the last token, which they cannot find behind virtual tokens and would take from the "
    "padding; use prefixTuning or lora, or an encoder such as BERT"
)

NO_MATRICES: dict[Feature, str] = {
    "training.optimizer Muon": (
        "Muon orthogonalises the updates of matrices inside the layers, and the method trains none; use AdamW"
    )
}
BEFORE_THE_LAYERS: dict[Feature, str] = {
    **NO_MATRICES,
    "training.layerwiseLearningRateDecay": "what it trains belongs to no layer; remove layerwiseLearningRateDecay",
}
WITHOUT_TOKENS: dict[Feature, str] = {
    "ImageClassification": "an image has no tokens to put virtual ones before; use lora",
    "ObjectDetection": "an image has no tokens to put virtual ones before; use lora",
    "AudioClassification": "a recording has no tokens to put virtual ones before; use lora",
    "MultiTask": "PEFT puts virtual tokens before the input of models with one head, not of several; use lora",
}
FROM_DATA: dict[Feature, str] = {
    "Recommendation": "the model is made from the data, and there is nothing yet to adapt; use full",
}
SHARDED_RANKS = (
    "ranks are given out by the gradients and weights of whole layers, of which each process has only a part; "
    "use engine Torchrun without fsdp, or use lora"
)
SHARDED_QUANTIZED = (
    "packed 4-bit and 8-bit weights cannot be cut into shards; use engine Torchrun without fsdp, or use lora"
)

SUPPORT: dict[str, Support] = {
    "full": Support("every weight", "2e-5", "Whole"),
    "lora": Support("two thin matrices beside each layer", "2e-4", "Merged", FROM_DATA),
    "qlora": Support(
        "two thin matrices beside each layer, which is held in 4 or 8 bits",
        "2e-4",
        "Beside its base",
        {
            **FROM_DATA,
            "distributed.fsdp": SHARDED_QUANTIZED,
            "distributed.deepspeed": SHARDED_QUANTIZED,
            "training.compile": (
                "packed 4-bit and 8-bit weights are multiplied by kernels of bitsandbytes, which are not compiled; set "
                "compile to false, or use lora"
            ),
        },
    ),
    "ia3": Support("a factor for each key, value and MLP activation", "5e-3", "Merged", {**FROM_DATA, **NO_MATRICES}),
    "promptTuning": Support(
        "input embeddings before each text",
        "3e-2",
        "Beside its base",
        {
            **WITHOUT_TOKENS,
            **FROM_DATA,
            "TextClassification, decoders": POOLED_VIRTUAL_TOKENS,
            "RewardModeling, decoders": POOLED_VIRTUAL_TOKENS,
            "training.packing": PACKED_VIRTUAL_TOKENS,
            **BEFORE_THE_LAYERS,
        },
    ),
    "pTuning": Support(
        "a network that makes input embeddings before each text",
        "1e-3",
        "Beside its base",
        {
            **WITHOUT_TOKENS,
            **FROM_DATA,
            "TextClassification, decoders": POOLED_VIRTUAL_TOKENS,
            "RewardModeling, decoders": POOLED_VIRTUAL_TOKENS,
            "training.packing": PACKED_VIRTUAL_TOKENS,
            **BEFORE_THE_LAYERS,
        },
    ),
    "prefixTuning": Support(
        "keys and values before each text, in every layer",
        "1e-2",
        "Beside its base",
        {
            **WITHOUT_TOKENS,
            **FROM_DATA,
            "training.packing": PACKED_VIRTUAL_TOKENS,
            "training.gradientCheckpointing": (
                "recomputed layers would find their own keys in the cache that holds the prefix; set "
                "gradientCheckpointing to false and lower microBatchSize, or use lora"
            ),
            **BEFORE_THE_LAYERS,
        },
    ),
    "adalora": Support(
        "thin matrices beside each layer, whose ranks fall where they matter least",
        "1e-3",
        "Merged",
        {
            **FROM_DATA,
            "distributed.fsdp": SHARDED_RANKS,
            "distributed.deepspeed": SHARDED_RANKS,
            "training.earlyStopping": (
                "ranks fall by a plan for the whole run, so weights from the middle have other ranks than were asked "
                "for; remove earlyStopping, or use lora"
            ),
            "training.optimizer Muon": (
                "its ranks follow the sizes of singular values, which orthogonal updates make alike; use AdamW"
            ),
            "training.precision Float16": (
                "a step whose gradients overflow would spoil the importance of every rank; use BFloat16 or Float32"
            ),
        },
    ),
}


def refusal(method: str, feature: Feature) -> str | None:
    """Why `method` does not go with `feature`, and the mend; None when it does."""
    reason = SUPPORT[method].refused.get(feature)
    return f"method.{method} does not go with {feature}: {reason}" if reason else None


def unsupported(method: Method, task: Task, training: Training, distributed: Distributed) -> list[str]:
    """What cannot work, before anything is started: each names the pair, the reason and the mend."""
    asked: dict[FeatureBesidesTasks, Callable[[], bool]] = {
        "training.packing": lambda: training.packing,
        "training.gradientCheckpointing": lambda: training.gradient_checkpointing,
        "training.earlyStopping": lambda: training.early_stopping is not None,
        "training.optimizer Muon": lambda: training.optimizer == "Muon",
        "training.layerwiseLearningRateDecay": lambda: training.layerwise_learning_rate_decay is not None,
        "training.precision Float16": lambda: training.precision == "Float16",
        "training.compile": lambda: training.compile,
        "distributed.fsdp": lambda: distributed.fsdp is not None,
        "distributed.deepspeed": lambda: distributed.zero is not None,
    }

    def refused(feature: Feature, wanted: Callable[[], bool]) -> Iterator[str]:
        if wanted() and (reason := refusal(method.name, feature)):
            yield reason

    checks = [partial(refused, feature, wanted) for feature, wanted in asked.items()]
    return list(
        decidable(partial(refused, task, lambda: True), *checks, lambda: objective_problems(task, training, method))
    )


def support_rules() -> list[dict[str, str]]:
    """The same as CEL rules of a FineTuneJob's spec."""
    return [
        rule(f"!(has(self.method.{method}) && {CEL[feature]})", refusal(method, feature) or "")
        for method, row in SUPPORT.items()
        for feature in row.refused
        if feature in CEL
    ]
