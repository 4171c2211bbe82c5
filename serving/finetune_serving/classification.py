"""Classifying texts with a sequence classification model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import Row, Tensor, texts_within
from finetune_serving.served_names import TEXT_INPUT

Encoding = Mapping[str, list[int]]


@dataclass(frozen=True)
class ClassPrediction:
    """The best class of an input, and the probability of every class."""

    label: str
    scores: list[float]


def class_predictions(logits: torch.Tensor, labels: Sequence[str]) -> list[ClassPrediction]:
    """One a row of `logits`, (inputs, classes)."""
    scores = torch.softmax(logits.float(), dim=-1).cpu()
    best = scores.argmax(dim=-1).tolist()
    return [ClassPrediction(labels[index], row) for index, row in zip(best, scores.tolist(), strict=True)]


def class_tensors(predictions: Sequence[ClassPrediction], labels: list[str]) -> dict[str, Tensor]:
    """`label`, and `scores` in the order of `labels`."""
    count = len(predictions)
    return {
        "label": {"datatype": "BYTES", "shape": [count], "data": [p.label for p in predictions]},
        "scores": {
            "datatype": "FP32",
            "shape": [count, len(labels)],
            "parameters": {"labels": labels},
            "data": [score for p in predictions for score in p.scores],
        },
    }


class TextClassifier:
    """One class for a whole text."""

    inputs = (TEXT_INPUT,)
    warm_up: Row = {TEXT_INPUT: "warm-up"}

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._tokenizer = loaded.processor
        self._limit = loaded.max_length
        self._labels = list(loaded.description.labels or [])

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[Encoding]:
        texts = [row[TEXT_INPUT] for row in rows]
        limit = self._limit if truncate else None
        # As in training: XLNet's types of tokens are not what it takes where it is given none.
        encoded = self._tokenizer(texts, truncation=truncate, max_length=limit, return_token_type_ids=False)
        encodings: list[Encoding] = [{key: encoded[key][index] for key in encoded} for index in range(len(texts))]
        return texts_within(encodings, self._limit)

    @torch.inference_mode()
    def predict(self, encodings: Sequence[Encoding]) -> list[ClassPrediction]:
        batch = self._tokenizer.pad([dict(encoding) for encoding in encodings], return_tensors="pt")
        return class_predictions(self._model(**batch.to(self._model.device)).logits, self._labels)

    def outputs(self, predictions: Sequence[ClassPrediction]) -> dict[str, Tensor]:
        return class_tensors(predictions, self._labels)
