"""Continues a text: plain text, prompt and completion, or chat turns."""

from typing import Any

import numpy as np
from peft import TaskType
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, Collate, generation_batch, packed_batch
from finetune_trainer.data.encoded import Encoded, Features
from finetune_trainer.data.examples import Example, column, text_column
from finetune_trainer.data.packing import pack
from finetune_trainer.data.reading import Row
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.generation import TokenLoss
from finetune_trainer.tasks.chat import chat_tokens, check_turns
from finetune_trainer.tasks.cross_entropy import CrossEntropy
from finetune_trainer.tasks.text_task import TextTask


class TextGeneration(CrossEntropy, TextTask):
    """Columns `messages`, or `prompt` and `completion`, or `text`, whichever the first row has."""

    name = "TextGeneration"
    model_class = AutoModelForCausalLM
    model_types = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    heads = ()
    peft_type = TaskType.CAUSAL_LM

    def __init__(self, columns: Columns, packing: bool) -> None:
        self._columns = columns
        self._packing = packing
        self._form: str | None = _form_asked_for(columns)

    def read(self, row: Row) -> Example:
        self._form = self._form or self._form_of(row)
        return Example(self._content(row, self._form), row.where)

    def _content(self, row: Row, form: str) -> Any:
        if form == "text":
            return text_column(row, self._columns.text or "text", "dataset.columns.text")
        if form == "messages":
            name = self._columns.messages or "messages"
            return check_turns(column(row, name, "dataset.columns.messages"), row.where, name)
        return (
            text_column(row, self._columns.prompt or "prompt", "dataset.columns.prompt"),
            text_column(row, self._columns.completion or "completion", "dataset.columns.completion"),
        )

    def _form_of(self, row: Row) -> str:
        for form, needed in (
            ("messages", ["messages"]),
            ("completion", ["prompt", "completion"]),
            ("text", ["text"]),
        ):
            if all(name in row.values for name in needed):
                return form
        there = ", ".join(row.values) or "none"
        raise DataError(
            f"{row.where}: none of the columns messages, prompt and completion, or text; the columns are: {there}. "
            "Set dataset.columns.text, .prompt and .completion, or .messages"
        )

    def check_tokenizer(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigurationError(
                "model.source: the tokenizer has no end-of-text token, so the model would never learn to stop; "
                "set eos_token in its tokenizer_config.json"
            )

    def encode(self, examples: list[Example], processor: Any, labels: list[str]) -> list[Features]:
        if self._form == "messages":
            return [learnt_tokens(*chat_tokens(e, processor)) for e in examples]
        if self._form == "text":
            texts = processor([e.content for e in examples], verbose=False)["input_ids"]
            return [_ended([], ids, processor.eos_token_id) for ids in texts]
        prompts = processor([e.content[0] for e in examples], verbose=False)["input_ids"]
        completions = processor([e.content[1] for e in examples], add_special_tokens=False, verbose=False)
        eos = processor.eos_token_id
        return [_ended(p, c, eos) for p, c in zip(prompts, completions["input_ids"], strict=True)]

    def truncate(
        self, example: Example, features: Features, processor: Any, labels: list[str], max_length: int
    ) -> Features:
        """Keeps the start; an example that loses its end no longer teaches to stop."""
        ids, trained = features.columns["input_ids"], features.columns["trained"]
        return learnt_tokens(ids[:max_length], trained[:max_length])

    def rows(self, encoded: Encoded, max_length: int) -> list[list[int]]:
        if self._packing:
            return pack(np.asarray(encoded.lengths), max_length)
        return [[index] for index in range(len(encoded))]

    def collator(self, processor: Any) -> Collate:
        def collate(encoded: Encoded, rows: list[list[int]]) -> Batch:
            if self._packing:
                return packed_batch(encoded, rows, processor.pad_token_id)
            return generation_batch(encoded, [row[0] for row in rows], processor.pad_token_id)

        return collate

    def scores(self, labels: list[str], processor: Any, encoded: Encoded) -> TokenLoss:
        return TokenLoss()


def learnt_tokens(ids: Any, trained: Any) -> Features:
    """Token ids, and a flag for each that is learnt; the first has nothing before it to be predicted from."""
    return Features({"input_ids": ids, "trained": trained}, len(ids), sum(trained[1:]))


def _form_asked_for(columns: Columns) -> str | None:
    if columns.messages:
        return "messages"
    if columns.prompt or columns.completion:
        return "completion"
    return "text" if columns.text else None


def _ended(prompt: list[int], completion: list[int], eos: int) -> Features:
    """Prompt masked, completion learnt, exactly one end-of-text token at the end, none after the prompt."""
    if prompt and prompt[-1] == eos:
        prompt = prompt[:-1]
    if not completion or completion[-1] != eos:
        completion = [*completion, eos]
    return learnt_tokens([*prompt, *completion], [False] * len(prompt) + [True] * len(completion))
