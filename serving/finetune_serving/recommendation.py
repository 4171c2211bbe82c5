"""Recommending items to users."""

from collections.abc import Sequence

import orjson
import torch

from finetune_serving.loading import LoadedModel
from finetune_serving.prediction import BadInput, Row, Tensor
from finetune_serving.recommender import every_item

USER_INPUT = "user"
Recommended = list[dict[str, str | float]]


class ItemRecommender:
    """The best items that a user has not had yet, best first."""

    inputs = (USER_INPUT,)

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self._catalogue = loaded.processor
        self._places = {user: place for place, user in enumerate(self._catalogue.users)}
        self.warm_up: Row = {USER_INPUT: self._catalogue.users[0]}

    def encode(self, rows: Sequence[Row], truncate: bool = False) -> list[int]:
        return [self._place(row[USER_INPUT], index) for index, row in enumerate(rows)]

    def _place(self, user: str, index: int) -> int:
        if user not in self._places:
            raise BadInput(
                index,
                USER_INPUT,
                f"{user!r} is none of the users that the model was trained on; train it on newer data",
            )
        return self._places[user]

    @torch.inference_mode()
    def predict(self, encodings: Sequence[int]) -> list[Recommended]:
        users = torch.tensor(encodings, device=self._model.device)
        scores = every_item(self._model, users).float()
        if not self._model.config.rated:
            scores = torch.sigmoid(scores)
        for row, user in enumerate(encodings):
            scores[row, self._catalogue.seen[user]] = -torch.inf
        best = scores.topk(min(self._model.config.recommended, scores.shape[1]))
        return [
            [{"item": self._catalogue.items[i], "score": s} for s, i in zip(*row, strict=True) if s > -torch.inf]
            for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def outputs(self, predictions: Sequence[Recommended]) -> dict[str, Tensor]:
        lists = [orjson.dumps(prediction).decode() for prediction in predictions]
        return {"items": {"datatype": "BYTES", "shape": [len(lists)], "data": lists}}
