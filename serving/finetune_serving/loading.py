"""From a verified artifact to a model in memory that answers."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModelForAudioClassification,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForObjectDetection,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    CompressedTensorsConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from finetune_api.artifact import DESCRIPTION_FILE, ArtifactDescription
from finetune_api.exit_codes import ExitCode
from finetune_serving.adapters import as_served, read_adapter
from finetune_serving.artifact import Artifact, base_folder, local_folder, verify
from finetune_serving.conversions import RUNTIMES, converted_model
from finetune_serving.multi_task_model import MultiTaskModel
from finetune_serving.padding import tell_padding
from finetune_serving.recommender import Catalogue, Recommender
from finetune_serving.recordings import window
from finetune_serving.settings import ModelSource
from finetune_serving.startup import StartupError

log = logging.getLogger(__name__)

MODEL_CLASSES: dict[str, Any] = {
    "AudioClassification": AutoModelForAudioClassification,
    "ImageClassification": AutoModelForImageClassification,
    "MultiTask": MultiTaskModel,
    "ObjectDetection": AutoModelForObjectDetection,
    "PreferenceOptimization": AutoModelForCausalLM,
    "QuestionAnswering": AutoModelForQuestionAnswering,
    "ReinforcementLearning": AutoModelForCausalLM,
    "RewardModeling": AutoModelForSequenceClassification,
    "Recommendation": Recommender,
    "Seq2Seq": AutoModelForSeq2SeqLM,
    "TextClassification": AutoModelForSequenceClassification,
    "TextGeneration": AutoModelForCausalLM,
    "TokenClassification": AutoModelForTokenClassification,
}
ON_IMAGES = ("ImageClassification", "ObjectDetection")
ON_RECORDINGS = ("AudioClassification",)

QUANTIZERS = {"torchao": "torchao", "compressed-tensors": "compressed_tensors"}
"""What reads quantized weights, by the method that config.json names."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, on its device, with what turns requests into its inputs."""

    model: Any
    processor: Any
    description: ArtifactDescription
    max_length: int
    """Longest input that the model can take: tokens, or milliseconds of a recording."""

    @property
    def longest_text(self) -> int:
        """The same, where longer texts come in windows: as long as those that it was trained on."""
        trained = self.description.max_length if self.description.windows else None
        return min(trained or self.max_length, self.max_length)

    def of_subtask(self, name: str) -> "LoadedModel":
        """One head of a multi-task model, as a model of its own."""
        about = (self.description.subtasks or {})[name]
        own = self.description.model_copy(update={"task": about.task, "labels": about.labels, "subtasks": None})
        return replace(self, model=self.model.subtask(name), description=own)


def _quiet_libraries() -> None:
    """Of a base model the head is missing by design, and comes with the adapter; the files are verified by digest."""
    disable_progress_bar()
    set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")


def load(source: ModelSource, artifact: Artifact) -> LoadedModel:
    """Load a verified artifact. Raises StartupError."""
    _quiet_libraries()
    try:
        model, processor = _load(source, artifact)
        model = model.to(_device()).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise StartupError(f"the model does not fit in memory: {error}", ExitCode.OUT_OF_MEMORY) from error
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise StartupError(f"{artifact.folder}: cannot be loaded: {error}") from error
    limit = artifact.description.max_length or 512
    if isinstance(processor, PreTrainedTokenizerBase):
        _give_padding(model, processor)
        limit = _max_length(processor, artifact.description)
    elif artifact.description.task in ON_RECORDINGS:
        limit = window(processor) or limit
    return LoadedModel(model, processor, artifact.description, limit)


def _load(source: ModelSource, artifact: Artifact) -> tuple[Any, Any]:
    if artifact.description.format != "Adapter":
        processor = _processor(artifact.folder, artifact.description.task, source.trust_remote_code)
        return _whole_model(source, artifact), processor
    base = _base_folder(source, artifact.description)
    own = any((artifact.folder / name).exists() for name in ("tokenizer_config.json", "preprocessor_config.json"))
    processor = _processor(artifact.folder if own else base, artifact.description.task, source.trust_remote_code)
    trained = _modules_of_adapter(artifact.folder)
    model = _model(base, artifact.description, source.trust_remote_code, elsewhere=trained)
    adapted = _with_adapter(model, artifact.folder, processor)
    return as_served(adapted, quantized=bool(artifact.description.quantization)), processor


def _whole_model(source: ModelSource, artifact: Artifact) -> Any:
    needed = _runtime(artifact)
    if needed and importlib.util.find_spec(needed) is None:
        extra = "tflite" if needed == RUNTIMES["Tflite"] else "postprocess"
        raise StartupError(
            f"{source.uri}: a model of the format {artifact.description.format} needs {needed}, which this server does "
            f"not have; use an image with finetune-operator[{extra}]"
        )
    if converted := converted_model(artifact.description, artifact.folder, source.trust_remote_code):
        return converted
    return _model(artifact.folder, artifact.description, source.trust_remote_code)


