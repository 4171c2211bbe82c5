"""Several tasks that share one encoder, each with a head of its own and the metrics that it has alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from finetune_api.artifact import SubtaskDescription
from finetune_serving.multi_task_model import HEADS, MultiTaskModel, Selection
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Ints
from finetune_trainer.data.joined import Joined
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.metrics.multi_task import MultiTaskScores
from finetune_trainer.tasks.task import DataTask
from finetune_trainer.tasks.text_task import TextTask

TOKEN_TYPES = "token_type_ids"
NO_ROWS = Batch({}, torch.empty(0), torch.empty(0))


@dataclass(frozen=True)
class Part:
    """What of a mixed batch is one subtask's."""

    places: Ints
    """Of its rows in the batch."""
    rows: Tensor
    """The same, for the model."""
    examples: Ints
    """Their numbers in the subtask's own data."""
    batch: Batch
    """As its own task collates it; empty where there are no rows."""
    targets_per_example: float

    @property
    def width(self) -> int:
        """Of its rows."""
        return self.batch.inputs["input_ids"].shape[1] if len(self.places) else 1

    @property
    def selected(self) -> Selection:
        """As the model is asked."""
        return self.rows, self.width

    def to(self, device: torch.device) -> "Part":
        """On the device."""
        return replace(self, rows=self.rows.to(device), batch=self.batch.to(device))


@dataclass(frozen=True)
class MixedBatch(Batch):
    """Rows of several subtasks, which go through the encoder together."""

    parts: Mapping[str, Part] = field(default_factory=dict)

    def to(self, device: torch.device) -> "MixedBatch":
        """On the device, without waiting for the copy."""
        moved = super().to(device)
        return replace(self, inputs=moved.inputs, parts={name: part.to(device) for name, part in self.parts.items()})


class MultiTask(TextTask):
    """Delegates to the tasks that it is made of, all but the pass through the encoder.

    Every head is asked in every pass, be it for no row: ranks that hold rows of other subtasks have gradients for all
    weights, and wait for nobody. An example of one subtask weighs in the loss as an example of another, so that the
    words of a tagged text do not outvote the one class of another: each subtask's loss is divided by what its own task
    counts in a mean example.

    Labels are written SUBTASK/LABEL where those of all subtasks stand in one list.
    """

    name = "MultiTask"
    model_class = MultiTaskModel
    heads = (HEADS,)
    peft_type = None

    def __init__(self, subtasks: Mapping[str, DataTask]) -> None:
        self.subtasks = subtasks
        kinds = [set(MODEL_FOR_MASKED_LM_MAPPING_NAMES), *(set(task.model_types) for task in subtasks.values())]
        self.model_types = set.intersection(*kinds)

    def check_tokenizer(self, tokenizer: Any) -> None:
        for task in self.subtasks.values():
            if isinstance(task, TextTask):
                task.check_tokenizer(tokenizer)

    def labels_of(self, labels: list[str]) -> dict[str, list[str]]:
        """Those of each subtask."""
        return {name: [one[len(name) + 1 :] for one in labels if one.startswith(f"{name}/")] for name in self.subtasks}

    def described(self, labels: list[str]) -> dict[str, SubtaskDescription]:
        """What a server must know of the heads."""
        return {
            name: SubtaskDescription.model_validate({"task": self.subtasks[name].name, "labels": own or None})
            for name, own in self.labels_of(labels).items()
        }

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        super().configure(config, processor, labels)
        setattr(config, HEADS, {name: about.wire() for name, about in self.described(labels).items()})

    def collator(self, processor: Any) -> Collate:
        collators = {name: task.collator(processor) for name, task in self.subtasks.items()}

        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> MixedBatch:
            assert isinstance(encoded, Joined)
            parts = dict(_parts(encoded, np.asarray([row[0] for row in rows]), collators))
            inputs = _together(parts, len(rows), processor.pad_token_id)
            return MixedBatch(inputs, torch.empty(0), torch.empty(0), parts=parts)

        return collate

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        """What all subtasks' losses are made of, one after the other, (values,)."""
        asked = [one for one in self._asked(model, batch) if len(one[2].places)]
        return torch.cat([task.outputs(answer, part.batch).float().flatten() for task, answer, part in asked])

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        losses = [
            task.loss_sum(answer, part.batch, label_smoothing) / part.targets_per_example
            if len(part.places)
            else answer.nothing()
            for task, answer, part in self._asked(model, batch)
        ]
        return torch.stack(losses).sum()

    def predictions(self, model: Any, batch: Batch) -> dict[str, Any]:
        """What each subtask's scores are made of, of those that have rows."""
        return {
            name: task.predictions(answer, part.batch)
            for name, (task, answer, part) in zip(self.subtasks, self._asked(model, batch), strict=True)
            if len(part.places)
        }

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> MultiTaskScores:
        assert isinstance(encoded, Joined)
        own = self.labels_of(labels)
        return MultiTaskScores(
            {
                name: (task.name, task.scores(own[name], processor, encoded.parts[name]))
                for name, task in self.subtasks.items()
            }
        )

    def _asked(self, model: Any, batch: Batch) -> list[tuple[DataTask, "Answer", Part]]:
        """One pass through the model, and for each subtask what stands in for a model of its own."""
        assert isinstance(batch, MixedBatch)
        selected = {name: part.selected for name, part in batch.parts.items()}
        found = model(**batch.inputs, selected=selected)
        return [(self.subtasks[name], Answer(found[name]), part) for name, part in batch.parts.items()]


@dataclass(frozen=True)
class Answer:
    """Called as a model, it gives what a head has said already."""

    said: Any

    def __call__(self, **inputs: Tensor) -> Any:
        return self.said

    def nothing(self) -> Tensor:
        """A loss of no rows: 0, whose gradient is 0 for every weight of the head."""
        return torch.stack([value.float().sum() for value in self.said.values()]).sum() * 0.0


def _parts(
    encoded: Joined, examples: Ints, collators: Mapping[str, Callable[..., Batch]]
) -> Iterator[tuple[str, Part]]:
    for name, (places, own) in encoded.of_each(examples).items():
        batch = NO_ROWS
        if len(own):
            batch = collators[name](encoded.parts[name], [[example] for example in own.tolist()])
        yield name, Part(places, torch.from_numpy(places), own, batch, encoded.targets_per_example[name])


def _together(parts: Mapping[str, Part], count: int, pad: int) -> dict[str, Tensor]:
    """The inputs of all parts at their places, (count, longest)."""
    used = [part for part in parts.values() if len(part.places)]
    shape = count, max(part.width for part in used)
    inputs = {
        "input_ids": torch.full(shape, pad, dtype=torch.int64),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
    }
    if any(TOKEN_TYPES in part.batch.inputs for part in used):
        inputs[TOKEN_TYPES] = torch.zeros(shape, dtype=torch.int64)
    for part in used:
        for name, tensor in part.batch.inputs.items():
            inputs[name][part.rows, : tensor.shape[1]] = tensor
    return inputs
