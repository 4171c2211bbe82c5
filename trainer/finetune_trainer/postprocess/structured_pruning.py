"""Attention heads, neurons and layers taken out of a model, which gets smaller for it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from finetune_api.pruning import Prune
from finetune_trainer.data.batches import Batch
from finetune_trainer.postprocess.importance import Importance, measured
from finetune_trainer.postprocess.structures import STRUCTURES, Structure, groups_of, kept, without_parts
from finetune_trainer.tasks.task import Task


@dataclass(frozen=True)
class Stack:
    """The layers of a model, which are all alike."""

    name: str
    layers: nn.ModuleList
    structure: Structure

    @classmethod
    def of(cls, model: Any) -> "Stack":
        """The one of the length that the configuration tells."""
        count = model.config.num_hidden_layers
        name, layers = next(
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == count
        )
        return cls(name, layers, STRUCTURES[model.config.model_type])

    def linear(self, layer: int, name: str) -> nn.Linear:
        """One of a layer's."""
        found = self.layers[layer].get_submodule(name)
        assert isinstance(found, nn.Linear)
        return found


def remove_parts(task: Task, model: Any, wanted: Prune, examples: list[Batch]) -> str:
    """In place, the configuration too; says what went. The examples are single ones of the training data.

    Every layer loses as many parts, since config.json has one number for all. All parts are measured in the whole
    model, before the first goes.
    """
    model.eval().requires_grad_(False)
    stack, config = Stack.of(model), model.config
    importance = _importance(task, model, wanted, stack, examples)
    layers = list(range(len(stack.layers)))
    said = []
    if wanted.layers:
        turning = [importance.of_layers[str(layer)] for layer in layers]
        layers = _best(torch.tensor(turning), kept(len(turning), wanted.layers)).tolist()
        said.append(f"{len(turning) - len(layers)} of {len(turning)} layers")
    if wanted.heads:
        groups, stay = groups_of(config), kept(groups_of(config), wanted.heads)
        for layer in layers:
            _keep_heads(stack, layer, _best(importance.of_inputs[f"{layer}.heads"], stay), groups)
        said.append(f"{groups - stay} of {groups} key-value heads of each layer")
    if wanted.neurons:
        neurons, stay = config.intermediate_size, kept(config.intermediate_size, wanted.neurons)
        for layer in layers:
            _keep_neurons(stack, layer, _best(importance.of_inputs[f"{layer}.neurons"], stay))
        said.append(f"{neurons - stay} of {neurons} neurons of each layer")
    model.config = without_parts(config, wanted, list(layers))
    model.set_submodule(stack.name, nn.ModuleList(stack.layers[layer] for layer in layers))
    return ", ".join(said)


def _importance(task: Task, model: Any, wanted: Prune, stack: Stack, examples: list[Batch]) -> Importance:
    places = range(len(stack.layers))
    linears: dict[str, tuple[nn.Linear, int]] = {}
    if wanted.heads:
        groups = groups_of(model.config)
        linears |= {f"{at}.heads": (stack.linear(at, stack.structure.attended), groups) for at in places}
    if wanted.neurons:
        units = model.config.intermediate_size
        linears |= {f"{at}.neurons": (stack.linear(at, stack.structure.narrowing), units) for at in places}
    layers = {str(at): stack.layers[at] for at in places} if wanted.layers else {}
    return measured(linears, layers, [partial(task.loss_sum, model, batch, 0.0) for batch in examples])


def _best(values: Tensor, count: int) -> Tensor:
    """Places of the greatest values, in their order."""
    return values.topk(count).indices.sort().values


def _keep_heads(stack: Stack, layer: int, groups: Tensor, count: int) -> None:
    """A key-value head goes with the queries that share it: they stand next to each other."""
    structure = stack.structure
    for name in (*structure.queries, *structure.keys_and_values):
        linear = stack.linear(layer, name)
        _keep_rows(linear, _spread(groups, linear.out_features // count))
    attended = stack.linear(layer, structure.attended)
    _keep_columns(attended, _spread(groups, attended.in_features // count))


def _keep_neurons(stack: Stack, layer: int, units: Tensor) -> None:
    for name in stack.structure.widening:
        _keep_rows(stack.linear(layer, name), units)
    _keep_columns(stack.linear(layer, stack.structure.narrowing), units)


def _spread(groups: Tensor, size: int) -> Tensor:
    """Places of all members of the groups."""
    return (groups.unsqueeze(1) * size + torch.arange(size, device=groups.device)).flatten()


def _keep_rows(linear: nn.Linear, rows: Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight[rows].clone(), requires_grad=False)
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows].clone(), requires_grad=False)
    linear.out_features = len(rows)


def _keep_columns(linear: nn.Linear, columns: Tensor) -> None:
    linear.weight = nn.Parameter(linear.weight[:, columns].clone(), requires_grad=False)
    linear.in_features = len(columns)
