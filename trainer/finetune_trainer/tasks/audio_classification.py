"""One class for a whole recording."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES

from finetune_api.augmentation import AudioAugmentation
from finetune_api.dataset import Columns
from finetune_serving.recordings import cut, decode, features
from finetune_trainer.data.batches import Draws
from finetune_trainer.data.encoded import LABEL, Encoded, Features
from finetune_trainer.data.examples import Example, label_column
from finetune_trainer.data.media import media_column
from finetune_trainer.data.reading import Row
from finetune_trainer.data.recordings import altered_recording, checked_recording, padded_features
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.tasks.classes import CLASSIFIER_HEADS
from finetune_trainer.tasks.file_classification import FileClassification
from finetune_trainer.tasks.file_task import FILE, file_of

KEPT = "kept"
"""The column of how many milliseconds of a recording are used."""


class AudioClassification(FileClassification):
    """Columns `audio` (a path) and `label`, or one folder a class."""

    name = "AudioClassification"
    unit = "milliseconds"
    model_class = AutoModelForAudioClassification
    model_types = MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES
    heads = (*CLASSIFIER_HEADS, "projector", "layer_weights")

    def __init__(self, columns: Columns, augmentation: AudioAugmentation | None = None) -> None:
        self._audio = columns.audio or "audio"
        self._label = columns.label or "label"
        self._augmentation = augmentation
        self.alters = augmentation is not None

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Any:
        try:
            return AutoFeatureExtractor.from_pretrained(
                str(folder), trust_remote_code=trust_remote_code, local_files_only=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigurationError(
                f"model.source: {folder} has no usable preprocessor_config.json, which says how recordings are read: "
                f"{error}"
            ) from error

    def read(self, row: Row) -> Example:
        label = label_column(row, self._label, "dataset.columns.label")
        path = media_column(row, self._audio, "dataset.columns.audio")
        identity, recording = checked_recording(path, row)
        return Example(identity, row.where, label, target=recording)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        places = {label: index for index, label in enumerate(labels)}
        return [
            Features(
                {FILE: e.target.path.encode(), KEPT: [e.target.milliseconds], LABEL: [places[str(e.label)]]},
                e.target.milliseconds,
            )
            for e in examples
        ]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """The beginning of the recording."""
        return replace(features, columns={**features.columns, KEPT: [max_length]}, length=max_length)

    def inputs(
        self, encoded: Encoded, examples: list[int], processor: Any, draws: Sequence[Draws], readers: ThreadPoolExecutor
    ) -> dict[str, Tensor]:
        def read(example: int, drawn: Draws) -> dict[str, np.ndarray]:
            rate = processor.sampling_rate
            samples = cut(decode(Path(file_of(encoded, example)), rate), int(encoded[KEPT][example][0]), rate)
            if drawn is not None and self._augmentation is not None:
                samples = altered_recording(samples, self._augmentation, drawn)
            return features(samples, processor)

        return padded_features(list(readers.map(read, examples, draws)))
