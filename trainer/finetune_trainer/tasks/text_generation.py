"""Continues a text: plain text, prompt and completion, or chat turns, in any of the usual layouts."""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from peft import TaskType
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_api.dataset import Columns, TextLayout
from finetune_trainer.data.batches import Batch, Collate, generation_batch, packed_batch
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example
from finetune_trainer.data.packing import pack
from finetune_trainer.data.reading import Row
from finetune_trainer.data.rows import RowOfExamples, Rows
from finetune_trainer.errors import DataError
from finetune_trainer.metrics.generation import TokenLoss
from finetune_trainer.tasks.chat import conversation_tokens
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.text_layouts import TextReader, in_form_for
from finetune_trainer.tasks.text_task import TextTask, require_end
from finetune_trainer.tasks.turns import with_last_answer_learnt


class TextGeneration(CrossEntropy, TextTask):
    """Rows of any layout that `TextReader` knows."""

    name = "TextGeneration"
    model_class = AutoModelForCausalLM
    model_types = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    heads = ()
    peft_type = TaskType.CAUSAL_LM

    def __init__(
        self, columns: Columns, packing: bool, layout: TextLayout = "Auto", last_turn_alone: bool = False
    ) -> None:
        self._packing = packing
        self._last_turn_alone = last_turn_alone
        self._reader = TextReader(columns, layout)

    def unpacked(self) -> Self:
        one = copy.copy(self)
        one._packing = False
        return one

    def read(self, row: Row) -> Example:
        return Example(self._reader.read(row), row.where)

    def _in_form(self, example: Example, processor: Any) -> Any:
        content = in_form_for(example.content, processor)
        return with_last_answer_learnt(content) if self._last_turn_alone else content

    def check_tokenizer(self, tokenizer: Any) -> None:
        require_end(tokenizer)

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        contents = [self._in_form(e, processor) for e in examples]
        eos = processor.eos_token_id
        if any(isinstance(content, list | dict) or not isinstance(content[0], str) for content in contents):
            said = zip(contents, examples, strict=True)
            return [learnt_tokens(*conversation_tokens(content, e.where, processor)) for content, e in said]
        if isinstance(contents[0], str):
            return [_ended([], ids, eos) for ids in processor(contents, verbose=False)["input_ids"]]
        prompts = processor([c[0] for c in contents], verbose=False)["input_ids"]
        completions = processor([c[1] for c in contents], add_special_tokens=False, verbose=False)
        return [_ended(p, c, eos) for p, c in zip(prompts, completions["input_ids"], strict=True)]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Keeps the start; an example that loses its end no longer teaches to stop."""
        ids, trained = features.columns["input_ids"], features.columns["trained"]
        return learnt_tokens(ids[:max_length], trained[:max_length])

    def pieces(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> list[Features]:
        """Stretches of about the same length, one after the other: every token is in one of them, and in no other.

        The first token of a piece has nothing before it that it could be predicted from.
        """
        if not _is_plain(in_form_for(example.content, processor)):
            raise DataError(
                f"{example.where}: {features.length} tokens, and dataset.overLength: Split is for plain texts: a piece "
                "of a chat would be an answer without its question. Raise dataset.maxLength, or set Drop or Truncate"
            )
        ids, trained = features.columns["input_ids"], features.columns["trained"]
        count = math.ceil(features.length / max_length)
        cuts = [features.length * number // count for number in range(count + 1)]
        return [learnt_tokens(ids[start:end], trained[start:end]) for start, end in pairwise(cuts)]

    def rows(self, encoded: Encoded, max_length: int) -> Rows:
        if self._packing:
            return pack(np.asarray(encoded.lengths), max_length)
        return Rows.of_one(np.arange(len(encoded)))

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: Sequence[RowOfExamples]) -> Batch:
            if self._packing:
                return packed_batch(encoded, rows, processor.pad_token_id)
            return generation_batch(encoded, [row[0] for row in rows], processor.pad_token_id)

        return collate

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> TokenLoss:
        return TokenLoss()


def _is_plain(content: Any) -> bool:
    """Whether it is a text, or a prompt and its completion as texts."""
    return isinstance(content, str) or (isinstance(content, tuple) and all(isinstance(part, str) for part in content))


def learnt_tokens(ids: Any, trained: Any) -> Features:
    """Token ids, and a flag for each that is learnt; the first has nothing before it to be predicted from."""
    return Features({"input_ids": ids, "trained": trained}, len(ids), sum(trained[1:]))


def _ended(prompt: list[int], completion: list[int], eos: int) -> Features:
    """Prompt masked, completion learnt, exactly one end-of-text token at the end, none after the prompt."""
    if prompt and prompt[-1] == eos:
        prompt = prompt[:-1]
    if not completion or completion[-1] != eos:
        completion = [*completion, eos]
    return learnt_tokens([*prompt, *completion], [False] * len(prompt) + [True] * len(completion))
