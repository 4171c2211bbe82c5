"""Where each weight stands between a model's input and its output."""

from collections.abc import Callable

from torch import nn


def layer_prefixes(model: nn.Module) -> list[str]:
    """Names of the model's layers, from the lowest: the members of its outermost module lists that have weights.

    BERT's `encoder.layer.0`, Llama's `model.layers.0`; an encoder's come before a decoder's. A head's own do not count.
    """
    backbone, found = _backbone(model), list[str]()
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or any(_below(name, layer) for layer in found):
            continue
        if not backbone or _below(name, backbone):
            found += [f"{name}.{index}" for index, layer in enumerate(module) if any(True for _ in layer.parameters())]
    return found


def depths(model: nn.Module, layers: list[str]) -> dict[str, int]:
    """Place of every parameter: 0 below the first layer (embeddings), 1 for the lowest layer, one more than there are
    layers above the last (the head).

    What stands between layers counts as the layer that it feeds: the next that the model names, and for embeddings,
    which some models name last, the first of the layers beside them.
    """
    place = {layer: index for index, layer in enumerate(layers, start=1)}
    stacks = _first_places(place)
    backbone, above, result = _backbone(model), len(layers) + 1, dict[str, int]()
    fed = above
    for name in reversed([name for name, _ in model.named_parameters()]):
        inside = next((place[layer] for layer in layers if _below(name, layer)), None)
        if inside is not None:
            result[name] = fed = inside
        elif backbone and not _below(name, backbone):
            result[name] = above
        else:
            beside = max((stack for stack in stacks if _below(name, stack)), key=len, default=None)
            embeds = beside is not None and "embed" in name.removeprefix(beside)
            place_fed = stacks[beside] if beside is not None and embeds else fed
            result[name] = place_fed if place_fed > 1 else 0
    return result


def inside_layers(name: str, layers: list[str]) -> bool:
    """Whether a parameter is part of a layer."""
    return any(_below(name, layer) for layer in layers)


def _first_places(place: dict[str, int]) -> dict[str, int]:
    """The place of the lowest layer in each module that has a list of them."""
    first: dict[str, int] = {}
    for layer, index in place.items():
        first.setdefault(".".join(layer.split(".")[:-2]), index)
    return first


def _backbone(model: nn.Module) -> str:
    """Name of what stands below the head in models of transformers; empty where all of the model may."""
    base: Callable[[], nn.Module] = getattr(model, "get_base_model", lambda: model)
    backbone = getattr(base(), "base_model", base())
    return next((name for name, module in model.named_modules() if module is backbone), "")


def _below(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")
