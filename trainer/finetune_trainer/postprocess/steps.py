"""The steps: each writes the files of a model, and says in one sentence what it did."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TorchAoConfig

from finetune_api.averaging import Average
from finetune_api.postprocess import CALIBRATED, FOUR_BITS, ONNX_WRITERS, PostprocessStep, Quantize
from finetune_api.pruning import Prune
from finetune_trainer.export.artifact import end_where_learnt
from finetune_trainer.postprocess.averaging import averaged
from finetune_trainer.postprocess.four_bits import DEFAULT_EXAMPLES, DEFAULT_GROUP_SIZE, round_layers, save_packed
from finetune_trainer.postprocess.onnx_export import to_onnx
from finetune_trainer.postprocess.onnx_seq2seq_export import to_onnx_seq2seq
from finetune_trainer.postprocess.onnx_writer_export import to_onnx_writer
from finetune_trainer.postprocess.soup import greedy, uniform
from finetune_trainer.postprocess.source import Source
from finetune_trainer.postprocess.structured_pruning import remove_parts
from finetune_trainer.postprocess.suitability import named_linear_layers
from finetune_trainer.postprocess.tflite_export import to_tflite

DEFAULT_SPARSITY = 0.3

Write = Callable[[PostprocessStep, Source, Path], str]


def write_step(step: PostprocessStep, source: Source, target: Path) -> str:
    """Writes model and processor into `target`; the sentence is for the model card.

    Raises:
        ConfigurationError: What was written answers otherwise than it may, or cannot be written.
    """
    target.mkdir(parents=True)
    if source.processor is not None:
        source.processor.save_pretrained(str(target))
    said = STEPS[step.kind](step, source, target)
    end_where_learnt(target, source.processor)
    return said


def average(step: PostprocessStep, source: Source, target: Path) -> str:
    """The mean of whole models."""
    assert step.average is not None
    if step.average.models:
        return _average_models(step.average, source, target)
    assert source.passed is not None
    model, steps = averaged(source, source.passed, step.average)
    model.save_pretrained(str(target))
    adapters = ", each adapter merged into its base first" if source.description.format == "Adapter" else ""
    return f"The weights after steps {', '.join(map(str, sorted(steps)))} were averaged{adapters}."


def _average_models(wanted: Average, source: Source, target: Path) -> str:
    chosen = greedy(source, wanted.greedy_by) if wanted.greedy_by else uniform(source)
    model, names = chosen
    model.save_pretrained(str(target))
    how = f" of {len(source.members) + 1}, chosen by {wanted.greedy_by} on validation data," if wanted.greedy_by else ""
    return f"The weights of {len(names)} models{how} were averaged: {', '.join(names)}."


def merge(step: PostprocessStep, source: Source, target: Path) -> str:
    """The adapter's update is added to each weight."""
    source.merged_model().save_pretrained(str(target))
    widened = ", whose quantized weights were widened to float32 first" if source.description.quantization else ""
    return f"The adapter was merged into its base model{widened}."


def prune(step: PostprocessStep, source: Source, target: Path) -> str:
    """The smallest weights become zero, or the least important parts go."""
    assert step.prune is not None
    model = source.whole_model()
    if step.prune.pattern == "Structured":
        examples = source.training_examples(step.prune.calibration_examples or DEFAULT_EXAMPLES)
        batches = [batch.to(source.device) for batch in examples]
        gone = remove_parts(source.task, model.to(source.device), step.prune, batches)
        model.cpu().save_pretrained(str(target))
        return f"Taken out, as what matters least on {len(batches)} training examples: {gone}."
    layers = list(named_linear_layers(model, source.task.heads).values())
    prune_layers(layers, step.prune)
    model.save_pretrained(str(target))
    zeroes = sum(int((layer.weight == 0).sum()) for layer in layers)
    share = zeroes / sum(layer.weight.numel() for layer in layers)
    how = "the two smallest of each four" if step.prune.pattern == "TwoOfFour" else "the smallest over all layers"
    return f"Pruned by magnitude: {share:.1%} of the weights of {len(layers)} linear layers are zero ({how})."


