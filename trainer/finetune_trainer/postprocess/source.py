"""What a step starts from: the artifact of the step before, read from its files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, CompressedTensorsConfig

from finetune_api.artifact import ArtifactDescription
from finetune_serving.adapters import merged, read_adapter
from finetune_serving.conversions import converted_model
from finetune_serving.loading import quantization_method
from finetune_serving.padding import tell_padding
from finetune_trainer.data.batches import Batch
from finetune_trainer.models.quantization import keep_format
from finetune_trainer.postprocess.members import Member
from finetune_trainer.postprocess.passed import Passed
from finetune_trainer.tasks.task import Task

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Source:
    """An artifact, and what its run knows."""

    folder: Path
    description: ArtifactDescription
    base: Path
    """The base model's folder, for an adapter."""
    task: Task
    processor: Any
    examples: list[Batch]
    """Held-out examples to compare answers on, in batches of different sizes."""
    training_examples: Callable[[int], list[Batch]]
    """That many of the training examples, one a batch, so that none is padded."""
    validate: Callable[[Any], Mapping[str, float]]
    """Metrics of a model on validation data."""
    device: torch.device = CPU
    """What there is to compute on while a step is done."""
    trust_remote_code: bool = False
    passed: Passed | None = None
    """The checkpoints of the training."""
    members: Sequence[Member] = ()
    """Other models to average with."""

    def model(self) -> Any:
        """What answers as the artifact does: read from its files alone, on the host."""
        if converted := converted_model(self.description, self.folder, self.trust_remote_code):
            return converted
        return self.adapted_model() if self.description.format == "Adapter" else self.whole_model()

    def whole_model(self) -> Any:
        """A model that is no adapter, in float32 where it is not quantized."""
        options = self._options()
        if quantization_method(self.folder) == "compressed-tensors":
            # As the server. By itself it is widened by the first call of the whole model, and what writes one text for
            # another calls the encoder first.
            options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
        return self.task.model_class.from_pretrained(str(self.folder), **options).eval()

    def adapted_model(self) -> Any:
        """The base model with the adapter beside it; a base that was held in 4 bits is widened to float32."""
        options = self._options()
        if self.description.outputs:
            options["num_labels"] = self.description.outputs
        if self.description.heads:
            options["heads"] = self.description.heads
        quantization = self.description.quantization
        if quantization:
            options |= {
                "quantization_config": BitsAndBytesConfig.from_dict(quantization),
                "device_map": {"": CPU},
            }
        # The head may have been one of other classes: the adapter brings its own.
        base = self.task.model_class.from_pretrained(str(self.base), ignore_mismatched_sizes=True, **options)
        if getattr(self.processor, "pad_token_id", None) is not None:
            tell_padding(base.config, self.processor.pad_token_id)
        if quantization:
            base = keep_format(base).dequantize(dtype=torch.float32)
        return read_adapter(base, self.folder).eval()

    def merged_model(self) -> Any:
        """The base model with the adapter added to its weights."""
        model = merged(self.adapted_model())
        # A config that still tells of 4 bits would make the next reader round the weights again.
        if getattr(model.config, "quantization_config", None) is not None:
            del model.config.quantization_config
        return model

    def _options(self) -> dict[str, Any]:
        return {
            "dtype": torch.float32,
            "local_files_only": True,
            "trust_remote_code": self.trust_remote_code,
        }
