"""What must be settled between making a model and its first step, for objectives that are about the model itself."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.loop.evaluation import Evaluator
from finetune_trainer.loop.feed import Feed
from finetune_trainer.loop.reference import with_reference
from finetune_trainer.reinforcement.rollout_feed import RolloutFeed
from finetune_trainer.reinforcement.rollouts import Rollouts
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.reinforcement_learning import ReinforcementLearning


def settled(feed: Feed, data: PreparedData, evaluator: Evaluator, model: Any) -> tuple[Feed, PreparedData]:
    """The feed and the data to train with. Every rank calls it with the untrained model, before a checkpoint is read.

    Raises:
        ConfigurationError: A reward model or a teacher cannot be loaded.
    """
    data = with_reference(data, evaluator, model)
    feed = replace(feed, encoded=data.train)
    task = evaluator.task
    if isinstance(task, CrossEntropy) and task.teacher:
        task.teacher.load(evaluator.device)
    if not isinstance(task, ReinforcementLearning):
        return feed, data
    rollouts = Rollouts(
        task=task,
        rewards=task.load_rewards(),
        policy=model,
        reference=_before_training(model) if task.settings.beta else None,
        processor=evaluator.processor,
        precision=evaluator.precision,
        device=evaluator.device,
    )
    given = {field.name: getattr(feed, field.name) for field in fields(Feed) if field.init}
    return RolloutFeed(**given, rollouts=rollouts, ranks=evaluator.ranks), data


def _before_training(model: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Gives the untrained model whenever it is asked for.

    Without its adapter a model is its base. Where all weights change, or where they were split between the adapter and
    the base as PiSSA does, a copy is kept.
    """
    adapters = list(getattr(model, "peft_config", {}).values())
    if adapters and not any(getattr(adapter, "init_lora_weights", None) == "pissa" for adapter in adapters):
        return lambda: _without_adapter(model)
    copy = deepcopy(model).eval().requires_grad_(False)
    return lambda: nullcontext(copy)


@contextmanager
def _without_adapter(model: Any) -> Iterator[Any]:
    with model.disable_adapter():
        yield model
