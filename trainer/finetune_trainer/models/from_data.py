"""A model made from the data: random weights for every user and item, in the layout of a pre-trained one."""

import hashlib
from collections import defaultdict
from pathlib import Path

import orjson

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
    with of_field("dataset.train.source"):
        data = fetch_data(train.source, run)
    key = [str(data), config.model.wire(), config.dataset.columns.wire(), config.training.seed, config.top_k]
    folder = run.scratch / "models" / hashlib.sha256(orjson.dumps(key)).hexdigest()[:16]
    task = Recommendation(config.dataset.columns, config.model.architecture)
    return built_once(folder, lambda target: _make(config, task, data, target))


def _make(config: TrainerConfig, task: Recommendation, data: Path, folder: Path) -> None:
    interactions = [task.interaction(row) for row in read_rows(data, config.dataset.train.format, "train")]
    if not interactions:
        raise DataError(f"dataset.train: {data.name} has no examples")
    assert config.model.architecture is not None
    catalogue = catalogue_of(interactions)
    ratings = [i.rating for i in interactions if i.rating is not None]
    settings = recommender_config(config.model.architecture, catalogue)
    settings.rated, settings.start = bool(ratings), sum(ratings) / len(ratings) if ratings else 0.0
    settings.recommended = config.top_k
    seed_everything(config.training.seed)
    Recommender(settings).save_pretrained(str(folder))
    catalogue.save_pretrained(str(folder))


def catalogue_of(interactions: list[Interaction]) -> Catalogue:
    """Users and items in the order of their names."""
    users = sorted({i.user for i in interactions})
    items = sorted({i.item for i in interactions})
    places = {item: place for place, item in enumerate(items)}
    seen: dict[str, set[int]] = defaultdict(set)
    for interaction in interactions:
        seen[interaction.user].add(places[interaction.item])
    return Catalogue(users, items, [sorted(seen[user]) for user in users])


def recommender_config(architecture: Architecture, catalogue: Catalogue) -> RecommenderConfig:
    """Of the size that the data asks for."""
    users, items = len(catalogue.users), len(catalogue.items)
    if (network := architecture.neural_collaborative_filtering) is not None:
        return RecommenderConfig(users, items, network.factors, network.layers)
    assert architecture.matrix_factorization is not None
    return RecommenderConfig(users, items, architecture.matrix_factorization.factors)
