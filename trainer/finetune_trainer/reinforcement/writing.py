"""Completions that a model in training writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Completions = list[list[int]]
"""Token ids of each, the end token included where it was reached."""


@dataclass(frozen=True)
class Ends:
    """Token ids."""

    ends: list[int]
    """What ends a text: one of these."""
    pad: int
    """What stands where nothing is; perhaps the same."""


def greedy(model: Any, inputs: dict[str, Tensor], max_new_tokens: int, ends: Ends) -> Tensor:
    """The likeliest token each time, (prompts, new tokens), padded."""
    return _written(model, inputs, max_new_tokens, ends, do_sample=False, temperature=None, top_p=None, top_k=None)


def sampled(
    model: Any, inputs: dict[str, Tensor], max_new_tokens: int, ends: Ends, temperature: float, seed: Sequence[int]
) -> Tensor:
    """Drawn from the model's whole distribution, the same for the same seed; no generator of the process moves."""
    device = inputs["input_ids"].device
    mixed = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mixed % 2**63)
        # A model's own settings may cut the choice; what is learnt from must come from what is computed in the loss.
        choice = {"temperature": temperature, "top_p": 1.0, "top_k": 0}
        return _written(model, inputs, max_new_tokens, ends, do_sample=True, **choice)


def _written(model: Any, inputs: dict[str, Tensor], max_new_tokens: int, ends: Ends, **choice: Any) -> Tensor:
    tokens: Tensor = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=ends.ends,
        pad_token_id=ends.pad,
        **choice,
    )
    return tokens[:, inputs["input_ids"].shape[1] :]


def until_end(tokens: Tensor, ends: Sequence[int]) -> Completions:
    """Each row up to its first end token; padding may be the same token."""
    completions = []
    for row in tokens.tolist():
        length = next((place for place, token in enumerate(row, start=1) if token in ends), len(row))
        completions.append(row[:length])
    return completions


def left_padded(prompts: Sequence[np.ndarray], pad: int) -> dict[str, Tensor]:
    """Prompts that end together, as generation needs them."""
    longest = max(map(len, prompts))
    ids = np.full((len(prompts), longest), pad, dtype=np.int64)
    mask = np.zeros((len(prompts), longest), dtype=np.int64)
    for number, prompt in enumerate(prompts):
        ids[number, longest - len(prompt) :] = prompt
        mask[number, longest - len(prompt) :] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
