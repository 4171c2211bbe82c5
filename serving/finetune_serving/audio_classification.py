"""Classifying recordings."""

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import soundfile
import torch

from finetune_serving.classification import ClassPrediction, class_predictions, class_tensors
from finetune_serving.file_input import file_content
from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import BadInput, InputTooLong, Row, Tensor
from finetune_serving.recordings import UnreadableRecording, cut, decode, features, milliseconds
from finetune_serving.served_names import AUDIO_INPUT

Encoding = dict[str, np.ndarray]


def _silence() -> str:
    content = BytesIO()
    soundfile.write(content, np.zeros(8000, dtype=np.float32), 16000, format="WAV")
    return base64.b64encode(content.getvalue()).decode()


class AudioClassifier:
    """Recordings are files of any usual format, in base64."""

    inputs = (AUDIO_INPUT,)

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._extractor = loaded.processor
        self._limit = loaded.max_length
        self._labels = list(loaded.description.labels or [])
        self.warm_up: Row = {AUDIO_INPUT: _silence()}

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[Encoding]:
        return [self._encoded(row[AUDIO_INPUT], index, truncate) for index, row in enumerate(rows)]

    def _encoded(self, text: str, index: int, truncate: bool) -> Encoding:
        rate = self._extractor.sampling_rate
        try:
            samples = decode(file_content(text, index, AUDIO_INPUT), rate, longest=self._limit)
        except UnreadableRecording as error:
            raise BadInput(index, AUDIO_INPUT, str(error)) from error
        if (length := milliseconds(samples, rate)) > self._limit:
            if not truncate:
                raise InputTooLong(index, length, self._limit, "milliseconds or more")
            samples = cut(samples, self._limit, rate)
        return features(samples, self._extractor)

    @torch.inference_mode()
    def predict(self, encodings: Sequence[Encoding]) -> list[ClassPrediction]:
        """Recordings of one length share a forward pass: beside padding, many speech models answer otherwise."""
        found: dict[int, ClassPrediction] = {}
        for places in _of_one_length(encodings):
            chosen = [encodings[place] for place in places]
            inputs = {name: torch.from_numpy(np.stack([e[name] for e in chosen])) for name in chosen[0]}
            logits = self._model(**{name: self._placed(tensor) for name, tensor in inputs.items()}).logits
            found |= zip(places, class_predictions(logits, self._labels), strict=True)
        return [found[place] for place in range(len(encodings))]

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        dtype = self._model.dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.to(self._model.device, dtype)

    def outputs(self, predictions: Sequence[ClassPrediction]) -> dict[str, Tensor]:
        return class_tensors(predictions, self._labels)


def _of_one_length(encodings: Sequence[Encoding]) -> list[list[int]]:
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, encoding in enumerate(encodings):
        groups.setdefault(tuple(values.shape for values in encoding.values()), []).append(place)
    return list(groups.values())
