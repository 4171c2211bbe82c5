"""Whether the steps can be done at all, asked before anything is trained."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from finetune_api.postprocess import FOUR_BITS, PostprocessStep
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.models.quantization import OUTPUT_HEADS
from finetune_trainer.postprocess.awq import check_scaled
from finetune_trainer.postprocess.four_bits import DEFAULT_GROUP_SIZE, check_group_size
from finetune_trainer.postprocess.structures import check_structure, without_parts
from finetune_trainer.unquantizable import MOST_LEFT

ONNX = ("onnx", "onnxscript", "onnxruntime")


def needed(step: PostprocessStep) -> tuple[str, ...]:
    """Distributions that a step works with."""
    if step.quantize:
        return ("compressed-tensors",) if step.quantize.scheme in FOUR_BITS else ("torchao",)
    if step.tflite:
        return ("litert-torch", "ai-edge-litert")
    return ONNX if step.onnx else ()


def check_packages(steps: Sequence[PostprocessStep]) -> None:
    """Raises ConfigurationError when this trainer lacks what a step needs."""
    for place, step in enumerate(steps):
        missing = [name for name in needed(step) if importlib.util.find_spec(name.replace("-", "_")) is None]
        if missing:
            extra = "tflite" if step.tflite else "postprocess"
            raise ConfigurationError(
                f"postprocess[{place}].{step.kind} needs {', '.join(missing)}, which this trainer does not have: use "
                f"an image with finetune-operator[{extra}], or remove the step"
            )


def check_architecture(steps: Sequence[PostprocessStep], config: Any) -> None:
    """Raises ConfigurationError when a step works on the parts of a model, and those of this one are not known."""
    for place, step in enumerate(steps):
        path = f"postprocess[{place}].{step.kind}"
        if step.prune and step.prune.pattern == "Structured":
            check_structure(config, step.prune, path)
            config = without_parts(config, step.prune)
        if step.quantize and step.quantize.scheme == "Int4Awq":
            check_scaled(config, path)


def check_layers(steps: Sequence[PostprocessStep], model: Any, heads: Sequence[str]) -> None:
    """Raises ConfigurationError when the model has no layers that a step works on."""
    layers, config = named_linear_layers(model, heads), model.config
    for place, step in enumerate(steps):
        path = f"postprocess[{place}].{step.kind}"
        if step.kind in ("prune", "quantize") and not layers:
            raise ConfigurationError(
                f"{path}: a model of the type {model.config.model_type!r} holds its weights otherwise than in linear "
                "layers; remove the step"
            )
        if step.kind in ("prune", "quantize"):
            _check_experts(step, model, path)
        if step.prune and step.prune.pattern == "TwoOfFour":
            odd = next((layer.in_features for layer in layers.values() if layer.in_features % 4), None)
            if odd:
                raise ConfigurationError(
                    f"{path}.pattern: TwoOfFour needs layers with a multiple of 4 inputs, and one has {odd}; set "
                    "Unstructured"
                )
        if step.quantize and step.quantize.scheme not in FOUR_BITS:
            _check_readable(model, path)
        if step.quantize and step.quantize.scheme in FOUR_BITS:
            check_group_size(layers, step.quantize.group_size or DEFAULT_GROUP_SIZE, path)
        if step.prune and step.prune.pattern == "Structured":
            config = without_parts(config, step.prune)
            with torch.device("meta"):
                layers = named_linear_layers(type(model)(config), heads)  # those that the next step finds


def _check_experts(step: PostprocessStep, model: Any, path: str) -> None:
    """Transformers 5 joins the experts of a layer into one tensor, which is no linear layer: steps leave it as it is.
    Its way of reading files of single experts into that tensor fails beside layers that compressed-tensors packed."""
    kind, sizes = model.config.model_type, {name: weights.numel() for name, weights in model.named_parameters()}
    joined = sum(sizes[name] for name, weights in model.named_parameters() if ".experts." in name and weights.ndim == 3)
    if joined and step.quantize and step.quantize.scheme in FOUR_BITS:
        raise ConfigurationError(
            f"{path}.scheme: models of the type {kind!r} have experts, beside which 4 bits cannot be read again; set "
            "Int8WeightOnly, or remove the step"
        )
    if joined > MOST_LEFT * sum(sizes.values()):
        raise ConfigurationError(
            f"{path}: {joined / sum(sizes.values()):.0%} of the weights of this {kind!r} are experts, in one tensor a "
            "layer, which the step leaves as they are: it would gain little; remove it"
        )


def _check_readable(model: Any, path: str) -> None:
    """torchao 0.18 writes 8 bits of such a model, and fails as it reads them again: it splits each name at a dot."""
    loose = next((name for name in model.state_dict() if "." not in name), None)
    if loose:
        raise ConfigurationError(
            f"{path}.scheme: models of the type {model.config.model_type!r} hold {loose!r} beside their layers, with "
            "which torchao's files of 8 bits cannot be read again; set Int4WeightOnly, or convert to onnx"
        )


def named_linear_layers(model: Any, heads: Sequence[str]) -> dict[str, nn.Linear]:
    """But for the heads: they decide the output, and language models share theirs with the embeddings."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not set(name.split(".")) & {*heads, *OUTPUT_HEADS}
    }
