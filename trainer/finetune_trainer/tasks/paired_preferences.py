"""Direct preference optimisation (DPO, Rafailov et al. 2023, arXiv:2305.18290)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples
from finetune_trainer.metrics.preferences import PairScores
from finetune_trainer.tasks.pairs import PAIR, completions_batch, encoded_completions, ids_column
from finetune_trainer.tasks.preference_rows import PairReader
from finetune_trainer.tasks.preference_task import PreferenceTask, with_reference

PROMPT = "prompt_tokens"
"""The column of how many tokens of both texts are the prompt's."""


class PairedPreferences(PreferenceTask):
    """Columns `prompt`, `chosen` and `rejected`."""

    def __init__(self, columns: Columns, beta: float) -> None:
        self._reader = PairReader(columns)
        self._beta = beta

    def read(self, row: Row) -> Example:
        return self._reader.read(row)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        encoded = (encoded_completions(example, processor, PAIR) for example in examples)
        texts = ([completions[role] for role in PAIR] for completions in encoded)
        return [_features([ids for ids, _ in pair], [prompt for _, prompt in pair]) for pair in texts]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Keeps the start of each text; a completion that loses its end no longer teaches to stop."""
        cut = [(list(features.columns[ids_column(role)])[:max_length]) for role in PAIR]
        return _features(cut, [int(count) for count in features.columns[PROMPT]])

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            pairs = [row[0] for row in rows]
            texts = [
                (encoded[ids_column(role)][i], int(encoded[PROMPT][i][place]))
                for place, role in enumerate(PAIR)
                for i in pairs
            ]
            return with_reference(completions_batch(texts, processor.pad_token_id), encoded, pairs)

        return collate

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        return dpo_losses(self.log_ratios(model, batch), self._beta, label_smoothing).sum()

    def predictions(self, model: Any, batch: Batch) -> Tensor:
        """Rewards that the model implies, up to one number for each prompt."""
        return self._beta * self.log_ratios(model, batch)

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> PairScores:
        return PairScores(encoded)


def dpo_losses(log_ratios: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Of (2 × pairs,) log-ratios, the chosen ones first: one loss a pair (equation 7 of the paper).

    With smoothing, that share of the pairs is taken to be labelled the wrong way round.
    """
    chosen, rejected = log_ratios.chunk(2)
    ahead = beta * (chosen - rejected)
    right = functional.logsigmoid(ahead) * (1 - label_smoothing)
    return -(right + functional.logsigmoid(-ahead) * label_smoothing)


def _features(texts: list[list[int]], prompts: list[int]) -> Features:
    """A pair of which a text has no completion left, or whose texts do not differ, has nothing to teach."""
    whole = all(len(text) > prompt for text, prompt in zip(texts, prompts, strict=True))
    columns = {ids_column(role): text for role, text in zip(PAIR, texts, strict=True)}
    targets = int(whole and texts[0] != texts[1])
    return Features({**columns, PROMPT: prompts}, sum(map(len, texts)), targets, max(map(len, texts)))
