"""Classifying texts with a sequence classification model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from finetune_serving.loading import LoadedModel

Encoding = Mapping[str, list[int]]


class TextTooLong(ValueError):
    """A text has more tokens than the model can take."""

    def __init__(self, index: int, tokens: int, limit: int) -> None:
        super().__init__(f"text {index} has {tokens} tokens, the model takes {limit}")
        self.index = index
        self.tokens = tokens
        self.limit = limit


@dataclass(frozen=True)
class Prediction:
    """The best class of a text, and the probability of every class."""

    label: str
    scores: list[float]


class Classifier:
    """`encode` belongs to the tokenizer's thread, `predict` to the model's."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.tokenizer
        self._limit = loaded.max_length
        self.labels = list(loaded.description.labels or [])

    def encode(self, texts: Sequence[str], truncate: bool = False) -> list[Encoding]:
        """Token ids of each text. Raises TextTooLong, unless `truncate` cuts what is too long."""
        encoded = self._tokenizer(list(texts), truncation=truncate, max_length=self._limit if truncate else None)
        encodings: list[Encoding] = [{key: encoded[key][index] for key in encoded} for index in range(len(texts))]
        for index, encoding in enumerate(encodings):
            if len(encoding["input_ids"]) > self._limit:
                raise TextTooLong(index, len(encoding["input_ids"]), self._limit)
        return encodings

    @torch.inference_mode()
    def predict(self, encodings: Sequence[Encoding]) -> list[Prediction]:
        """One prediction an encoding, in one forward pass."""
        batch = self._tokenizer.pad([dict(encoding) for encoding in encodings], return_tensors="pt")
        logits = self._model(**batch.to(self._model.device)).logits
        scores = torch.softmax(logits.float(), dim=-1).cpu()
        best = scores.argmax(dim=-1).tolist()
        return [Prediction(self.labels[index], row) for index, row in zip(best, scores.tolist(), strict=True)]
