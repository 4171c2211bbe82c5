"""A model that rank 0 alone has loaded reaches the others layer by layer, each cut into shards before the next."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from finetune_trainer.ranks import Ranks

T = TypeVar("T")


def without_weights(make: Callable[[], T]) -> T:
    """What `make` makes, whose tensors have shapes alone."""
    with torch.device("meta"):
        return make()


def layers(model: Any) -> list[nn.Module]:
    """The modules that transformers says must stay in one piece: its layers."""
    names = getattr(model, "_no_split_modules", None) or ()
    return [module for module in model.modules() if type(module).__name__ in names]


def arriving(model: nn.Module, device: torch.device, ranks: Ranks) -> Iterator[nn.Module]:
    """Each of the layers, then the model, its tensors on the device; every rank calls it.

    Who iterates shards each before it asks for the next, so a rank holds its shard and one layer; rank 0 also what is
    not yet sent. Parameters stay the same objects.

    Raises:
        RuntimeError: The model that rank 0 loaded has other tensors than the one made of the configuration.
    """
    if ranks.world_size > 1:
        _check({(name, tuple(tensor.shape), tensor.dtype) for _, name, tensor in _tensors(model)}, ranks)
    parts = [*layers(model), model]
    for part, tensors in zip(parts, _by_part(model, parts), strict=True):
        while tensors:  # nothing here keeps what the shards have replaced
            _send(tensors.pop(), device, ranks)
        yield part


def _by_part(model: nn.Module, parts: list[nn.Module]) -> list[list[Tensor]]:
    """What each part holds that none before it does. Tied weights have several names and are there once."""
    place = {id(module): number for number, part in reversed(list(enumerate(parts))) for module in part.modules()}
    found: list[list[Tensor]] = [[] for _ in parts]
    seen: set[int] = set()
    for module, _, tensor in _tensors(model):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[place[id(module)]].append(tensor)
    return found


def _tensors(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Parameters, buffers, and what modules keep as plain attributes or in dictionaries, with whoever holds each."""
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            for key, tensor in (value if isinstance(value, dict) else {name: value}).items():
                if isinstance(tensor, Tensor):
                    yield module, f"{prefix}.{key}", tensor


def _check(own: set[tuple[str, tuple[int, ...], torch.dtype]], ranks: Ranks) -> None:
    strangers = own ^ ranks.broadcast(own)
    if any(ranks.gather(bool(strangers))):
        raise RuntimeError(f"the ranks have different models: {sorted(map(str, strangers))[:3]}")


def _send(tensor: Tensor, device: torch.device, ranks: Ranks) -> None:
    here = tensor.detach()
    here = torch.empty_like(here, device=device) if here.is_meta else here.to(device).contiguous()
    if ranks.world_size > 1:
        dist.broadcast(here, 0)
    # The broadcast may still know the tensor it was given, and what is swapped must be nobody else's.
    here = nn.Parameter(here, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else here.detach()
    if here.device != tensor.device:
        # In place, so that tied weights stay tied and whoever knows a parameter goes on knowing it.
        torch.utils.swap_tensors(tensor, here)
