"""Which objectives of `training` belong to which task."""

from collections.abc import Iterator

from finetune_api.dataset import Dataset
from finetune_api.distillation import undistillable
from finetune_api.method import Method
from finetune_api.metrics import Task
from finetune_api.training import Training

PAIRED: tuple[Task, ...] = ("PreferenceOptimization", "RewardModeling")
"""Tasks that learn which of two completions is the better one; KTO has one at a time."""
WITHOUT_DROPOUT = (
    "probabilities are compared with what they were when a completion was written, and dropout would change them; "
    "remove it"
)
LIKE_THE_REFERENCE = (
    "probabilities are compared with those of the model before training, and dropout would change one side alone; "
    "remove it"
)


def objective_problems(task: Task, training: Training, method: Method) -> Iterator[str]:
    """Objectives of other tasks, and what would do nothing: each names the field and the mend."""
    yield from undistillable(task, training.distillation)
    if reason := dropout_refusal(task, training):
        dropouts = {"training.dropout": training.dropout, f"method.{method.name}.dropout": _own_dropout(method)}
        yield from (f"{field}: {reason}" for field, dropout in dropouts.items() if dropout)
    preference = training.preference
    if preference and task != "PreferenceOptimization":
        yield f"training.preference is for PreferenceOptimization, not {task}; remove it"
    if training.reinforcement and task != "ReinforcementLearning":
        yield f"training.reinforcement is for ReinforcementLearning, not {task}; remove it"
    if task == "ReinforcementLearning":
        yield from _reinforcement_problems(training, method)
    if task == "Recommendation":
        yield from _without_layers(training)
    if task == "Recommendation" and training.label_smoothing:
        yield "training.labelSmoothing: Recommendation learns ratings, or items against others, not classes; remove it"
    if task in PAIRED and training.label_smoothing >= 0.5 and not (preference and preference.loss == "KTO"):
        yield (
            f"training.labelSmoothing ({training.label_smoothing:g}): that share of the pairs is taken to be labelled "
            "the wrong way round, so from 0.5 on the rejected completion is preferred; lower it"
        )
    if preference and preference.loss == "KTO" and training.label_smoothing:
        yield "training.labelSmoothing: KTO weighs good and bad completions instead; set undesirableWeight, or use DPO"


def length_problems(task: Task, dataset: Dataset, training: Training) -> Iterator[str]:
    """What is left of `dataset.maxLength` for prompts."""
    written, longest = training.reinforcement, dataset.longest(task)
    if task == "ReinforcementLearning" and written and written.max_new_tokens >= longest:
        yield (
            f"training.reinforcement.maxNewTokens ({written.max_new_tokens}) leaves no room for a prompt in "
            f"dataset.maxLength ({longest}), which is of both together; raise maxLength, or lower maxNewTokens"
        )


def _without_layers(training: Training) -> Iterator[str]:
    """What the models of Recommendation, tables of vectors and a small network, have nothing for."""
    asked = {
        "training.optimizer Muon": training.optimizer == "Muon",
        "training.layerwiseLearningRateDecay": training.layerwise_learning_rate_decay is not None,
        "training.compile": training.compile,
        "training.gradientCheckpointing": training.gradient_checkpointing,
    }
    for field, wanted in asked.items():
        if wanted:
            yield f"{field} is for models with a stack of layers, and those of Recommendation have none; remove it"
    if training.dropout is not None:
        yield "training.dropout: the models of Recommendation have none; remove it, or set weightDecay"


def dropout_refusal(task: Task, training: Training) -> str | None:
    """Why the model trains without any dropout, its own included; None where it keeps it."""
    reinforcement = training.reinforcement
    if reinforcement and reinforcement.compares_with_written:
        return WITHOUT_DROPOUT
    if task == "PreferenceOptimization" or (reinforcement and reinforcement.divergence_in_loss):
        return LIKE_THE_REFERENCE
    return None


def _reinforcement_problems(training: Training, method: Method) -> Iterator[str]:
    reinforcement = training.reinforcement
    if reinforcement is None:
        yield "training.reinforcement: required for ReinforcementLearning; set its rewards"
    if training.label_smoothing:
        yield "training.labelSmoothing: ReinforcementLearning has no labels; remove it"
    if training.loss_spike:
        yield (
            "training.lossSpike: the loss of ReinforcementLearning is about 0 from the start, of either sign, so no "
            "multiple of it says anything; remove it"
        )
    if training.compile:
        yield "training.compile: completions grow token by token, and each length would be compiled; set it to false"
    written = training.batch_size * reinforcement.group_size if reinforcement else 0
    if reinforcement and reinforcement.mini_batches > written:
        yield (
            f"training.reinforcement.miniBatches ({reinforcement.mini_batches}) cannot share out batchSize × groupSize "
            f"({written}) completions; lower it"
        )


def _own_dropout(method: Method) -> float:
    adapter = method.lora or method.qlora or method.adalora
    return adapter.dropout if adapter else 0.0
