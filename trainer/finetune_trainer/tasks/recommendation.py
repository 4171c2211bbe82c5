"""Which items a user wants, from what users have rated or used so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import TaskType
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from finetune_api.architecture import Architecture
from finetune_api.dataset import Columns
from finetune_api.metrics import DEFAULT_TOP_K
from finetune_serving.recommender import MODEL_TYPE, Catalogue, every_item
from finetune_trainer.data.batches import AlteringCollate, Batch, Collate, Draws
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example, column, label_column
from finetune_trainer.data.parts import Parts
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples, Rows
from finetune_trainer.errors import DataError
from finetune_trainer.metrics.recommendations import RankScores, RatingScores
from finetune_trainer.metrics.scores import Scores


@dataclass(frozen=True)
class Interaction:
    """A user and an item, and what the one thinks of the other."""

    user: str
    item: str
    rating: float | None


class Recommendation:
    """Columns `user` and `item`, and a column of ratings where the job names one."""

    name = "Recommendation"
    unit = "interactions"
    reads_files = False
    model_class = AutoModel
    model_types = (MODEL_TYPE,)
    heads: tuple[str, ...] = ()
    peft_type: TaskType | None = None

    def __init__(self, columns: Columns, architecture: Architecture, top_k: int = DEFAULT_TOP_K) -> None:
        self._top_k = top_k
        self._user, self._item = columns.user or "user", columns.item or "item"
        self._rating = columns.rating
        self._negatives = architecture.negatives

    def load_processor(self, folder: Path, trust_remote_code: bool = False) -> Catalogue:
        return Catalogue.load(folder)

    def interaction(self, row: Row) -> Interaction:
        """What a row says. Raises DataError naming the row."""
        user = label_column(row, self._user, "dataset.columns.user")
        item = label_column(row, self._item, "dataset.columns.item")
        return Interaction(user, item, self._rating_of(row) if self._rating else None)

    def _rating_of(self, row: Row) -> float:
        value = column(row, str(self._rating), "dataset.columns.rating")
        try:
            rating = float(value)
        except (TypeError, ValueError):
            rating = float("nan")
        if isinstance(value, bool) or not np.isfinite(rating):
            raise DataError(f"{row.where}: column {self._rating!r} holds {value!r}; a rating is a number")
        return rating

    def read(self, row: Row) -> Example:
        found = self.interaction(row)
        rating = None if found.rating is None else f"{found.rating:g}"
        return Example([found.user, found.item], row.where, label=rating, target=found, group=found.user)

    def labels(self, parts: Parts) -> list[str]:
        """None; every user and item that is held out must have been trained on."""
        users = {e.target.user for e in parts.train}
        items = {e.target.item for e in parts.train}
        for example in (*parts.validation, *parts.test):
            for kind, name, known in (("user", example.target.user, users), ("item", example.target.item, items)):
                if name not in known:
                    raise DataError(
                        f"{example.where}: the {kind} {name!r} is in no training row, so the model cannot know it; "
                        "remove the row, or hold out with dataset.split.leaveOneOut"
                    )
        return []

    def encode(self, examples: list[Example], processor: Catalogue, labels: list[str]) -> list[Features]:
        users = {user: place for place, user in enumerate(processor.users)}
        items = {item: place for place, item in enumerate(processor.items)}
        return [
            Features(
                {
                    "user": [users[e.target.user]],
                    "item": [items[e.target.item]],
                    "rating": [1.0 if e.target.rating is None else e.target.rating],
                },
                1,
            )
            for e in examples
        ]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """An interaction has the length 1, so this never happens."""
        return features

    def configure(self, config: Any, processor: Any, labels: list[str]) -> None:
        """The model was made for this very data."""

    def rows(self, encoded: Encoded, max_length: int) -> Rows:
        return Rows.of_one(np.arange(len(encoded)))

    def collator(self, processor: Catalogue) -> Collate:
        """Without ratings, with the items that a user has had: to be passed over in the ranking."""

        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            batch = self._batch(encoded, rows, [])
            if self._rating:
                return batch
            seen = torch.zeros(len(rows), len(processor.items), dtype=torch.bool)
            for row, user in enumerate(batch.inputs["users"].tolist()):
                seen[row, processor.seen[user]] = True
            batch.extras["seen"] = seen
            return batch

        return collate

    def altering_collator(self, processor: Catalogue) -> AlteringCollate | None:
        """Without ratings, with other items drawn beside each. Held-out ones among them: to spare those would leak."""
        if self._rating:
            return None
        count = len(processor.items)

        def collate(encoded: Encoded, rows: Sequence[RowOfExamples], draws: Sequence[Draws]) -> Batch:
            drawn = [generator.integers(1, max(2, count), self._negatives) for generator in draws if generator]
            return self._batch(encoded, rows, drawn, count)

        return collate

    def _batch(self, encoded: Encoded, rows: Sequence[RowOfExamples], drawn: list[np.ndarray], count: int = 1) -> Batch:
        def of(name: str) -> np.ndarray:
            return np.asarray([encoded[name][row[0]][0] for row in rows])

        items = of("item").astype(np.int64)[:, None]
        if drawn:
            # Steps from the item itself, around the catalogue: any other item, and never the same.
            items = np.concatenate([items, (items + np.stack(drawn)) % count], axis=1)
        inputs = {"users": torch.from_numpy(of("user").astype(np.int64)), "items": torch.from_numpy(items)}
        ratings = torch.from_numpy(of("rating").astype(np.float32))
        return Batch(inputs, torch.arange(len(rows)), ratings)

    def outputs(self, model: Any, batch: Batch) -> Tensor:
        logits: Tensor = model(**batch.inputs).logits
        return logits

    def loss_sum(self, model: Any, batch: Batch, label_smoothing: float) -> Tensor:
        """Squared errors of ratings; else logistic losses, the mean over an item and those drawn beside it."""
        scores = self.outputs(model, batch).float()
        if self._rating:
            return functional.mse_loss(scores[:, 0], batch.targets, reduction="sum")
        wanted = torch.zeros_like(scores)
        wanted[:, 0] = 1.0
        return functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none").mean(dim=1).sum()

    def predictions(self, model: Any, batch: Batch) -> Tensor:
        """The rating, or the place of the item among all that the user has not had, from 1."""
        if self._rating:
            return self.outputs(model, batch)[:, 0].float()
        scores = every_item(model, batch.inputs["users"]).float()
        own = scores.gather(1, batch.inputs["items"])
        others = ~batch.extras["seen"]
        # Equal scores count half: a model that likes everything alike is in the middle.
        return 1 + ((scores > own) & others).sum(dim=1) + ((scores == own) & others).sum(dim=1) / 2

    def scores(self, labels: list[str], processor: Catalogue, encoded: Encoded) -> Scores:
        return RatingScores() if self._rating else RankScores(len(processor.items), self._top_k)
