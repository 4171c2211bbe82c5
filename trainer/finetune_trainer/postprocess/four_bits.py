"""Linear layers in 4 bits, in the layout of compressed-tensors, which transformers and vLLM read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.awq import scale_channels
from finetune_trainer.postprocess.gptq import by_block, inputs_seen, rounded

DEFAULT_GROUP_SIZE = 128
DEFAULT_EXAMPLES = 128


def check_group_size(layers: dict[str, nn.Linear], group: int, path: str) -> None:
    """Raises ConfigurationError where a layer's inputs are no whole number of groups."""
    for name, layer in layers.items():
        if layer.in_features % group:
            fitting = [size for size in (128, 64, 32) if all(one.in_features % size == 0 for one in layers.values())]
            mend = f"set {fitting[0]}" if fitting else "set scheme to Int8WeightOnly, which has no groups"
            raise ConfigurationError(
                f"{path}.groupSize: {layer.in_features} inputs of the layer {name} are no multiple of {group}; {mend}"
            )


def round_layers(
    layers: dict[str, nn.Linear],
    group: int,
    passes: Sequence[Callable[[], Any]],
    scaled: nn.Module | None = None,
) -> None:
    """Each weight becomes values that 4 bits hold, with `weight_scale` beside it, (rows, columns / group).

    With forward passes by GPTQ, block by block, each block seeing what the rounded ones before it give; without any
    to the nearest. With the model that the layers are of as `scaled`, to the nearest after AWQ has scaled them.
    """
    for block in by_block(layers):
        seen = inputs_seen(block, passes) if passes else {}
        if scaled is not None:
            scale_channels(scaled, block, seen, lambda weight: _rounded_alone(weight, group)[0])
        for name, layer in block.items():
            with torch.no_grad():
                weight = layer.weight.float()
                by_columns = passes and scaled is None
                values, scales = (
                    rounded(weight, seen[name], group, _scale, _nearest)
                    if by_columns
                    else _rounded_alone(weight, group)
                )
                layer.weight.copy_(values)
            layer.register_parameter("weight_scale", nn.Parameter(scales, requires_grad=False))


def _rounded_alone(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    groups = weight.view(-1, group)
    scales = _scale(groups)
    return _nearest(groups, scales).view_as(weight), scales.view(len(weight), -1)


def save_packed(model: Any, layers: dict[str, nn.Linear], group: int, folder: Path) -> None:
    """Packs the rounded layers, eight weights in 32 bits, and writes the model.

    config.json names the layers that were left as they are, so every other linear layer must be among `layers`.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme, QuantizationStatus

    scheme = QuantizationScheme(targets=["Linear"], weights=_arguments(group), format="pack-quantized")
    for layer in layers.values():
        layer.quantization_scheme = scheme
        layer.quantization_status = QuantizationStatus.FROZEN
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    config = QuantizationConfig(
        config_groups={"linear": scheme}, ignore=sorted(linear - set(layers)), format="pack-quantized"
    )
    compressor = ModelCompressor(config, None, "pack-quantized")
    compressor.compress_model(model)
    model.save_pretrained(str(folder))
    compressor.update_config(str(folder))


def _arguments(group: int) -> Any:
    from compressed_tensors.quantization import QuantizationArgs

    return QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=group)


def _scale(weights: Tensor) -> Tensor:
    """As compressed-tensors does: the greatest weight is 7.5 steps from zero."""
    return (weights.abs().amax(dim=1, keepdim=True) / 7.5).clamp_min(torch.finfo(torch.float32).tiny)


def _nearest(weights: Tensor, scales: Tensor) -> Tensor:
    return (weights / scales).round().clamp(-8, 7) * scales
