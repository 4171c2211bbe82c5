"""The task that a job names."""

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.tasks.task import Task
from finetune_trainer.tasks.text_classification import TextClassification
from finetune_trainer.tasks.text_generation import TextGeneration


def task_of(config: TrainerConfig) -> Task:
    """The task that the job names."""
    if config.task == "TextClassification":
        return TextClassification(config.dataset.columns)
    return TextGeneration(config.dataset.columns, config.training.packing)
