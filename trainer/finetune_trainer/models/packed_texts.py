"""Tries out whether a model keeps the texts of a packed row apart.

transformers tells them by positions that start anew, and only models that build their masks of positions notice:
Bloom, Falcon, MPT, OPT and all that carry a state from token to token let each text see those before it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded, Features, encode
from finetune_trainer.errors import ConfigurationError
from finetune_trainer.ranks import Ranks

LENGTH = 8
LEAK = 0.1
"""Of what the first text does to the second as one text with it. Rounding stays far below, a leak of one kind of layer
among several far above, in any precision and for any size of the weights."""
EXAMPLES = 100
UNCACHED = {"use_cache": False}


def check_packing(model: Any, data: Encoded, collates: tuple[Collate, ...], device: torch.device, ranks: Ranks) -> None:
    """Each of `collates` packs as some part of the run does; rank 0, which has the weights, tries them out.

    Raises:
        ConfigurationError: One text of a row changes what the model says of the next.
    """
    if ranks.broadcast(any(_leaks(model, data, one, device) for one in collates) if ranks.rank == 0 else None):
        raise ConfigurationError(
            f"training.packing: models of the type {model.config.model_type!r} let the texts of a row see each other; "
            "set it to false: texts of similar length then share batches, so little is padded"
        )


def _leaks(model: Any, data: Encoded, collate: Collate, device: torch.device) -> bool:
    """Two rows that differ in their first text only: as wide as each other, so that both are rounded alike."""
    batch = collate(_texts(data), [[0, 2], [1, 2]])
    places = torch.arange(2 * LENGTH).expand(2, -1)
    as_one = Batch({"input_ids": batch.inputs["input_ids"], "position_ids": places}, places, places, UNCACHED)
    training = model.training
    model.eval()
    with torch.no_grad():
        apart, together = (_difference(model, one.to(device)) for one in (batch, as_one))
    model.train(training)
    return bool(apart > LEAK * together)


def _difference(model: Any, batch: Batch) -> Tensor:
    """Between what is said of the second text in the first row and in the second."""
    logits = model(**batch.inputs, **batch.options).logits[:, LENGTH:].float()
    return torch.linalg.vector_norm(logits[0] - logits[1])


def _texts(data: Encoded) -> Encoded:
    """Two that start a row, and one that goes on, of tokens that the data has."""
    known = np.unique(np.concatenate([data["input_ids"][i] for i in range(min(len(data), EXAMPLES))]))
    texts = [np.resize(known[start::3], LENGTH) for start in range(3)]
    return encode([Features({"input_ids": text, "trained": np.ones(LENGTH, bool)}, LENGTH) for text in texts])
