"""What tasks that compare two completions of one prompt have in common: how pairs become batches."""

from typing import Any

import numpy as np
import torch

from finetune_serving.conversation import prompted_tokens
from finetune_trainer.data.batches import Batch
from finetune_trainer.data.examples import Example
from finetune_trainer.tasks.chat import template_refusals

PAIR = ("chosen", "rejected")


def ids_column(role: str) -> str:
    """The column of a completion's tokens, its prompt included."""
    return f"{role}_ids"


def encoded_completions(example: Example, tokenizer: Any, roles: tuple[str, ...]) -> dict[str, tuple[list[int], int]]:
    """Of each completion: token ids with its prompt before it, and how many of them are the prompt's.

    Raises:
        ConfigurationError, DataError: Turns of a chat, and the model has no template that can write them.
    """
    content = example.content
    encoded = {}
    for role in roles:
        with template_refusals(example.where):
            before, said = prompted_tokens(tokenizer, content["prompt"], content[role])
        encoded[role] = ([*before, *said], len(before))
    return encoded


def stacked_ids(rows: list[np.ndarray], pad: int) -> dict[str, torch.Tensor]:
    """Inputs of the model: ids padded to (rows, longest) and their mask."""
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


Prompted = tuple[np.ndarray, int]
"""Token ids, and how many of them are the prompt's."""


def completions_batch(texts: list[Prompted], pad: int) -> Batch:
    """One completion a row; logits at token t - 1 predict token t of it."""
    inputs = stacked_ids([ids for ids, _ in texts], pad)
    width = inputs["input_ids"].shape[1]
    places = [np.arange(max(1, start), len(ids)) + row * width for row, (ids, start) in enumerate(texts)]
    learnt = torch.from_numpy(np.concatenate(places))
    targets = inputs["input_ids"].flatten()[learnt]
    return Batch(inputs, learnt - 1, targets, {"use_cache": False})