def prune_layers(layers: list[nn.Linear], wanted: Prune) -> None:
    """In place."""
    from torch.nn.utils import prune as pruning

    if wanted.pattern == "Unstructured":
        chosen = [(layer, "weight") for layer in layers]
        amount = wanted.sparsity or DEFAULT_SPARSITY
        pruning.global_unstructured(chosen, pruning_method=pruning.L1Unstructured, amount=amount)
        for layer in layers:
            pruning.remove(layer, "weight")
        return
    for layer in layers:
        with torch.no_grad():
            fours = layer.weight.view(layer.out_features, -1, 4)
            smallest = fours.abs().topk(2, dim=-1, largest=False).indices
            fours.scatter_(-1, smallest, 0.0)


def quantize(step: PostprocessStep, source: Source, target: Path) -> str:
    """config.json tells transformers how to read it again."""
    assert step.quantize is not None
    if step.quantize.scheme in FOUR_BITS:
        return _quantize_to_4_bits(step.quantize, source, target)
    return _quantize_to_8_bits(step.quantize, source, target)


def _quantize_to_8_bits(wanted: Quantize, source: Source, target: Path) -> str:
    config = TorchAoConfig(quant_type=torchao_config(wanted))
    options = {"quantization_config": config, "dtype": torch.float32, "local_files_only": True}
    options["trust_remote_code"] = source.trust_remote_code
    model = source.task.model_class.from_pretrained(str(source.folder), **options).eval()
    count = sum(_is_quantized(module) for module in model.modules())
    model.save_pretrained(str(target))
    return f"{count} linear layers are held in 8 bits ({wanted.scheme}, torchao)."


def _quantize_to_4_bits(wanted: Quantize, source: Source, target: Path) -> str:
    model = source.whole_model().to(source.device)
    layers = named_linear_layers(model, source.task.heads)
    group, batches = wanted.group_size or DEFAULT_GROUP_SIZE, []
    if wanted.scheme in CALIBRATED:
        batches = source.training_examples(wanted.calibration_examples or DEFAULT_EXAMPLES)
    passes = [partial(source.task.outputs, model, batch.to(source.device)) for batch in batches]
    round_layers(layers, group, passes, scaled=model if wanted.scheme == "Int4Awq" else None)
    save_packed(model.cpu(), layers, group, target)
    how = f"by {wanted.scheme[4:].upper()} on {len(batches)} training examples" if batches else "to the nearest"
    return f"{len(layers)} linear layers are held in 4 bits, {group} weights to a scale, rounded {how}."


def torchao_config(wanted: Quantize) -> Any:
    """torchao's name of the scheme."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig

    return Int8DynamicActivationInt8WeightConfig() if wanted.scheme == "Int8Dynamic" else Int8WeightOnlyConfig()


def onnx(step: PostprocessStep, source: Source, target: Path) -> str:
    """One graph, compared with the model on held-out examples."""
    assert step.onnx is not None
    model = source.whole_model()
    task = source.task.name
    convert = to_onnx_seq2seq if task == "Seq2Seq" else to_onnx_writer if task in ONNX_WRITERS else to_onnx
    difference = convert(source.task, model, source.examples, target, step.onnx.tolerance)
    return f"Converted to ONNX; the greatest difference of a logit was {difference:.1e}."


def tflite(step: PostprocessStep, source: Source, target: Path) -> str:
    """One file for one row at a time, compared with the model on held-out examples."""
    assert step.tflite is not None
    length = source.description.max_length or 1
    model = source.whole_model()
    difference = to_tflite(source.task, model, source.examples, length, target, step.tflite.tolerance)
    return f"Converted to TFLite (LiteRT); the greatest difference of a logit was {difference:.1e}."


def _is_quantized(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and type(module.weight.data).__module__.startswith("torchao.")


STEPS: dict[str, Write] = {
    "average": average,
    "merge": merge,
    "prune": prune,
    "quantize": quantize,
    "onnx": onnx,
    "tflite": tflite,
}
