"""Where each weight stands between a model's input and its output."""

from torch import nn


def layer_prefixes(model: nn.Module) -> list[str]:
    """Names of the model's layers, from the lowest: the members of its outermost module lists that have weights.

    BERT's `encoder.layer.0`, Llama's `model.layers.0`; an encoder's come before a decoder's.
    """
    found: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(_below(name, layer) for layer in found):
            continue
        found += [f"{name}.{index}" for index, layer in enumerate(module) if any(True for _ in layer.parameters())]
    return found


def depths(model: nn.Module, layers: list[str]) -> dict[str, int]:
    """Place of every parameter: 0 below the first layer (embeddings), 1 for the lowest layer, one more than there are
    layers above the last (the head)."""
    place = {layer: index for index, layer in enumerate(layers, start=1)}
    result: dict[str, int] = {}
    above = False
    for name, _ in model.named_parameters():
        depth = next((place[layer] for layer in layers if _below(name, layer)), None)
        above = above or depth is not None
        result[name] = depth if depth is not None else (len(layers) + 1 if above else 0)
    return result


def _below(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")
