"""Continues a text: plain text, prompt and completion, or chat turns."""

from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM

from finetune_api.dataset import Columns
from finetune_trainer.data.batches import Batch, generation_batch, packed_batch
from finetune_trainer.data.encoded import Encoded
from finetune_trainer.data.examples import Example, column, text_column
from finetune_trainer.data.packing import pack
from finetune_trainer.data.reading import Row
from finetune_trainer.data.split import Parts
from finetune_trainer.errors import ConfigurationError, DataError
from finetune_trainer.metrics.generation import TokenLoss
from finetune_trainer.tasks.chat import chat_tokens, check_turns
from finetune_trainer.tasks.task import Tokens


class TextGeneration:
    """Columns `messages`, or `prompt` and `completion`, or `text`, whichever the first row has."""

    name = "TextGeneration"
    model_class = AutoModelForCausalLM

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

    def labels(self, parts: Parts) -> list[str]:
        return []

    def check_tokenizer(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigurationError(
                "model.source: the tokenizer has no end-of-text token, so the model would never learn to stop; "
                "set eos_token in its tokenizer_config.json"
            )

    def tokenise(self, examples: list[Example], tokenizer: Any) -> list[Tokens]:
        if self._form == "messages":
            return [chat_tokens(e, tokenizer) for e in examples]
        if self._form == "text":
            texts = tokenizer([e.content for e in examples], verbose=False)["input_ids"]
            return [_ended([], ids, tokenizer.eos_token_id) for ids in texts]
        prompts = tokenizer([e.content[0] for e in examples], verbose=False)["input_ids"]
        completions = tokenizer([e.content[1] for e in examples], add_special_tokens=False, verbose=False)
        eos = tokenizer.eos_token_id
        return [_ended(p, c, eos) for p, c in zip(prompts, completions["input_ids"], strict=True)]

    def truncate(self, example: Example, tokens: Tokens, tokenizer: Any, max_length: int) -> Tokens:
        """Keeps the start; an example that loses its end no longer teaches to stop."""
        assert tokens.trained is not None
        return Tokens(tokens.ids[:max_length], tokens.trained[:max_length])

    def rows(self, encoded: Encoded, max_length: int) -> list[list[int]]:
        if self._packing:
            return pack(np.asarray(encoded.lengths), max_length)
        return [[index] for index in range(len(encoded))]

    def batch(self, encoded: Encoded, rows: list[list[int]], pad: int) -> Batch:
        if self._packing:
            return packed_batch(encoded, rows, pad)
        return generation_batch(encoded, [row[0] for row in rows], pad)

    def scores(self, labels: list[str]) -> TokenLoss:
        return TokenLoss()


def _form_asked_for(columns: Columns) -> str | None:
    if columns.messages:
        return "messages"
    if columns.prompt or columns.completion:
        return "completion"
    return "text" if columns.text else None


def _ended(prompt: list[int], completion: list[int], eos: int) -> Tokens:
    """Prompt masked, completion learnt, exactly one end-of-text token at the end, none after the prompt."""
    if prompt and prompt[-1] == eos:
        prompt = prompt[:-1]
    if not completion or completion[-1] != eos:
        completion = [*completion, eos]
    return Tokens([*prompt, *completion], [0] * len(prompt) + [1] * len(completion))
