"""The mean of models that were trained from one base (model soups, Wortsman et al. 2022, arXiv:2203.05482)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from finetune_api.metrics import better
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.postprocess.averaging import Mean
from finetune_trainer.postprocess.members import Member
from finetune_trainer.postprocess.source import Source

OWN = "this training"
LEAST_COSINE = 0.5
"""Of the weights of two models from one base. Fine-tuning turns weights by little; those of models that were trained by
themselves are at right angles."""


@dataclass(frozen=True)
class Tasted:
    """An ingredient, and how good it is by itself."""

    name: str
    source: Source
    value: float


def uniform(source: Source) -> tuple[Any, list[str]]:
    """The mean of this training's model and all others, and their names. The host holds three models at a time.

    Raises:
        ConfigurationError: One was trained from another base.
    """
    mean, names, model = Mean(), [], None
    for name, ingredient in _ingredients(source):
        model = _whole(ingredient)
        mean.add(model)
        names.append(name)
    return mean.put_into(model), names


def greedy(source: Source, metric: str) -> tuple[Any, list[str]]:
    """The same, of those that make the mean no worse on validation data when they come, best first (recipe 1).

    Raises:
        ConfigurationError: One was trained from another base, or the data does not allow the metric.
    """

    def value(model: Any) -> float:
        values = source.validate(model)
        if metric not in values:
            raise ConfigurationError(
                f"postprocess[0].average.greedyBy: {metric} cannot be computed on this validation data; name another "
                f"metric, such as {', '.join(sorted(values))}"
            )
        return values[metric]

    tasted = [Tasted(name, one, value(_whole(one))) for name, one in _ingredients(source)]
    sign = 1 if better(metric, 1.0, 0.0) else -1
    best, *others = sorted(tasted, key=lambda one: -sign * one.value)
    model = _whole(best.source)
    soup, reached, names = Mean().add(model), best.value, [best.name]
    for one in others:
        candidate = soup.copy().add(_whole(one.source))
        found = value(candidate.put_into(model))
        if not better(metric, reached, found):
            soup, reached = candidate, found
            names.append(one.name)
    return soup.put_into(model), names


def _ingredients(source: Source) -> Iterator[tuple[str, Source]]:
    """This training's own model first; the others are compared with it."""
    yield OWN, source
    own = _directions(_whole(source), source)
    for member in source.members:
        ingredient = replace(source, folder=member.folder, description=member.description)
        _check_direction(own, _directions(_whole(ingredient), source), member)
        yield member.uri, ingredient


def _whole(source: Source) -> Any:
    return source.merged_model() if source.description.format == "Adapter" else source.whole_model()


def _directions(model: Any, source: Source) -> dict[str, Tensor]:
    """Matrices of the pre-trained part."""
    heads = set(source.task.heads)
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if tensor.dim() > 1 and not heads & set(name.split("."))
    }


def _check_direction(own: dict[str, Tensor], other: dict[str, Tensor], member: Member) -> None:
    products = sum(float((own[name] * other[name]).sum()) for name in own)
    lengths = [sum(float(tensor.square().sum()) for tensor in part.values()) for part in (own, other)]
    cosine = products / max((lengths[0] * lengths[1]) ** 0.5, 1e-30)
    if cosine < LEAST_COSINE:
        raise ConfigurationError(
            f"{member.path}: {member.uri} was not trained from the base of this job: the cosine of their weights is "
            f"{cosine:.2f}, at least {LEAST_COSINE} within a family; the mean of the two would be no model. Remove it"
        )
