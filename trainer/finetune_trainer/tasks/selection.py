"""The task that a job names."""

from collections.abc import Callable

from finetune_api.dataset import Augmentation, Columns
from finetune_api.multi_task import MULTI_TASK
from finetune_api.preference import Preference
from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.tasks.audio_classification import AudioClassification
from finetune_trainer.tasks.image_classification import ImageClassification
from finetune_trainer.tasks.multi_task import MultiTask
from finetune_trainer.tasks.object_detection import ObjectDetection
from finetune_trainer.tasks.paired_preferences import PairedPreferences
from finetune_trainer.tasks.question_answering import QuestionAnswering
from finetune_trainer.tasks.recommendation import Recommendation
from finetune_trainer.tasks.reinforcement_learning import ReinforcementLearning
from finetune_trainer.tasks.reward_modeling import RewardModeling
from finetune_trainer.tasks.seq2seq import Seq2Seq
from finetune_trainer.tasks.task import DataTask
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration
from finetune_trainer.tasks.token_classification import TokenClassification
from finetune_trainer.tasks.unpaired_preferences import UnpairedPreferences


def _recommendation(config: TrainerConfig) -> DataTask:
    assert config.model.architecture is not None  # validated
    return Recommendation(config.dataset.columns, config.model.architecture, config.top_k)


TASKS: dict[str, Callable[[TrainerConfig], DataTask]] = {
    "AudioClassification": lambda config: AudioClassification(config.dataset.columns, _augmentation(config).audio),
    "ImageClassification": lambda config: ImageClassification(config.dataset.columns, _augmentation(config).image),
    "ObjectDetection": lambda config: ObjectDetection(
        config.dataset.columns, config.dataset.cleaning, _augmentation(config).image
    ),
    "PreferenceOptimization": lambda config: _preferences(config.dataset.columns, config.training.preference),
    "QuestionAnswering": lambda config: QuestionAnswering(config.dataset.columns, _in_windows(config)),
    "ReinforcementLearning": lambda config: _reinforcement(config),
    "RewardModeling": lambda config: RewardModeling(config.dataset.columns),
    "Recommendation": _recommendation,
    "Seq2Seq": lambda config: Seq2Seq(config.dataset.columns),
    "TextClassification": lambda config: TextClassification(config.dataset.columns),
    "TextGeneration": lambda config: TextGeneration(
        config.dataset.columns,
        config.training.packing,
        config.dataset.layout,
        last_turn_alone=config.dataset.learnt_turns == "Last",
    ),
    "TokenClassification": lambda config: TokenClassification(config.dataset.columns),
}


def _in_windows(config: TrainerConfig) -> bool:
    return config.dataset.over_length == "Split"


def _augmentation(config: TrainerConfig) -> Augmentation:
    return config.dataset.augmentation or Augmentation()


def _preferences(columns: Columns, preference: Preference | None) -> DataTask:
    wanted = preference or Preference()
    return UnpairedPreferences(columns, wanted) if wanted.loss == "KTO" else PairedPreferences(columns, wanted.beta)


def _reinforcement(config: TrainerConfig) -> DataTask:
    settings = config.training.reinforcement
    assert settings is not None, "validation requires it"
    return ReinforcementLearning(config.dataset.columns, settings)


SUBTASKS: dict[str, Callable[[Columns, bool], DataTask]] = {
    "QuestionAnswering": QuestionAnswering,
    "TextClassification": lambda columns, in_windows: TextClassification(columns),
    "TokenClassification": lambda columns, in_windows: TokenClassification(columns),
}
"""Tasks that can share an encoder."""


def task_of(config: TrainerConfig) -> DataTask | MultiTask:
    """The task that the job names."""
    if config.task == MULTI_TASK:
        subtasks, in_windows = config.dataset.subtasks or (), _in_windows(config)
        return MultiTask({one.name: SUBTASKS[one.task](one.columns, in_windows) for one in subtasks})
    return TASKS[config.task](config)
