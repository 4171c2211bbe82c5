"""Which objectives of `training` belong to which task."""

from collections.abc import Iterator

from finetune_api.distillation import undistillable
from finetune_api.metrics import Task
from finetune_api.training import Training


def objective_problems(task: Task, training: Training) -> Iterator[str]:
    """Objectives of other tasks, and what would do nothing: each names the field and the mend."""
    yield from undistillable(task, training.distillation)
    preference = training.preference
    if preference and task != "PreferenceOptimization":
        yield f"training.preference is for PreferenceOptimization, not {task}; remove it"
    if training.reinforcement and task != "ReinforcementLearning":
        yield f"training.reinforcement is for ReinforcementLearning, not {task}; remove it"
    if task == "ReinforcementLearning":
        yield from _reinforcement_problems(training)
    if task == "Recommendation" and training.label_smoothing:
        yield "training.labelSmoothing: Recommendation learns ratings, or items against others, not classes; remove it"
    if preference and preference.loss == "KTO" and training.label_smoothing:
        yield "training.labelSmoothing: KTO weighs good and bad completions instead; set undesirableWeight, or use DPO"


def _reinforcement_problems(training: Training) -> Iterator[str]:
    if training.reinforcement is None:
        yield "training.reinforcement: required for ReinforcementLearning; set its rewards"
    if training.label_smoothing:
        yield "training.labelSmoothing: ReinforcementLearning has no labels; remove it"
    if training.compile:
        yield "training.compile: completions grow token by token, and each length would be compiled; set it to false"
