"""Who reads the files of a model that is cut into shards: rank 0 alone."""

from collections.abc import Callable
from functools import partial

from finetune_api.trainer_config import TrainerConfig
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.models.load import LoadedModel
from finetune_trainer.parallel.arrival import without_weights
from finetune_trainer.ranks import Ranks


def comes_in_parts(config: TrainerConfig) -> bool:
    """Whether the weights reach the ranks as shards. PiSSA's start is computed of whole weights, by every rank."""
    lora = config.method.lora
    return config.distributed.shards_weights and not (lora is not None and lora.init == "PiSSA")


def loaded_once(
    ranks: Ranks,
    load: Callable[[], LoadedModel],
    empty: Callable[[list[str]], LoadedModel],
    adapt: Callable[[Callable[[], LoadedModel]], Adaptation],
) -> Adaptation:
    """The adapted model: with its weights on rank 0, which draws new ones as one process does; elsewhere without."""
    if ranks.rank:
        new: list[str] = ranks.broadcast(None)
        return without_weights(partial(adapt, partial(empty, new)))
    found: list[str] = []

    def noted() -> LoadedModel:
        loaded = load()
        found.extend(loaded.new_modules)
        return loaded

    adaptation = adapt(noted)
    ranks.broadcast(found)
    return adaptation
