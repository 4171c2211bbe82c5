"""The answers of a trained classifier to the training examples: what distillation learns from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from finetune_api.distillation import CLASSIFYING, TEACHING_FORMATS, Distillation
from finetune_api.manifest import ManifestError, read_manifest
from finetune_serving.artifact import Artifact, open_artifact
from finetune_serving.classification import TEXT_INPUT, TextClassifier
from finetune_serving.loading import load
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError
from finetune_trainer.data.chunks import chunks
from finetune_trainer.data.examples import Example
from finetune_trainer.errors import ConfigurationError, of_field
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_artifact

FIELD = "training.distillation.teacher"
AT_ONCE = 64
"""Texts in one forward pass."""
LEAST = 1e-12
"""Of a probability, so that it has a logarithm."""


@dataclass(frozen=True)
class Teacher:
    """An artifact on the local disk. It answers by the server's code, with its own tokenizer and length."""

    folder: Path
    digest: str
    """Of its manifest; equal digests give equal answers."""

    def taught(self, examples: Iterable[Example], labels: list[str]) -> Iterator[Example]:
        """The same examples with the teacher's log-probabilities, in the order of `labels`.

        Raises:
            ConfigurationError: It is damaged, or no classifier of these classes.
        """
        source = ModelSource(uri=str(self.folder), scratch=self.folder)
        try:
            artifact = open_artifact(source)
            _check(artifact, labels)
            classifier = TextClassifier(load(source, artifact))
        except StartupError as error:
            raise ConfigurationError(f"{FIELD}: {error}") from error
        own = artifact.description.labels or []
        order = [own.index(label) for label in labels]
        return (replace(example, soft_label=answer[order]) for example, answer in _answered(classifier, examples))


def open_teacher(distillation: Distillation, revision: str | None, run: Run) -> Teacher:
    """The teacher that a job names, fetched once a node.

    Raises:
        ConfigurationError: The place holds no artifact.
    """
    with of_field(FIELD):
        folder = fetch_artifact(distillation.teacher, run, revision)
    try:
        return Teacher(folder, read_manifest(folder)[1])
    except ManifestError as error:
        raise ConfigurationError(
            f"{FIELD}: {distillation.teacher} is no artifact of this trainer ({error}); name the folder that holds "
            "manifest.json and finetune.json"
        ) from error


def agreement(examples: Iterable[Example], labels: list[str]) -> float:
    """Share of the examples whose label is the teacher's too."""
    answers = ((example.label, example.soft_label) for example in examples if example.soft_label is not None)
    return float(np.mean([labels[int(answer.argmax())] == label for label, answer in answers]))


def _check(artifact: Artifact, labels: list[str]) -> None:
    about = artifact.description
    if about.task != CLASSIFYING:
        raise StartupError(f"is a model for {about.task}, not {CLASSIFYING}; name another")
    if about.format not in TEACHING_FORMATS:
        raise StartupError(f"has the format {about.format}, which needs its base model beside it; merge it first")
    if sorted(about.labels or []) != labels:
        raise StartupError(
            f"knows the classes {_named(about.labels or [])}, and the data has {_named(labels)}; they must be the same"
        )


def _named(labels: list[str]) -> str:
    return ", ".join(labels[:10]) + (f" and {len(labels) - 10} more" if len(labels) > 10 else "")


def _answered(classifier: TextClassifier, examples: Iterable[Example]) -> Iterator[tuple[Example, np.ndarray]]:
    for some in chunks(examples, AT_ONCE):
        rows = [{TEXT_INPUT: example.content} for example in some]
        predictions = classifier.predict(classifier.encode(rows, truncate=True))
        for example, prediction in zip(some, predictions, strict=True):
            yield example, np.log(np.maximum(np.asarray(prediction.scores, dtype=np.float32), LEAST))
