"""Collaborative filtering models, and the users and items that they know. Trainer and server share them."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

MODEL_TYPE = "finetune-recommender"
CATALOGUE_FILE = "catalogue.json"
AT_ONCE = 65_536
"""Pairs of user and item that are scored together."""


@dataclass(frozen=True)
class Catalogue:
    """Names of users and items, in the order of the model's vectors."""

    users: list[str]
    items: list[str]
    seen: list[list[int]]
    """Items of each user that the data has: not recommended again."""

    def save_pretrained(self, folder: str) -> None:
        """As one JSON file."""
        (Path(folder) / CATALOGUE_FILE).write_bytes(orjson.dumps(self.to_dict()))

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """The inverse."""
        return cls(**orjson.loads((folder / CATALOGUE_FILE).read_bytes()))

    def to_dict(self) -> dict[str, Any]:
        """What makes one catalogue another."""
        return {"users": self.users, "items": self.items, "seen": self.seen}


class RecommenderConfig(PretrainedConfig):
    """`layers` empty: matrix factorisation, which has no dropout. `recommended`: how many items make an answer."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        user_count: int = 1,
        item_count: int = 1,
        factors: int = 32,
        layers: list[int] | None = None,
        rated: bool = False,
        start: float = 0.0,
        dropout: float = 0.0,
        recommended: int = 10,
        **options: Any,
    ) -> None:
        self.user_count = user_count
        self.item_count = item_count
        self.factors = factors
        self.layers = layers or []
        self.rated = rated
        self.start = start
        self.recommended = recommended
        if self.layers:
            self.dropout = dropout
        super().__init__(**options)


class Recommender(PreTrainedModel):
    """The score of a pair: the bias of both, the product of their vectors, and what a network makes of two others."""

    config_class = RecommenderConfig
    main_input_name = "users"

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__(config)
        self.users = nn.Embedding(config.user_count, config.factors)
        self.items = nn.Embedding(config.item_count, config.factors)
        self.user_bias = nn.Embedding(config.user_count, 1)
        self.item_bias = nn.Embedding(config.item_count, 1)
        self.bias = nn.Parameter(torch.full((), float(config.start)))
        self.network = _Network(config) if config.layers else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.0 if module.embedding_dim == 1 else 0.1)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, Recommender):
            nn.init.constant_(module.bias, self.config.start)

    def forward(self, users: Tensor, items: Tensor) -> SequenceClassifierOutput:
        """`users` (rows), `items` (rows, choices); logits (rows, choices)."""
        mine = self.users(users).unsqueeze(1)
        scores = (mine * self.items(items)).sum(dim=-1) + self.user_bias(users) + self.item_bias(items).squeeze(-1)
        if self.network is not None:
            scores = scores + self.network(users, items)
        return SequenceClassifierOutput(logits=scores + self.bias)


def every_item(model: Any, users: Tensor) -> Tensor:
    """Scores of all items by a recommender or what it was converted to, (users, items), in parts that memory bears."""
    everything = torch.arange(model.config.item_count, device=users.device)
    parts = everything.split(max(1, AT_ONCE // max(1, len(users))))
    return torch.cat([model(users=users, items=part.expand(len(users), -1)).logits for part in parts], dim=1)


class _Network(nn.Module):
    """The perceptron of NeuMF, with vectors of its own."""

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        half = config.layers[0] // 2
        self.users = nn.Embedding(config.user_count, half)
        self.items = nn.Embedding(config.item_count, half)
        widths = [2 * half, *config.layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(widths[-1], 1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        theirs = self.items(items)
        hidden = torch.cat([self.users(users).unsqueeze(1).expand_as(theirs), theirs], dim=-1)
        for layer in self.layers:
            hidden = self.dropout(torch.relu(layer(hidden)))
        scores: Tensor = self.output(hidden).squeeze(-1)
        return scores


AutoConfig.register(MODEL_TYPE, RecommenderConfig)
AutoModel.register(RecommenderConfig, Recommender)
