"""From the trained model in memory to the artifact at its place."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_api.artifact import ArtifactDescription
from finetune_api.dataset import IN_WINDOWS
from finetune_api.trainer_config import TrainerConfig
from finetune_storage import open_storage
from finetune_trainer.checkpoint.fence import check_fence
from finetune_trainer.checkpoint.opening import open_backend
from finetune_trainer.data.prepare import PreparedData
from finetune_trainer.data.report import held_out_report
from finetune_trainer.errors import of_field
from finetune_trainer.export.artifact import package_versions, seal, write_artifact
from finetune_trainer.export.verification import verify_export
from finetune_trainer.methods.adaptation import Adaptation
from finetune_trainer.metrics.scores import Evaluation
from finetune_trainer.models.frozen_precision import FrozenPrecision
from finetune_trainer.models.quantization import quantization_in
from finetune_trainer.models.suitability import longest_input
from finetune_trainer.report.files import ReportContext, write_reports
from finetune_trainer.tasks.multi_task import MultiTask
from finetune_trainer.tasks.task import Task

log = logging.getLogger(__name__)

COMPARED = 4
"""Examples that the exported model must answer as the trained one does."""


def evaluated_on(data: PreparedData) -> dict[str, Any]:
    """What an evaluation report says of its data."""
    if not data.held_out:
        return {"evaluatedOn": "none"}
    part = data.held_out[0]
    return {"evaluatedOn": part, "heldOut": held_out_report(data.report, part)}


def upload_artifact(config: TrainerConfig, folder: Path, uri: str) -> None:
    """Puts a sealed folder in its place.

    Raises:
        Superseded: A newer attempt has taken over. It may have published what is there, whose digest is recorded.
        StorageError: The upload failed.
    """
    with of_field("checkpoint.storage"):
        check_fence(open_backend(config.checkpoint.storage, folder.parent), config.job.attempt)
    with of_field("output.storage"):
        open_storage(uri).upload(folder)


@dataclass(frozen=True)
class Exporter:
    """Writes, verifies and uploads; rank 0 alone."""

    config: TrainerConfig
    task: Task
    processor: Any
    base: Path
    max_length: int
    scratch: Path
    frozen: FrozenPrecision

    def export(
        self,
        adaptation: Adaptation,
        data: PreparedData,
        evaluation: Evaluation,
        baseline: dict[str, Any],
        reports: ReportContext,
    ) -> str:
        """Publishes the artifact at `output` and returns its digest.

        Raises:
            ExportError: The files do not hold the trained model; nothing was uploaded.
            Superseded, StorageError: As `upload_artifact` does.
        """
        shutil.rmtree(self.scratch, ignore_errors=True)
        model = adaptation.model.eval()  # P-tuning runs its network once more to save what it makes
        write_artifact(self.scratch, model, self.processor, self._description(data, model))
        adaptation.complete_export(self.scratch)
        report = self._evaluation_report(data, evaluation, baseline)
        write_reports(self.scratch, reports, report, "peft" if self.config.method.makes_adapter else "transformers")
        self._verify(model, data)
        digest = seal(self.scratch)
        upload_artifact(self.config, self.scratch, self.config.output)
        log.info("artifact %s, %s", self.config.output, digest)
        return digest

    def _description(self, data: PreparedData, model: Any) -> ArtifactDescription:
        adapter, quantization = self.config.method.makes_adapter, quantization_in(model)
        heads = self.task.described(data.labels) if isinstance(self.task, MultiTask) else None
        return ArtifactDescription(
            task=self.config.task,
            format="Adapter" if adapter else "Full",
            labels=None if heads else data.labels or None,
            subtasks=heads,
            base_model=self.config.model if adapter else None,
            quantization=quantization.to_dict() if quantization else None,
            max_length=self.max_length,
            positions=self._positions(model),
            windows=self.config.dataset.over_length == "Split" and self.config.task in IN_WINDOWS,
            versions=package_versions(),
        )

    def _positions(self, model: Any) -> int | None:
        positions = longest_input(model.config)
        return positions and positions - self.config.method.virtual_tokens

    def _evaluation_report(
        self, data: PreparedData, evaluation: Evaluation, baseline: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "task": self.config.task,
            **evaluated_on(data),
            "metrics": evaluation.metrics,
            "baselineMetrics": baseline,
            **evaluation.details,
        }

    def _verify(self, model: Any, data: PreparedData) -> None:
        encoded = data.held_out[1] if data.held_out else data.train
        batch = self.task.collator(self.processor)(encoded, [[index] for index in encoded.shortest(COMPARED)])
        adapter = self.config.method.makes_adapter
        difference = verify_export(
            self.scratch,
            self.base if adapter else None,
            model,
            self.task,
            batch,
            self.frozen,
            self.config.model.trust_remote_code,
        )
        log.info("the exported model answers as the trained one (greatest difference %.1e)", difference)
