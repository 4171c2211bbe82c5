"""Attention over packed rows, text by text.

transformers computes every pair of tokens of a packed row and masks those of different texts; with many short texts in
a row nearly all of that is for nothing. Here each text attends to itself alone: the same result, at a cost that grows
with the texts' lengths instead of the row's.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from finetune_trainer.data.batches import Batch, Collate
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.rows import RowOfExamples

NAME = "sdpa_by_segment"
SEGMENT_ENDS = "cu_seq_lens_q"
"""Of all rows of a batch laid end to end, with a 0 before the first: transformers' own name for it."""
LONGEST = "max_length_q"
OTHERWISE = ("sliding_window", "softcap", "position_bias", "s_aux", "cache")
"""Arguments of a layer whose attention is of another kind; it is left to transformers."""

Heads = tuple[Tensor, Tensor, Tensor]
"""Query, key and value: (tokens, heads, width) each, all rows end to end."""


def attend_by_segment(model: Any, collate: Collate) -> Collate:
    """Lets a decoder do so, and the batches of `collate` say where texts end, when they are packed.

    Layers that do not pass the arguments on, evaluation and generation take masks as before. So does a model whose
    attention is not PyTorch's own: eager, or flash attention, which knows packed rows itself.
    """
    model = model.get_base_model() if hasattr(model, "peft_config") else model
    if model.config._attn_implementation != "sdpa" or not type(model)._can_set_attn_implementation():
        return collate
    AttentionInterface.register(NAME, segment_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)

    def collated(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
        return with_segments(collate(encoded, rows))

    return collated


def with_segments(batch: Batch) -> Batch:
    """The batch with the ends of its texts, where it is packed: positions that start anew tell them."""
    places = batch.inputs.get("position_ids")
    if places is None:
        return batch
    starts = torch.nonzero(places.flatten() == 0).flatten()
    ends = torch.cat([starts, torch.tensor([places.numel()])])
    options = {**batch.options, LONGEST: int(ends.diff().max())}
    return replace(batch, inputs={**batch.inputs, SEGMENT_ENDS: ends.to(torch.int32)}, options=options)


def segment_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One layer's attention; query, key and value are (rows, heads, row length, width of a head)."""
    ends = kwargs.get(SEGMENT_ENDS)
    if (
        ends is None
        or any(kwargs.get(name) is not None for name in OTHERWISE)
        or not _has_kernel(query, value, dropout)
    ):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    flat: Heads = tuple(tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value))  # type: ignore[assignment]
    if query.is_cuda:
        longest, grouped = kwargs[LONGEST], query.shape[1] != key.shape[1]
        causal = (-1, 0)
        joined: Any = varlen_attn(
            *flat, ends, ends, longest, longest, scale=scaling, window_size=causal, enable_gqa=grouped
        )
    else:
        joined = _each(flat, ends.diff().tolist(), query.shape[1] // key.shape[1], dropout, scaling)
    return joined.unflatten(0, (query.shape[0], query.shape[2])), None


def _has_kernel(query: Tensor, value: Tensor, dropout: float) -> bool:
    """On a GPU, one launch a text would cost more than the masks: only its kernel for many texts at once is used."""
    if not query.is_cuda:
        return True
    fits = query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] == value.shape[-1] <= 256
    return fits and not dropout and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _each(flat: Heads, lengths: list[int], groups: int, dropout: float, scaling: float | None) -> Tensor:
    # split and cat: the gradient of a slice would be zeros of the whole size, once a text.
    query, key, value = (tensor.split(lengths) for tensor in flat)
    texts = zip(query, key, value, strict=True)
    return torch.cat([_one(text, groups, dropout, scaling) for text in texts])


def _one(text: Heads, groups: int, dropout: float, scaling: float | None) -> Tensor:
    query, key, value = (tensor.transpose(0, 1).unsqueeze(0) for tensor in text)
    attended = functional.scaled_dot_product_attention(
        query, repeat_kv(key, groups), repeat_kv(value, groups), dropout_p=dropout, is_causal=True, scale=scaling
    )
    return attended.squeeze(0).transpose(0, 1)
