"""The reward models of a job, on the local disk before anything is trained, and the same ones in every attempt."""

from collections.abc import Mapping

from finetune_api.trainer_config import TrainerConfig
from finetune_serving.settings import ModelSource
from finetune_trainer.checkpoint.pinned_model import pin_reward_model
from finetune_trainer.errors import of_field
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_artifact

RewardModels = Mapping[str, ModelSource]
"""By what the job calls them."""


def source_field(place: int) -> str:
    """Which field names the reward model of the reward at `place`."""
    return f"training.reinforcement.rewards[{place}].model.source"


def fetch_reward_models(config: TrainerConfig, run: Run) -> RewardModels:
    """Each in a folder of its own, which the processes of a node share; of the Hub at the commit of the first attempt.

    Raises:
        StorageError: One is not there; names the field.
    """
    models = {}
    for place, reward in enumerate(config.training.reinforcement.rewards if config.training.reinforcement else ()):
        if reward.model is None:
            continue
        source = reward.model.source
        with of_field(source_field(place)):
            commit = pin_reward_model(source, place, config.checkpoint.storage, run)
            folder = fetch_artifact(source, run, commit)
        # What it is an adapter of, each process fetches for itself.
        base = run.scratch / "reward-bases" / f"{place}-{run.rank}"
        models[source] = ModelSource(str(folder), base, trust_remote_code=config.model.trust_remote_code)
    return models