def _runtime(artifact: Artifact) -> str | None:
    """What runs a format that PyTorch alone cannot."""
    if artifact.description.format != "Quantized":
        return RUNTIMES.get(artifact.description.format)
    return QUANTIZERS.get(quantization_method(artifact.folder) or "")


def quantization_method(folder: Path) -> str | None:
    """How the weights of a folder are quantized, as its config.json says."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return (config.get("quantization_config") or {}).get("quant_method")


def _modules_of_adapter(folder: Path) -> list[str]:
    """Modules that the adapter brings whole, such as a new classifier."""
    from peft import PeftConfig

    return list(getattr(PeftConfig.from_pretrained(str(folder)), "modules_to_save", None) or ())


def _base_folder(source: ModelSource, description: ArtifactDescription) -> Path:
    named = description.base_model
    uri = source.base_uri or (named.source if named else None)
    if uri is None or uri.startswith("modelversion://"):
        raise StartupError(
            f"{source.uri}: an adapter needs its base model; pass --base-model (trained on {uri or 'unknown'})"
        )
    # The artifact has the commit that was trained on; what was asked for may be a branch that has moved since.
    revision = (named.revision if named and named.source == uri else None) or source.base_revision
    if source.base_digest:
        folder = local_folder(uri, source.scratch)
        verify(folder, source.base_digest)
    else:
        folder = base_folder(uri, source.scratch, revision, source.trust_remote_code)
    if not (folder / "config.json").exists():
        raise StartupError(f"{uri}: the base model has no config.json at {folder}; check --base-model")
    return folder


def _processor(folder: Path, task: str, trust_remote_code: bool) -> Any:
    """What the task's requests go through on their way to the model."""
    if task in ON_IMAGES:
        # As the trainer: torchvision would give other pixels.
        return AutoImageProcessor.from_pretrained(
            folder, backend="pil", trust_remote_code=trust_remote_code, local_files_only=True
        )
    if task == "Recommendation":
        return Catalogue.load(folder)
    if task in ON_RECORDINGS:
        return AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    return _tokenizer(folder, trust_remote_code)


def _tokenizer(folder: Path, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=trust_remote_code, local_files_only=True
    )
    # Batches are padded after encoding: the fast path would change the tokenizer while another thread decodes.
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True
    return tokenizer


def _model(
    folder: Path, description: ArtifactDescription, trust_remote_code: bool, elsewhere: Sequence[str] = ()
) -> Any:
    """The model with all of its weights, but for those of the modules that come from `elsewhere`."""
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    kind = MODEL_CLASSES[description.task]
    if labels := description.labels:
        _check_label_count(folder, description, options)
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: index for index, label in enumerate(labels)}
    elif description.heads:
        options["heads"] = description.heads
    elif description.outputs:
        options["num_labels"] = description.outputs
    if description.quantization:
        # An adapter fits the weights that it was trained on, which are those after rounding.
        options["quantization_config"] = BitsAndBytesConfig.from_dict(description.quantization)
        options["device_map"] = {"": _device()}
    elif quantization_method(folder) == "compressed-tensors":
        # Widened now, rather than by the first request.
        options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    # The base of an adapter may have been a classifier of other classes.
    options["ignore_mismatched_sizes"] = bool(elsewhere)
    model, report = kind.from_pretrained(folder, dtype=_precision(), output_loading_info=True, **options)
    # transformers only warns, and makes up what is missing.
    made_up = {
        *report["missing_keys"],
        *(key[0] if isinstance(key, tuple) else key for key in report["mismatched_keys"]),
    }
    for module in model.modules():
        # bitsandbytes would pack 4-bit weights anew for some processors, and round their scales further.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    missing = [key for key in sorted(made_up) if not set(key.split(".")) & set(elsewhere)]
    if missing:
        raise StartupError(f"{folder}: weights are missing: {', '.join(missing[:5])}; export the model again")
    return model


def _check_label_count(folder: Path, description: ArtifactDescription, options: dict[str, Any]) -> None:
    count = AutoConfig.from_pretrained(folder, **options).num_labels
    if description.format == "Full" and count != len(description.labels or ()):
        raise StartupError(
            f"{folder / DESCRIPTION_FILE}: names {len(description.labels or ())} labels, the model has {count}",
            ExitCode.DATA,
        )


def _with_adapter(model: Any, folder: Path, processor: Any) -> Any:
    if isinstance(processor, PreTrainedTokenizerBase):
        vocabulary = len(processor)
        if vocabulary > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(vocabulary)
    return read_adapter(model, folder)


def _precision() -> torch.dtype | str:
    """As stored on a GPU; processors compute float32 fastest, and it is what the export was verified in."""
    return "auto" if torch.cuda.is_available() else torch.float32


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _give_padding(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Generators often have no padding token; the mask hides whatever stands there."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tell_padding(model.config, tokenizer.pad_token_id)


def _max_length(tokenizer: PreTrainedTokenizerBase, description: ArtifactDescription) -> int:
    # A tokenizer without a limit says 1e30.
    limits = [n for n in (description.positions, tokenizer.model_max_length) if n and n < 10**9]
    return min(limits) if limits else description.max_length or 512
