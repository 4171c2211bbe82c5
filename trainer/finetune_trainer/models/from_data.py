"""A model made from the data: random weights for every user and item, in the layout of a pre-trained one."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from safetensors.torch import save_file

from finetune_api.architecture import Architecture
from finetune_api.trainer_config import TrainerConfig
from finetune_serving.recommender import Catalogue, Recommender, RecommenderConfig
from finetune_trainer.data.cache import built_once
from finetune_trainer.data.reading import read_rows
from finetune_trainer.errors import DataError, of_field
from finetune_trainer.loop.generators import seed_everything
from finetune_trainer.run import Run
from finetune_trainer.sources import fetch_data, fetch_model
from finetune_trainer.tasks.recommendation import Interaction, Recommendation


def base_model(config: TrainerConfig, run: Run) -> Path:
    """The folder of the model to start from: fetched, or made once a node, the same on every node."""
    if config.model.architecture is None:
        return fetch_model(config.model, run)
    train = config.dataset.train
    assert train is not None  # validated
    with of_field("dataset.train.source"):
        data = fetch_data(train.source, run)
    key = [str(data), config.model.wire(), config.dataset.columns.wire(), config.training.seed, config.top_k]
    folder = run.scratch / "models" / hashlib.sha256(orjson.dumps(key)).hexdigest()[:16]
    task = Recommendation(config.dataset.columns, config.model.architecture)
    return built_once(folder, lambda target: _make(config, task, data, target))


def _make(config: TrainerConfig, task: Recommendation, data: Path, folder: Path) -> None:
    assert config.model.architecture is not None
    assert config.dataset.train is not None
    ratings = _Ratings()
    rows = read_rows(data, config.dataset.train.format, "dataset.train")
    catalogue = catalogue_of(ratings.heard(task.interaction(row) for row in rows))
    if not catalogue.users:
        raise DataError(f"dataset.train: {data.name} has no examples")
    settings = recommender_config(config.model.architecture, catalogue)
    settings.rated, settings.start = ratings.count > 0, ratings.total / max(1, ratings.count)
    settings.recommended = config.top_k
    seed_everything(config.training.seed)
    model = Recommender(settings)
    # Its own save_pretrained writes nothing where the process is not rank 0, which another node has.
    model.config.save_pretrained(str(folder))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    catalogue.save_pretrained(str(folder))


@dataclass
class _Ratings:
    """What their mean is made of."""

    count: int = 0
    total: float = 0.0

    def heard(self, interactions: Iterable[Interaction]) -> Iterator[Interaction]:
        """The same interactions, each counted as it passes."""
        for interaction in interactions:
            if interaction.rating is not None:
                self.count, self.total = self.count + 1, self.total + interaction.rating
            yield interaction


def catalogue_of(interactions: Iterable[Interaction]) -> Catalogue:
    """Users and items in the order of their names. While it is made, an interaction takes 8 bytes, beside the names."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    by, of = array("I"), array("I")
    for interaction in interactions:
        by.append(users.setdefault(interaction.user, len(users)))
        of.append(items.setdefault(interaction.item, len(items)))
    pairs = np.unique(_ranks(users)[np.asarray(by)] << 32 | _ranks(items)[np.asarray(of)])
    ends = np.searchsorted(pairs >> 32, np.arange(1, len(users)))
    return Catalogue(sorted(users), sorted(items), [theirs.tolist() for theirs in np.split(pairs & 0xFFFFFFFF, ends)])


def _ranks(names: dict[str, int]) -> np.ndarray:
    """Of each name, by its number: its place among all names in order."""
    ranks = np.empty(len(names), np.int64)
    ranks[[names[name] for name in sorted(names)]] = np.arange(len(names))
    return ranks


def recommender_config(architecture: Architecture, catalogue: Catalogue) -> RecommenderConfig:
    """Of the size that the data asks for."""
    users, items = len(catalogue.users), len(catalogue.items)
    if (network := architecture.neural_collaborative_filtering) is not None:
        return RecommenderConfig(users, items, network.factors, network.layers)
    assert architecture.matrix_factorization is not None
    return RecommenderConfig(users, items, architecture.matrix_factorization.factors)
