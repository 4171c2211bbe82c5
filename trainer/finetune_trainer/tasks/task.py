"""The interface of a task: everything that the trainer does differently for one kind of fine-tuning than another."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from peft import TaskType
from torch import Tensor

from finetune_trainer.data.batches import AlteringCollate, Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import Rows
from finetune_trainer.metrics.scores import Scores


class Task(Protocol):
    """One kind of fine-tuning. In the order in which a run asks."""

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str:
        """What an example's length counts: tokens, images …"""

    @property
    def model_class(self) -> Any:
        """The Auto class of transformers."""

    @property
    def model_types(self) -> Collection[str]:
        """Values of `model_type` that the class knows."""

    @property
    def heads(self) -> tuple[str, ...]:
        """First parts of the names of modules that may start from random weights; () where none may."""

    @property
    def peft_type(self) -> TaskType | None:
        """PEFT's name of the task; None for an adapter around any model."""

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
        """What turns raw inputs into numbers: a tokenizer, an image processor …; None when nothing does.

        Raises ConfigurationError when there is none or it cannot serve this task.
        """

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        """Settles the model's configuration. Raises ConfigurationError when model and processor do not fit."""

    def rows(self, encoded: Encoded, max_length: int) -> Rows:
        """Which examples share a row of a batch; one each unless they are packed."""

    def collator(self, processor: Any) -> Collate:
        """Makes batches of rows."""

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        """What the loss is made of; an exported model must give the same."""

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        """The loss summed over the batch's targets, by exactly one call of the model.

        Who calls divides by the targets of the whole step: a mean over each micro-batch would give short rows more
        weight, and change with the number of ranks.
        """

    def predictions(self, model: Any, batch: Batch) -> Any:
        """What the scores are made of: the outputs, or what the model generates."""

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> Scores:
        """An empty collection for one evaluation on `encoded`."""


class DataTask(Task, Protocol):
    """A task whose data is of one kind. In the order in which preparing it asks."""

    @property
    def reads_files(self) -> bool:
        """Whether rows name further files, whose contents are data too."""

    def read(self, row: Row) -> Example:
        """The example in a row. Raises DataError naming the row."""

    def labels(self, parts: Parts) -> list[str]:
        """The classes, sorted; [] where there are none."""

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        """Whole examples, nothing cut."""

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """The example cut to at most `max_length` tokens."""


STEP = "step"
"""The extra of a batch: what `StepWide.step_sums` gave for the whole step."""


@runtime_checkable
class StepWide(Protocol):
    """A task whose loss depends on something of the whole step, of all its micro-batches and ranks."""

    def step_sums(self, model: Any, batch: Batch) -> Tensor:
        """What is added up over them before the first of them is learnt from; without gradients."""


@runtime_checkable
class Splitting(Protocol):
    """A task for which a long example can be several shorter ones."""

    def pieces(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> list[Features]:
        """The example in order, in pieces of at most `max_length` tokens; each target is in one of them.

        Raises DataError where such an example cannot be split, naming the row.
        """


@runtime_checkable
class Configured(Protocol):
    """A task that encodes by settings of its own, besides those of the dataset."""

    def encoding_settings(self) -> Any:
        """Those settings, as JSON has them."""


@runtime_checkable
class Altering(Protocol):
    """A task that can alter training examples each time that they come, rather than once for all."""

    def altering_collator(self, processor: Any) -> AlteringCollate | None:
        """Makes batches of altered examples; None when the job asks for none."""


@runtime_checkable
class Packing(Protocol):
    """A task that may put several examples into one row, which only the models of transformers tell apart."""

    def unpacked(self) -> Task:
        """The same with one example a row."""


@runtime_checkable
class Reporting(Protocol):
    """A task that knows more of its data than how many examples there are."""

    def complete_report(self, report: dict[str, Any], encoded: Encoded) -> None:
        """Adds to one part of the data report."""
