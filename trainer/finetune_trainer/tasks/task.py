"""The interface of a task."""

from dataclasses import dataclass
from typing import Any, Protocol

from finetune_trainer.data.batches import Batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Row
from finetune_trainer.data.split import Parts
from finetune_trainer.metrics.scores import Scores


@dataclass(frozen=True, slots=True)
class Tokens:
    """One example as token ids, and for generation which of them are learnt."""

    ids: list[int]
    trained: list[int] | None = None

    @property
    def learnable(self) -> bool:
        """Whether anything is left to learn; the first token has nothing before it."""
        return self.trained is None or any(self.trained[1:])


class Task(Protocol):
    """One kind of fine-tuning."""

    name: str
    model_class: Any
    """The Auto class of transformers."""

    def read(self, row: Row) -> Example:
        """The example in a row. Raises DataError naming the row."""

    def labels(self, parts: Parts) -> list[str]:
        """The classes, sorted; [] where there are none."""

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raises ConfigurationError when the tokenizer cannot serve this task."""

    def tokenise(self, examples: list[Example], tokenizer: Any) -> list[Tokens]:
        """Whole examples, nothing cut."""

    def truncate(self, example: Example, tokens: Tokens, tokenizer: Any, max_length: int) -> Tokens:
        """The first part of an example, at most `max_length` tokens."""

    def rows(self, encoded: Encoded, max_length: int) -> list[list[int]]:
        """Which examples share a row of a batch; one each unless they are packed."""

    def batch(self, encoded: Encoded, rows: list[list[int]], pad: int) -> Batch:
        """Rows as tensors."""

    def scores(self, labels: list[str]) -> Scores:
        """An empty collection for one evaluation."""
