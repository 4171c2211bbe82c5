"""Completions that a model in training writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftType
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
    behind = _puts_embeddings_before(model)
    writer, given = (model.base_model, behind_learnt_tokens(model, inputs)) if behind else (model, inputs)
    tokens: Tensor = writer.generate(
        **given,
        max_new_tokens=max_new_tokens,
        num_beams=1,
        repetition_penalty=1.0,
        eos_token_id=ends.ends,
        pad_token_id=ends.pad,
        **choice,
    )
    return tokens if behind else tokens[:, inputs["input_ids"].shape[1] :]


def _puts_embeddings_before(model: Any) -> bool:
    """Prompt tuning and P-tuning; a prefix stands in the cache, and has no place among the tokens."""
    adapters = getattr(model, "peft_config", {}).values()
    return any(one.is_prompt_learning and one.peft_type != PeftType.PREFIX_TUNING for one in adapters)


def behind_learnt_tokens(model: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same prompts as embeddings, each right behind the learnt tokens, as it is in the loss.

    PEFT would put them before the padding and leave out the places of tokens, so that each prompt would be continued
    from other places the shorter it is than the longest.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    learnt = model.get_prompt(batch_size=len(ids))
    words = model.word_embeddings(ids)
    count = learnt.shape[1]
    places = torch.arange(count + ids.shape[1], device=ids.device).expand(len(ids), -1)
    padding = (ids.shape[1] - mask.sum(dim=1)).unsqueeze(1)
    # Of learnt tokens, padding and prompt in a row: padding, learnt tokens, prompt.
    order = torch.where(places < padding, places + count, places - padding).where(places < padding + count, places)
    both = torch.cat([learnt.to(words.dtype), words], dim=1)
    embeddings = both.gather(1, order.unsqueeze(-1).expand(-1, -1, both.shape[-1]))
    return {"inputs_embeds": embeddings, "attention_mask": (places >= padding).long()}


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
