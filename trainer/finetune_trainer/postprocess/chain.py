"""The steps of a job, one after another: each artifact is read back, evaluated, described, sealed and uploaded."""

import gc
import importlib.metadata
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.postprocess import MAKES, PostprocessStep, artifact_uri
from finetune_api.reports import STEP_DIGITS, StepResult
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.export.artifact import seal
from finetune_trainer.export.publish import Exporter, evaluated_on, upload_artifact
from finetune_trainer.loop.evaluation import Evaluator
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.postprocess.members import Member
from finetune_trainer.postprocess.passed import Passed
from finetune_trainer.postprocess.source import CPU, Source
from finetune_trainer.postprocess.steps import write_step
from finetune_trainer.postprocess.suitability import needed
from finetune_trainer.report.files import ReportContext, write_reports
from finetune_trainer.tasks.task import Packing, Task

log = logging.getLogger(__name__)

LIBRARY = {"Full": "transformers", "Quantized": "transformers", "Onnx": "onnx", "Tflite": "tflite", "Adapter": "peft"}
"""What loads a format, in the words of the Hub."""


@dataclass(frozen=True)
class Postprocessing:
    """Everything that the steps of one run share. Rank 0 alone runs it: no step needs the others."""

    exporter: Exporter
    data: PreparedData
    evaluator: Evaluator
    trained: Evaluation
    """Of the model as it was trained."""
    reports: ReportContext
    passed: Passed
    members: Sequence[Member] = ()
    """Other models that the first step averages with."""

    @property
    def task(self) -> Task:
        """Without packing: what other engines run takes one example a row."""
        task = self.exporter.task
        return task.unpacked() if isinstance(task, Packing) else task

    def run(self, scratch: Path) -> list[StepResult]:
        """Every step of the job, in order; [] when it has none.

        Raises:
            ConfigurationError: A step does not fit this model.
            Superseded, StorageError: As `upload_artifact` does.
        """
        steps = self.exporter.config.postprocess
        if not steps:
            return []
        shutil.rmtree(scratch, ignore_errors=True)
        source = self._trained_artifact()
        changes: list[str] = []
        results = []
        for step in steps:
            gc.collect()
            source, result = self._step(step, source, scratch / step.title, changes)
            results.append(result)
        return results

    def _step(
        self, step: PostprocessStep, source: Source, target: Path, changes: list[str]
    ) -> tuple[Source, StepResult]:
        changes.append(write_step(step, source, target))
        made = replace(source, folder=target, description=self._description(step, source.description))
        (target / DESCRIPTION_FILE).write_text(
            made.description.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        )
        evaluation = self._evaluate(made)
        library = LIBRARY[made.description.format]
        write_reports(target, self.reports, self._report(step, source, made, evaluation), library, changes)
        digest = seal(target)
        uri = artifact_uri(self.exporter.config.output, step.title)
        upload_artifact(self.exporter.config, target, uri)
        metrics = {name: round(value, STEP_DIGITS) for name, value in evaluation.metrics.items()}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        log.info("%s: %s %s  %s", step.title, changes[-1], shown, uri)
        description = made.description
        return made, StepResult(name=step.title, artifact_digest=digest, format=description.format, metrics=metrics)

    def _trained_artifact(self) -> Source:
        exporter = self.exporter
        text = (exporter.scratch / DESCRIPTION_FILE).read_bytes()
        return Source(
            folder=exporter.scratch,
            description=ArtifactDescription.model_validate_json(text),
            base=exporter.base,
            task=self.task,
            processor=exporter.processor,
            examples=self._examples(),
            training_examples=self._training_examples,
            device=self.evaluator.device,
            trust_remote_code=exporter.config.model.trust_remote_code,
            passed=self.passed,
            members=self.members,
            validate=self._validate,
        )

    def _examples(self) -> list[Batch]:
        """Two batches of different sizes and lengths, none of one row: a graph would take its size for a constant."""
        encoded = self.data.held_out[1] if self.data.held_out else self.data.train
        scored = np.flatnonzero(encoded.targets)  # of the others a cut left nothing to compare
        by_length = scored[np.argsort(encoded.lengths[scored], kind="stable")].tolist()
        collate = self.task.collator(self.exporter.processor)
        few, more = [by_length[0], by_length[-1]], [*by_length[:2], by_length[len(by_length) // 2]]
        return [collate(encoded, [[index] for index in rows]) for rows in (few, more)]

    def _training_examples(self, count: int) -> list[Batch]:
        """Spread over the data, which may be in some order."""
        encoded = self.data.train
        collate = self.task.collator(self.exporter.processor)
        count = min(count, len(encoded))
        return [collate(encoded, [[place * len(encoded) // count]]) for place in range(count)]

    def _validate(self, model: Any) -> dict[str, float]:
        """On validation data: the test data decides nothing but the gates."""
        evaluator = replace(self.evaluator, task=self.task, precision="Float32")
        metrics = evaluator.evaluate(model.to(evaluator.device), self.data.validation).metrics
        model.cpu()
        return metrics

    def _description(self, step: PostprocessStep, before: ArtifactDescription) -> ArtifactDescription:
        versions = {name: importlib.metadata.version(name) for name in needed(step)}
        return before.model_copy(
            update={
                "format": MAKES[step.kind],
                "base_model": None,
                "quantization": None,
                # A .tflite file has one length.
                "positions": before.max_length if step.tflite else before.positions,
                "versions": {**before.versions, **versions},
            }
        )

    def _evaluate(self, made: Source) -> Evaluation:
        """As it will be served: from its files, quantized and converted models on the host."""
        if not self.data.held_out:
            return Evaluation({}, {})
        device = CPU if made.description.format in ("Onnx", "Tflite", "Quantized") else self.evaluator.device
        model = made.model().to(device)
        evaluator = replace(self.evaluator, task=self.task, precision="Float32", device=device)
        return evaluator.evaluate(model, self.data.held_out[1])

    def _report(self, step: PostprocessStep, source: Source, made: Source, evaluation: Evaluation) -> dict[str, Any]:
        return {
            "task": self.exporter.config.task,
            "step": step.title,
            **evaluated_on(self.data),
            "metrics": evaluation.metrics,
            "trainedMetrics": self.trained.metrics,
            "modelBytes": model_bytes(made.folder),
            "modelBytesBefore": model_bytes(source.folder),
            **evaluation.details,
        }


def model_bytes(folder: Path) -> int:
    """Size of the weights."""
    kinds = (".safetensors", ".onnx", ".data", ".tflite", ".bin")
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix in kinds)
