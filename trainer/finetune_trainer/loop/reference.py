"""What the untrained model says of the data, asked once: the anchor of losses that compare with it."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from finetune_trainer.data.encoded import Column, Encoded
from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.loop.evaluation import Evaluator
from finetune_trainer.tasks.preference_task import REFERENCE, PreferenceTask


def with_reference(data: PreparedData, evaluator: Evaluator, model: Any) -> PreparedData:
    """The data with the log-probabilities that `model`, not yet trained, gives to each completion.

    Every rank calls it, before a checkpoint is restored; each gets all of them. So no second model is in memory, and
    the reference is the same in every attempt. Data of tasks that compare with nothing is returned as it is.
    """
    task = evaluator.task
    if not isinstance(task, PreferenceTask):
        return data

    def completed(encoded: Encoded) -> Encoded:
        if not len(encoded):
            return encoded
        found = evaluator.per_example(model, encoded, task.log_probabilities)
        ends = np.arange(len(found) + 1, dtype=np.int64) * found.shape[1]
        return encoded.with_column(REFERENCE, Column(found.ravel(), ends))

    with untrained(model):
        return replace(
            data, train=completed(data.train), validation=completed(data.validation), test=completed(data.test)
        )


def untrained(model: Any) -> AbstractContextManager[Any]:
    """Around calls of a model that is not yet trained: as its base answers.

    Adapters change nothing before their first step, but for virtual tokens, which stand before every text. (Without
    its adapter, PiSSA's model is not the base but what is left of it.)
    """
    adapters = getattr(model, "peft_config", {}).values()
    return model.disable_adapter() if any(adapter.is_prompt_learning for adapter in adapters) else nullcontext()
